"""Analyze a COCO results file by crowding, score, keypoint visibility and size of people.

Every study writes OUT/<study>.csv, OUT/<study>.png and prints a line; OUT/analysis.json has all.
`groups` (or --groups) prints a table instead: recall and mean OKS of people at the edge of the
image, with few keypoints, small, or covered by others.
`crowding` and `sizes`: metrics of a part of the people; the others are ignored, not removed.
`calibration`: precision by score. `visibility`: keypoints by COCO flag and by name.

Examples:
    bmp analyze results.json annotations.json
    bmp analyze results.json annotations.json --groups
    bmp analyze results.json val.json --study crowding --crowding-edges 0.5 0.75
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.coco import TASKS
from .options import add_data_root, add_person_category, handle_errors, make_parser

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..evaluation.calibration import CalibrationTable
    from ..evaluation.groups import GroupTable
    from ..evaluation.parts import PartTable
    from ..evaluation.scored import ScoredResults
    from ..evaluation.visibility import VisibilityTable

    Table = CalibrationTable | GroupTable | PartTable | VisibilityTable

PROG = 'bmp analyze'
STUDIES = ('crowding', 'calibration', 'visibility', 'sizes', 'groups')


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = make_parser(PROG, __doc__)
    add = parser.add_argument
    add('results', type=Path, metavar='RESULTS', help='COCO results')
    add('annotations', metavar='ANNOTATIONS', help='COCO annotations of people, or a data set')
    add_data_root(parser)
    add_person_category(parser)
    add('--study', nargs='+', choices=STUDIES, help='default: all')
    add('--groups', action='store_const', dest='study', const=['groups'], help='--study groups')
    add('--tasks', nargs='+', choices=TASKS, help='default: all tasks of both files')
    add('--crowding-edges', nargs='+', type=float, metavar='IOU',
        help='lower limits of the parts, box IoU (default: 0.1 0.3 0.5)')  # fmt: skip
    add('--size-edges', nargs='+', type=float, metavar='PX',
        help="lower limits of the parts, root of the area (default: COCO's 32 96)")  # fmt: skip
    add('--score-bins', type=int, metavar='N', help='bins of the calibration (default: 10)')
    add('--out', type=Path, default=Path('outputs/analysis'), metavar='OUT', help='folder')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the studies and print their findings."""
    args = build_parser().parse_args(argv)
    with handle_errors(PROG):
        for name, text in run(args).items():
            print(f'{name}: {text}')
        print(f'tables and charts: {args.out}')
    return 0


def run(args: argparse.Namespace) -> dict[str, str]:
    """Write all files and return the text of each study.

    Raises:
        ValueError: The files or the edges do not fit.
    """
    from dataclasses import asdict

    from ..datasets.eval_sets import find_annotations
    from ..evaluation.charts import save_chart
    from ..evaluation.scored import load_scored_results
    from ..io.atomic import write_json
    from ..io.tables import replace_infinity, write_csv

    annotations = find_annotations(args.annotations, args.data_root)
    scored = load_scored_results(
        args.results, annotations, args.tasks, person_category=args.person_category
    )
    studies = list(args.study or STUDIES)
    if 'keypoints' not in scored.tasks:
        if args.study and 'visibility' in args.study:
            raise ValueError('the visibility study needs keypoints in both files')
        studies = [s for s in studies if s != 'visibility']
    texts = {'results': scored.subject} if scored.subject else {}
    report: dict[str, Any] = {}
    for name in dict.fromkeys(studies):
        table, draw = compute_study(name, scored, args)
        rows = [asdict(row) for row in table.rows]
        write_csv(args.out / f'{name}.csv', rows)
        if draw is not None:
            save_chart(args.out / f'{name}.png', draw, table, scored.subject or args.results.name)
        texts[name] = table.text
        report[name] = {'text': table.text, 'rows': [replace_infinity(row) for row in rows]}
    files = {'results': str(args.results), 'annotations': str(annotations)}
    files |= {'subject': scored.subject}
    write_json(args.out / 'analysis.json', {**files, 'studies': report}, indent=1)
    return texts


def compute_study(
    name: str, scored: ScoredResults, args: argparse.Namespace
) -> tuple[Table, Callable[..., Figure] | None]:
    """Compute the table of a study; returns it with its drawing function, if it has one."""
    from ..evaluation import calibration, charts, groups, parts, visibility

    if name == 'groups':
        return groups.measure_groups(scored), None

    if name == 'visibility':
        return visibility.measure_visibility(scored), charts.draw_visibility
    if name == 'calibration':
        bins = calibration.SCORE_BINS if args.score_bins is None else args.score_bins
        return calibration.measure_calibration(scored, bins), charts.draw_calibration
    if name == 'crowding':
        edges = args.crowding_edges or parts.CROWDING_EDGES
        return parts.measure_crowding(scored, edges), charts.draw_parts
    return parts.measure_sizes(scored, args.size_edges or parts.SIZE_EDGES), charts.draw_parts
