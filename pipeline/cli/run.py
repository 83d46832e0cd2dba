"""Detect every person in images and videos, with box, mask and pose; follow them in videos.

INPUT is any number of images, directories (searched recursively), glob patterns, http(s) URLs, -
(an image on stdin) and list files (@FILE, or FILE.txt / FILE.lst: one input per line, relative to
the list, # starts a comment line; @- reads the list from stdin); and of videos, their patterns,
cameras (0, 1, ...) and streams (rtsp://...).
Put inputs before options with several values. Results and formats: docs/user_guide/command_line.md
and, for videos, video.md beside it.

Examples:
    bmp run --demo
    bmp run images/ --out-dir outputs/crowd --save json coco overlay masks csv
    bmp run 'crowd/**/*.jpg' @more.txt --config bmp_v2 --device cuda
    bmp run images/ --min-score 0.3 --layers masks skeletons --labels id
    bmp run clip.mp4 --save overlay mot --detect-every 2 --end 1:30

Exit codes: 0 success, 1 an input failed (OUT/failures.json), 2 wrong arguments or no such input,
130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.images import WrongInputError
from ..io.inputs import InputImage, Inputs, find_images
from ..io.run import run_images, write_failures
from ..io.run_options import DEFAULT_SAVE, OUTPUTS, VIDEO_OUTPUTS, RunOptions, RunReport
from ..video.inputs import split_videos
from .job_options import add_job_options, is_job, parse_folder
from .options import (
    add_drawing_options,
    add_loop_options,
    add_person_category,
    add_runtime_options,
    build_style,
    get_command,
    get_overrides,
    handle_errors,
    make_parser,
    make_reporter,
    parse_positive,
    parse_score,
)
from .summary import print_summary

if TYPE_CHECKING:
    from ..api import LoadedPipeline
    from ..io.coco_checks import ImageId
    from ..video.run import VideoOptions

PROG = 'bmp run'
logger = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = make_parser(PROG, __doc__)
    add = parser.add_argument
    add('inputs', nargs='*', metavar='INPUT', help='images, directories, patterns, URLs, lists')
    add('--demo', action='store_true', help='run on images of installed packages')
    add('--config', default='bmp_compact', help='name in configs/ or file (default: %(default)s)')
    add('--out-dir', type=parse_folder, metavar='OUT',
        help='default: outputs/<name of the config>')  # fmt: skip
    kinds = *OUTPUTS, *VIDEO_OUTPUTS, 'parquet'
    add('--save', nargs='+', choices=kinds, default=DEFAULT_SAVE, metavar='KIND',
        help=f'any of {", ".join(OUTPUTS)}; for videos overlay, {", ".join(VIDEO_OUTPUTS)}; '
        f'jobs: parquet (default: {" ".join(DEFAULT_SAVE)}); json is always written')  # fmt: skip
    add('--min-score', type=parse_score, default=argparse.SUPPRESS, metavar='X|none',
        help='drop people below this score from the files; predictions keep them, so another '
        'value computes nothing again (default: config)')  # fmt: skip
    add('--resume', action=argparse.BooleanOptionalAction, default=True,
        help='skip images that are done (default: yes)')  # fmt: skip
    add('--batch-images', type=parse_positive, default=1, metavar='N',
        help='batch size (default: 1)')  # fmt: skip
    add('--boxes', type=Path, metavar='FILE', help='your boxes for round one, JSON')
    add('--coco-ids', type=Path, metavar='FILE', help='COCO file with the image ids to use')
    add_drawing_options(parser)
    add_video_options(parser)
    add_job_options(parser)
    add_person_category(parser)
    add_loop_options(parser)
    add_runtime_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if not args.inputs and not args.demo and not args.frames:
        parser.error('at least one INPUT or --demo is required')
    out_dir = args.out_dir or Path('outputs', Path(args.config).stem)
    with handle_errors(PROG):
        if is_job(args):
            from .jobs import run_images as run_job

            return run_job(args, out_dir, build_video_options)
        overrides, reporter = get_overrides(args), make_reporter()
        demo = _demo_inputs(out_dir) if args.demo else []
        videos, sources, absent = split_videos(
            [*args.inputs, *demo], args.frames, only_videos=args.videos
        )
        found = find_images(sources, exclude=out_dir, downloads=out_dir / 'inputs')
        found = replace(found, failures=(*absent, *found.failures))
        if not videos:
            _refuse_wrong_inputs(found)
        for remark in found.remarks:
            reporter.message(remark)
        for failure in found.failures:
            reporter.message(f'failed: {failure.describe()}')
        options = build_options(args, out_dir, found.images, get_command(PROG, argv))
        video_options = build_video_options(args, out_dir) if videos else None
        report = RunReport(0, list(found.failures))
        if found.images or videos:
            pipeline = load(args.config, overrides)
        if found.images:
            report = run_images(
                pipeline, found.images, options, failures=found.failures, reporter=reporter
            )
        if video_options and not report.interrupted:
            from ..video.run import run_videos

            run_videos(pipeline, videos, video_options, report, reporter)
        write_failures(out_dir, report.failures)
        if 'report' in args.save:
            from .report import report_run

            report.files.append(report_run(out_dir, out_dir / 'report', hide=args.hide))
        print_summary(report, out_dir)
    return report.exit_code


def build_options(
    args: argparse.Namespace, out_dir: Path, images: Sequence[InputImage], command: tuple[str, ...]
) -> RunOptions:
    """Build the options of the run; loads the files of ids and boxes.

    Raises:
        InputError: A file cannot be used.
    """
    ids = None if args.coco_ids is None else _load_ids(args.coco_ids, images)
    return RunOptions(
        out_dir,
        frozenset(args.save) & frozenset(OUTPUTS),
        resume=args.resume,
        boxes={} if args.boxes is None else _load_boxes(args, images, ids),
        image_ids=ids,
        config=args.config,
        command=command,
        batch_images=args.batch_images,
        style=build_style(args, 'score'),
    )


def add_video_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for videos."""
    group = parser.add_argument_group('videos')
    add = group.add_argument
    add('--videos', action='store_true',
        help='every INPUT is a video, or a folder of numbered frames')  # fmt: skip
    add('--frames', nargs='+', default=[], metavar='DIR', help='folders of numbered frames')
    add('--fps', type=float, default=25.0, metavar='F', help='their frames a second (default: 25)')
    add('--start', type=parse_time, default=0.0, metavar='TIME', help='seconds, or h:mm:ss')
    add('--end', type=parse_time, metavar='TIME', help='as above (default: the end)')
    add('--stride', type=parse_positive, default=1, metavar='N', help='take every n-th frame')
    add('--max-fps', type=float, metavar='F', help='take at most F frames a second')
    add('--detect-every', type=parse_positive, default=1, metavar='N',
        help='detect people in every n-th frame and only follow them between; faster')  # fmt: skip
    add('--trail', type=int, default=25, metavar='N',
        help='frames of the trail behind each person; 0: none (default: 25)')  # fmt: skip


