"""Write a report of results: a page for the browser, with every image, its people and its rounds.

RESULTS is the folder of a run, or a COCO results file with --gt. The page needs no network; keep
its folder together, or name a file ending with .html for one file. Images of the run are read where
they were; --images names another folder. --gt compares with annotations, --compare adds a second
run. Pages and files: docs/user_guide/report.md.

Examples:
    bmp report outputs/crowd
    bmp report outputs/crowd --out crowd.html --blur-faces
    bmp report outputs/crowd --gt val.json --task keypoints
    bmp report outputs/a --compare outputs/b --gt val.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..io.coco import TASKS
from .options import (
    add_data_root,
    add_person_category,
    add_privacy_options,
    handle_errors,
    make_parser,
    make_reporter,
)

if TYPE_CHECKING:
    from ..io.progress import Reporter
    from ..report.sources import Scored
    from ..visualization.style import Hide

PROG = 'bmp report'


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = make_parser(PROG, __doc__)
    add = parser.add_argument
    add('results', type=Path, metavar='RESULTS', help='folder of a run, or COCO results')
    add('--gt', metavar='ANNOTATIONS', help='COCO annotations of people, or a data set')
    add('--compare', type=Path, metavar='B', help='second results, shown beside the first')
    add('--task', choices=TASKS, default='segm', help='of the comparison (default: segm)')
    add('--min-score', type=float, default=0, metavar='S', help='ignore results with lower scores')
    add('--images', type=Path, metavar='DIR', help='images (default: where the run found them)')
    add('--out', type=Path, metavar='OUT', help='folder, or FILE.html (default: RESULTS/report)')
    add('--max-side', type=int, default=1600, metavar='PX', help='image size (default: 1600)')
    add_privacy_options(parser)
    add_data_root(parser)
    add_person_category(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.max_side < 16:
        parser.error('--max-side must be >= 16')
    if args.gt is None and (args.compare is not None or args.results.is_file()):
        parser.error('--compare and files of results need --gt ANNOTATIONS')
    with handle_errors(PROG):
        reporter = make_reporter()
        if args.gt is None:
            out = args.out or args.results / 'report'
            folders = [] if args.images is None else [check_folder(args.images)]
            page = report_run(args.results, out, args.max_side, args.hide, folders, reporter)
        else:
            page = report_scores(args, reporter)[0]
        print(f'page: {page}')
    return 0


def report_run(
    folder: Path,
    out: Path,
    max_side: int = 1600,
    hide: Hide = 'none',
    folders: Sequence[Path] = (),
    reporter: Reporter | None = None,
) -> Path:
    """Write the report of a run; returns the path of the page.

    Raises:
        ValueError: The folder has no results.
    """
    from ..io.progress import Reporter
    from ..report.facts import describe_run, describe_videos
    from ..report.sources import RunFolder
    from ..report.write import ReportOptions, ReportWriter

    run, reporter = RunFolder(folder), reporter or Reporter()
    options = ReportOptions(out, max_side, hide)
    writer = ReportWriter(options)
    reporter.start(len(run.records))
    for entry in run.entries(folders):
        writer.add(entry)
        reporter.update(entry.name, 'written')
    reporter.stop()
    facts = describe_run(run) | {'videos': list(describe_videos(folder, options))}
    return writer.finish(facts, run.failures)


def report_scores(args: argparse.Namespace, reporter: Reporter) -> tuple[Path, Scored, list[str]]:
    """Write the report of one or two results with annotations.

    Returns:
        Path of the page, the scores, and the reasons why images are missing.

    Raises:
        ValueError: The files do not fit.
    """
    from ..datasets.eval_sets import find_annotations
    from ..report.facts import describe_run, describe_scores
    from ..report.sources import Scored
    from ..report.write import ReportOptions, ReportWriter

    annotations = find_annotations(args.gt, args.data_root)
    results = [args.results] if args.compare is None else [args.results, args.compare]
    scored = Scored.load(results, annotations, args.task, args.min_score, args.person_category)
    names = tuple(
        f'{path} ({side.subject})' if side.subject else str(path)
        for path, side in zip(results, scored.sides, strict=True)
    )
    default = args.results / 'report' if args.results.is_dir() else Path('outputs/report')
    options = ReportOptions(args.out or default, args.max_side, args.hide, names, args.task)
    writer, problems = ReportWriter(options), []
    folders = find_image_folders(args, annotations)
    reporter.start(len(scored.sides[0].annotations['images']))
    for entry in scored.entries(folders):
        writer.add(entry)
        reporter.update(entry.name, 'written')
        if isinstance(entry.image, str):
            problems.append(f'{entry.name}: {entry.image}')
    reporter.stop()
    facts = describe_run(scored.runs[-1]) if scored.runs[-1] else {}
    facts |= {
        'title': 'Comparison of two results' if args.compare else 'Results and annotations',
        'metrics': describe_scores(scored, args.min_score),
    }
    return writer.finish(facts), scored, problems


def find_image_folders(args: argparse.Namespace, annotations: Path) -> list[Path]:
    """Return the folders to search: --images, that of the data set, or next to the annotations.

    Raises:
        ValueError: --images does not exist.
    """
    from ..datasets.eval_sets import DatasetError, resolve_dataset

    if args.images is not None:
        return [check_folder(args.images)]
    try:
        return [
            resolve_dataset(args.gt, args.data_root, person_category=args.person_category).images
        ]
    except DatasetError:
        return [annotations.parent, annotations.parent / 'images']  # images are optional


def check_folder(folder: Path) -> Path:
    """Return the folder of images.

    Raises:
        ValueError: It does not exist.
    """
    if not folder.is_dir():
        raise ValueError(f'--images {folder} is not a folder')
    return folder
