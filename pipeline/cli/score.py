"""Score a results file: AP and AR of boxes, masks and keypoints.

ANNOTATIONS is a COCO annotation file or a data set; results of `bmp test` do not need it. All
images of the run count, also those without results. Files with 14 keypoints are scored by the rules
of CrowdPose. Definitions: docs/user_guide/evaluation.md.

Examples:
    bmp score outputs/test/bmp_v2/coco_val2017/loop/results.json
    bmp score results.json annotations.json --tasks bbox segm --json scores.json
    bmp score results.json crowdpose_test --markdown scores.md
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..io.coco import TASKS
from .options import add_data_root, add_person_category, handle_errors, make_parser

if TYPE_CHECKING:
    from ..evaluation.metrics import CocoMetrics

PROG = 'bmp score'


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = make_parser(PROG, __doc__)
    add = parser.add_argument
    add('results', type=Path, metavar='RESULTS', help='COCO results')
    add('annotations', nargs='?', metavar='ANNOTATIONS', help='COCO annotations, or a data set')
    add_data_root(parser)
    add_person_category(parser)
    add('--tasks', nargs='+', choices=TASKS,
        help='default: all tasks of results and annotations')  # fmt: skip
    add('--crowd-bounds', nargs=2, type=float, default=(0.2, 0.8), metavar=('MEDIUM', 'HARD'),
        help='CrowdPose: lower limits of the crowdIndex of medium and hard images (default: 0.2 '
        '0.8 of its evaluation code; the paper has 0.1 0.8)')  # fmt: skip
    add('--json', type=Path, metavar='OUT', help='also write the metrics here')
    add('--markdown', type=Path, metavar='OUT', help='also write the tables here')
    add('--json-ids', action='store_true', help='add the ids of the scored images, and of those '
        'without results, to --json')  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Score, print the tables and write the files."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.json_ids and args.json is None:
        parser.error('--json-ids needs --json OUT')
    with handle_errors(PROG):
        from ..evaluation.coco import score_files

        metrics = score_files(
            args.results,
            find_ground_truth(args.results, args.annotations, args.data_root),
            args.tasks,
            crowd_bounds=tuple(args.crowd_bounds),
            person_category=args.person_category,
        )
        report(metrics, args.json, args.markdown, with_ids=args.json_ids)
    return 0


def find_ground_truth(
    results: Path, annotations: str | None = None, data_root: Path | None = None
) -> Path:
    """Find the annotation file of results: a file, a data set, or the one in the side file.

    Raises:
        ValueError: There is none.
    """
    from ..datasets.eval_sets import find_annotations
    from ..io.results import read_info

    if annotations is not None:
        return find_annotations(annotations, data_root)
    info = read_info(results)
    if info is not None:
        return Path(info.annotations)
    if not results.is_file():
        raise ValueError(f'{results}: no such file')
    raise ValueError(
        f'{results}: ANNOTATIONS is required; only results of `bmp test` name their own'
    )


def report(
    metrics: CocoMetrics, json: Path | None, markdown: Path | None, *, with_ids: bool = False
) -> None:
    """Print the tables and write them to files."""
    from rich.console import Console

    texts = [(json, metrics.to_json(with_ids=with_ids)), (markdown, metrics.to_markdown())]
    for path, text in texts:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    Console(markup=False, emoji=False).print(metrics.table())
