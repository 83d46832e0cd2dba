"""Compare two COCO results files image by image.

The page is that of `bmp report A --compare B --gt ANNOTATIONS`. OUT/photos.csv and
OUT/comparison.json have the same figures. The quality of an image is 2 * (sum of the overlaps of
the matched people) / (people + results). A match needs an overlap (IoU or OKS) of at least 0.5.

Examples:
    bmp compare rounds1.json rounds2.json annotations.json --images images/
    bmp compare a.json b.json val.json --task keypoints --out outputs/a-b
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..io.coco import TASKS
from .options import add_data_root, add_person_category, handle_errors, make_parser, make_reporter
from .report import report_scores

if TYPE_CHECKING:
    from rich.table import Table

    from ..evaluation.comparison import Comparison

PROG = 'bmp compare'
MAX_WARNINGS = 5


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = make_parser(PROG, __doc__)
    add = parser.add_argument
    add('results', type=Path, metavar='A', help='COCO results or folder of a run, the baseline')
    add('compare', type=Path, metavar='B', help='results to compare with A')
    add('gt', metavar='ANNOTATIONS', help='COCO annotations of people, or a data set')
    add_data_root(parser)
    add_person_category(parser)
    add('--images', type=Path, metavar='DIR', help='images (default: next to the annotations)')
    add('--task', choices=TASKS, default='segm', help='default: segm')
    add('--min-score', type=float, default=0, metavar='S', help='ignore results with lower scores')
    add('--max-side', type=int, default=1600, metavar='PX', help='image size (default: 1600)')
    add('--out', type=Path, default=Path('outputs/comparison'), metavar='OUT', help='folder')
    parser.set_defaults(hide='none')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, write the page and print the summary."""
    from ..io.atomic import write_json
    from ..io.tables import write_csv

    parser = build_parser()
    args = parser.parse_args(argv)
    if args.max_side < 16:
        parser.error('--max-side must be >= 16')
    with handle_errors(PROG):
        page, scored, problems = report_scores(args, make_reporter())
        comparison = scored.comparison
        assert comparison is not None
        write_csv(args.out / 'photos.csv', [p.to_row() for p in comparison.images])
        facts = {'annotations': str(args.gt), 'a': str(args.results), 'b': str(args.compare)}
        content = comparison.to_json({**facts, 'min_score': args.min_score})
        write_json(args.out / 'comparison.json', content, indent=1)
        print_summary(comparison, problems)
        print(f'page: {page}')
    return 0


def print_summary(comparison: Comparison, problems: Sequence[str]) -> None:
    """Print the metrics of both sides and the missing images."""
    from rich.console import Console

    console = Console(markup=False, emoji=False)
    console.print(build_summary(comparison))
    better, worse = len(comparison.gained), len(comparison.lost)
    equal = len(comparison.images) - better - worse
    console.print(f'{better} images better in B, {worse} worse, {equal} equal')
    for text in problems[:MAX_WARNINGS]:
        console.print(f'warning: {text}', markup=False, highlight=False)
    more = len(problems) - MAX_WARNINGS
    if more > 0:
        console.print(f'warning: {more} more images are missing; see the page')


def build_summary(comparison: Comparison) -> Table:
    """Build the table for the terminal."""
    from rich.table import Table

    table = Table(title=f'{comparison.task}, {len(comparison.images)} images; percent, or number')
    for name in ('', 'A', 'B', 'B − A'):
        table.add_column(name, justify='left' if not name else 'right')
    for name, (a, b) in comparison.totals().items():
        table.add_row(name, *(_cell(v, '') for v in (a, b)), _cell(_difference(a, b), '+'))
    return table


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else b - a


def _cell(value: float | None, sign: str) -> str:
    if value is None:
        return '–'
    return f'{value:{sign}d}' if isinstance(value, int) else f'{100 * value:{sign}.1f}'
