"""Find every person in photos, with box, mask and pose.

INPUT is any number of pictures, directories (searched recursively), glob patterns and list files
(@FILE, or FILE.txt / FILE.lst: one input per line, relative to the list, # starts a comment line).
Put inputs before options that take several values. Results, formats: docs/usage.md.

Examples:
    python tools/run_bmp.py --demo
    python tools/run_bmp.py photos/ --out-dir outputs/mine --save json coco overlay masks csv
    python tools/run_bmp.py 'crowd/**/*.jpg' @more.txt --config bmp_v2 --device cuda

Exit codes: 0 all well, 1 an input failed (OUT/failures.json), 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline import LoadedPipeline

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

AS_IN_CONFIG = 0
OUTPUTS = ('json', 'coco', 'csv', 'masks', 'mmpose', 'overlay')


def build_parser() -> argparse.ArgumentParser:
    """The command line of this tool."""
    parser = argparse.ArgumentParser(
        'run_bmp.py', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flag = argparse.BooleanOptionalAction
    add = parser.add_argument
    add('inputs', nargs='*', metavar='INPUT', help='pictures, directories, patterns, list files')
    add('--demo', action='store_true', help='run on photos that come with installed packages')
    add('--config', default='bmp_compact', help='name in configs/ or file (default: %(default)s)')
    add('--out-dir', type=Path, metavar='OUT', help='default: outputs/<name of the config>')
    add('--device', help='auto, cpu, cuda, cuda:1, ... (default: what the config says)')
    add('--precision', choices=('fp32', 'bf16', 'fp16'), help='default: what the config says')
    add(
        '--save', nargs='+', choices=OUTPUTS, default=['json', 'coco', 'overlay'], metavar='KIND',
        help=f'any of {", ".join(OUTPUTS)} (default: json coco overlay); json is always written',
    )  # fmt: skip
    add('--resume', action=flag, default=True, help='skip photos that are done (default: yes)')
    add(
        '--max-rounds',
        type=rounds,
        default=AS_IN_CONFIG,
        metavar='N|none',
        help='none: go on until nobody new is found',
    )
    add('--refine', action=flag, default=None, help='pose and mask once more with the final masks')
    add(
        '--batch-images',
        type=positive,
        default=1,
        metavar='N',
        help='photos whose people share the batches of the pose model (default: 1)',
    )
    add('--boxes', type=Path, metavar='FILE', help='own boxes for round one, JSON')
    add(
        '--coco-ids',
        type=Path,
        metavar='FILE',
        help='take image ids from this COCO annotation file',
    )
    add(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='override settings of the config',
    )
    return parser


def parse_pairs(pairs: Sequence[str], cure: str) -> dict[str, Any]:
    """Values of ``--cfg-options`` by name, read as MMEngine reads them.

    Raises:
        ValueError: a pair is not KEY=VALUE; the message ends with ``cure``.
    """
    for pair in pairs:
        if '=' not in pair:
            raise ValueError(f'--cfg-options got {pair!r}: {cure}')
    if not pairs:
        return {}
    from mmengine.config import DictAction  # slow to import, so not at the top

    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    values: dict[str, Any] = parser.parse_args(['--cfg-options', *pairs]).cfg_options
    return values


def config_options(args: argparse.Namespace) -> dict[str, Any]:
    """Overrides of the config; options of their own go before ``--cfg-options``.

    Raises:
        ValueError: a pair is not KEY=VALUE.
    """
    options = parse_pairs(args.cfg_options, 'write KEY=VALUE, and put INPUT before the options')
    if args.max_rounds != AS_IN_CONFIG:
        options['loop.max_rounds'] = args.max_rounds
    own = {
        'runtime.device': args.device,
        'runtime.precision': args.precision,
        'loop.refine': args.refine,
    }
    return options | {key: value for key, value in own.items() if value is not None}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        cfg_options = config_options(args)
    except ValueError as error:
        parser.error(str(error))
    if not args.inputs and not args.demo:
        parser.error('give at least one INPUT, or --demo')
    try:
        return run(args, cfg_options, ['run_bmp.py', *(sys.argv[1:] if argv is None else argv)])
    except KeyboardInterrupt:
        return 130


def run(args: argparse.Namespace, cfg_options: dict[str, Any], command: list[str]) -> int:
    """Run the pipeline on what the arguments name and print the summary."""
    from rich.console import Console

    from pipeline.config import ConfigError
    from pipeline.io.command import Request, run_request
    from pipeline.io.inputs import InputError
    from pipeline.io.progress import make_reporter
    from pipeline.io.run import OutputError
    from pipeline.io.summary import print_summary
    from pipeline.openmmlab import quiet_libraries
    from pipeline.weights.checkpoints import CheckpointError

    names = ('config', 'demo', 'out_dir', 'resume', 'boxes', 'coco_ids', 'batch_images')
    request = Request(
        inputs=tuple(args.inputs),
        save=tuple(args.save),
        cfg_options=cfg_options,
        command=tuple(command),
        **{name: getattr(args, name) for name in names},
    )
    logging.basicConfig(format='%(message)s')
    quiet_libraries()
    logging.getLogger('pipeline').setLevel(logging.INFO)
    try:
        report = run_request(request, load=load, reporter=make_reporter())
    except (InputError, ConfigError, OutputError, CheckpointError, OSError) as error:
        print(f'run_bmp.py: error: {error}', file=sys.stderr)
        return 2 if isinstance(error, (InputError, ConfigError)) else 1
    print_summary(report, request.folder, Console())
    return report.exit_code


def load(config: str, cfg_options: Mapping[str, Any]) -> LoadedPipeline:
    """Load the pipeline and print what its config wants users to know."""
    from pipeline import load_pipeline
    from pipeline.config import load_config
    from pipeline.runtime.memory import give_back_freed

    pipeline = load_pipeline(config, cfg_options)
    if load_config(config, cfg_options).settings.runtime.freed_memory and pipeline.device == 'cpu':
        give_back_freed()
    if pipeline.note:
        print(pipeline.note)
    return pipeline


def rounds(text: str) -> int | None:
    """Value of ``--max-rounds``: a number from 1, or None for ``none``."""
    if text.lower() == 'none':
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is neither a number from 1 nor none')
    return int(text)


def positive(text: str) -> int:
    """Value of ``--batch-images``: a number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is no number from 1')
    return int(text)


if __name__ == '__main__':
    sys.exit(main())