def parse_time(text: str) -> float:
    """Parse seconds, m:ss or h:mm:ss, for argparse."""
    seconds = 0.0
    for part in text.split(':'):
        seconds = 60 * seconds + float(part)
    return seconds


def build_video_options(args: argparse.Namespace, out_dir: Path) -> VideoOptions:
    """Build the options of the videos.

    Raises:
        ValueError: A value is out of range.
    """
    from ..video.reader import FrameSelection
    from ..video.run import VideoOptions

    selection = FrameSelection(args.start, args.end, args.stride, args.max_fps)
    style = build_style(args, 'id')
    return VideoOptions(
        out_dir, frozenset(args.save), selection, args.fps, args.detect_every, args.batch_images,
        style, args.trail, args.resume,
    )  # fmt: skip


def _refuse_wrong_inputs(found: Inputs) -> None:
    """Raise if there is no image and an argument is wrong; a run reports it among its failures."""
    if any(image.path.exists() for image in found.images):
        return
    wrong = WrongInputError.__name__
    lines = [f.describe() for f in found.failures if f.error == wrong]
    lines += [f'{i.path}: no such file or directory; check the path' for i in found.images]
    if lines:
        raise WrongInputError('\n'.join(lines))


def load(config: str, cfg_options: Mapping[str, Any]) -> LoadedPipeline:
    """Load the pipeline and print the note of its config."""
    from ..api import load_pipeline

    pipeline = load_pipeline(config, cfg_options)
    if pipeline.note:
        print(pipeline.note)
    return pipeline


def _demo_inputs(out_dir: Path) -> list[str]:
    from .demo import demo_inputs

    return demo_inputs(out_dir / 'inputs')


def _load_ids(file: Path, images: Sequence[InputImage]) -> Mapping[str, ImageId]:
    from ..io.annotations import load_image_ids

    ids = load_image_ids(file, images)
    if ids.unknown:
        text = 'these images are left out of the COCO and CSV files'
        logger.warning('%s has no id for %s; %s', file, _shorten(ids.unknown), text)
    return ids.by_image


def _load_boxes(
    args: argparse.Namespace, images: Sequence[InputImage], ids: Mapping[str, ImageId] | None
) -> Mapping[str, Any]:
    from ..io.annotations import load_boxes

    file: Path = args.boxes
    boxes = load_boxes(file, images, image_ids=ids, person_category=args.person_category)
    if boxes.left_out:
        logger.warning('%s: left out: %s', file, boxes.left_out)
    if boxes.unknown:
        logger.warning('%s has boxes for %s, not among the inputs', file, _shorten(boxes.unknown))
    without = tuple(image.name for image in images if image.name not in boxes.by_image)
    if without:
        text = 'the detector runs on these images'
        logger.warning('%s has no boxes for %s; %s', file, _shorten(without), text)
    return boxes.by_image


def _shorten(names: Sequence[str]) -> str:
    shown = ', '.join(names[:3])
    return shown if len(names) <= 3 else f'{shown} and {len(names) - 3} more'
