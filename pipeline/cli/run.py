"""Find every person in images, with box, mask and pose.

INPUT is any number of images, directories (searched recursively), glob patterns and list files
(@FILE, or FILE.txt / FILE.lst: one input per line, relative to the list, # starts a comment line).
Put inputs before options that take several values. Results and formats:
docs/user_guide/command_line.md.

Examples:
    python tools/run_bmp.py --demo
    python tools/run_bmp.py photos/ --out-dir outputs/mine --save json coco overlay masks csv
    python tools/run_bmp.py 'crowd/**/*.jpg' @more.txt --config bmp_v2 --device cuda

Exit codes: 0 all well, 1 an input failed (OUT/failures.json), 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.annotations import ImageId, load_boxes, load_image_ids
from ..io.inputs import Inputs, find_images
from ..io.progress import make_reporter
from ..io.run import run_images, write_failures
from ..io.run_options import DEFAULT_SAVE, OUTPUTS, RunOptions, RunReport
from .demo import demo_inputs
from .options import (
    add_loop_options,
    add_runtime_options,
    command_line,
    config_options,
    exit_codes,
    make_parser,
    positive,
)
from .summary import print_summary

if TYPE_CHECKING:
    from ..api import LoadedPipeline

PROG = 'run_bmp.py'
logger = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(PROG, __doc__)
    add = parser.add_argument
    add('inputs', nargs='*', metavar='INPUT', help='images, directories, patterns, list files')
    add('--demo', action='store_true', help='run on images that come with installed packages')
    add('--config', default='bmp_compact', help='name in configs/ or file (default: %(default)s)')
    add('--out-dir', type=Path, metavar='OUT', help='default: outputs/<name of the config>')
    add('--save', nargs='+', choices=OUTPUTS, default=DEFAULT_SAVE, metavar='KIND',
        help=f'any of {", ".join(OUTPUTS)} (default: {" ".join(DEFAULT_SAVE)}); json is always '
        'written')  # fmt: skip
    add('--resume', action=argparse.BooleanOptionalAction, default=True,
        help='skip images that are done (default: yes)')  # fmt: skip
    add('--batch-images', type=positive, default=1, metavar='N',
        help='images in one batch (default: 1)')  # fmt: skip
    add('--boxes', type=Path, metavar='FILE', help='your boxes for round one, JSON')
    add('--coco-ids', type=Path, metavar='FILE', help='COCO file with the image ids to use')
    add_loop_options(parser)
    add_runtime_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if not args.inputs and not args.demo:
        parser.error('give at least one INPUT, or --demo')
    out_dir = args.out_dir or Path('outputs', Path(args.config).stem)
    with exit_codes(PROG):
        overrides, reporter = config_options(args), make_reporter()
        demo = demo_inputs(out_dir / 'inputs') if args.demo else []
        found = find_images([*args.inputs, *demo], exclude=out_dir)
        for failure in found.failures:
            reporter.message(f'failed: {failure.described()}')
        if found.photos:
            options = run_options(args, out_dir, found, command_line(PROG, argv))
            pipeline = load(args.config, overrides)
            report = run_images(
                pipeline, found.photos, options, failures=found.failures, reporter=reporter
            )
        else:
            report = RunReport(0, list(found.failures))
            write_failures(out_dir, report)
        print_summary(report, out_dir)
    return report.exit_code


def run_options(
    args: argparse.Namespace, out_dir: Path, found: Inputs, command: tuple[str, ...]
) -> RunOptions:
    """What the arguments say about the results; reads the files with ids and boxes.

    Raises:
        InputError: a file cannot be used.
    """
    ids = None if args.coco_ids is None else _image_ids(args.coco_ids, found)
    return RunOptions(
        out_dir,
        frozenset(args.save),
        resume=args.resume,
        boxes={} if args.boxes is None else _boxes(args.boxes, found, ids),
        image_ids=ids,
        config=args.config,
        command=command,
        batch_images=args.batch_images,
    )


def load(config: str, cfg_options: Mapping[str, Any]) -> LoadedPipeline:
    """Load the pipeline and print what its config wants users to know."""
    from ..api import load_pipeline
    from ..runtime.memory import give_back_freed

    pipeline = load_pipeline(config, cfg_options)
    if pipeline.settings.runtime.freed_memory and pipeline.device == 'cpu':
        give_back_freed()
    if pipeline.note:
        print(pipeline.note)
    return pipeline


def _image_ids(file: Path, found: Inputs) -> Mapping[str, ImageId]:
    ids = load_image_ids(file, found.photos)
    if ids.unknown:
        text = 'they are run but left out of the COCO and CSV files'
        logger.warning('%s has no id for %s; %s', file, _some(ids.unknown), text)
    return ids.by_image


def _boxes(file: Path, found: Inputs, image_ids: Mapping[str, ImageId] | None) -> Mapping[str, Any]:
    boxes = load_boxes(file, found.photos, image_ids=image_ids)
    if boxes.unknown:
        logger.warning('%s has boxes for %s, not among the inputs', file, _some(boxes.unknown))
    without = tuple(p.name for p in found.photos if p.name not in boxes.by_image)
    if without:
        text = 'the detector finds the people there'
        logger.warning('%s has no boxes for %s; %s', file, _some(without), text)
    return boxes.by_image


def _some(names: Sequence[str]) -> str:
    shown = ', '.join(names[:3])
    return shown if len(names) <= 3 else f'{shown} and {len(names) - 3} more'
