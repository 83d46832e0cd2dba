"""Score a results file: AP and AR of boxes, masks and keypoints in one go.

ANNOTATIONS is a COCO annotation file or a data set; a results file of tools/test.py knows its own.
All photos that were asked for count, also those without results. CrowdPose is told by its 14
keypoints and scored by its own rules. Definitions: docs/user_guide/evaluation.md.

Examples:
    python tools/score.py outputs/test/bmp_v2/coco_val2017/loop/results.json
    python tools/score.py results.json annotations.json --tasks bbox segm --json scores.json
    python tools/score.py results.json crowdpose_test --markdown scores.md
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..io.coco import TASKS, Task
from .options import add_data_root, exit_codes, make_parser

if TYPE_CHECKING:
    from ..evaluation.metrics import CocoMetrics

PROG = 'score.py'


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(PROG, __doc__)
    add = parser.add_argument
    add('results', type=Path, metavar='RESULTS', help='COCO results')
    add('annotations', nargs='?', metavar='ANNOTATIONS', help='COCO annotations, or a data set')
    add_data_root(parser)
    add('--tasks', nargs='+', choices=TASKS,
        help='what to score (default: all that results and annotations have)')  # fmt: skip
    add('--crowd-bounds', nargs=2, type=float, default=(0.2, 0.8), metavar=('MEDIUM', 'HARD'),
        help='CrowdPose: crowdIndex from which images are medium and hard (default: 0.2 0.8, those '
        'of its evaluation code; its paper says 0.1 0.8)')  # fmt: skip
    add('--json', type=Path, metavar='OUT', help='also write the metrics here')
    add('--markdown', type=Path, metavar='OUT', help='also write the tables here')
    add('--json-ids', action='store_true', help='list the ids of the scored images, and of those '
        'without results, in --json too')  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Score, print the tables, write the files."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.json_ids and args.json is None:
        parser.error('--json-ids goes with --json OUT')
    with exit_codes(PROG, wrong_input=1):
        metrics = score_results(
            args.results, args.annotations, args.data_root, args.tasks, tuple(args.crowd_bounds)
        )
        show(metrics, args.json, args.markdown, with_ids=args.json_ids)
    return 0


def score_results(
    results: Path,
    annotations: str | None = None,
    data_root: Path | None = None,
    tasks: Sequence[Task] | None = None,
    crowd_bounds: tuple[float, float] | None = None,
) -> CocoMetrics:
    """Metrics of a results file.

    Args:
        results: the file.
        annotations: file or name of a data set; None: as the side file of the results says.
        data_root: folder of the data sets.
        tasks: None: all that there are.
        crowd_bounds: see `pipeline.evaluation.coco.score`.

    Raises:
        OSError, ValueError: the files cannot be read or do not fit.
    """
    from ..datasets.eval_sets import find_annotations
    from ..evaluation.coco import CROWD_BOUNDS, score_files
    from ..io.results import read_info

    if annotations is None:
        info = read_info(results)
        if info is None:
            raise ValueError(f'{results} has no side file; say which ANNOTATIONS it is scored on')
        file = Path(info.annotations)
    else:
        file = find_annotations(annotations, data_root)
    return score_files(results, file, tasks, crowd_bounds=crowd_bounds or CROWD_BOUNDS)


def show(
    metrics: CocoMetrics, json: Path | None, markdown: Path | None, *, with_ids: bool = False
) -> None:
    """Print the tables and write the files that are asked for."""
    from rich.console import Console

    texts = [(json, metrics.to_json(with_ids=with_ids)), (markdown, metrics.to_markdown())]
    for path, text in texts:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    Console().print(metrics.table())
