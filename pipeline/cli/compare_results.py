"""Compare two COCO results files photo by photo: which photos gained, which lost, side by side.

Writes OUT/index.html (one file, works offline), OUT/photos.csv and OUT/comparison.json, and prints
the summary. The figure of a photo is its quality, 2 * (sum of the overlaps of the people found) /
(people + results), where a person is found at an overlap (IoU, OKS) of at least 0.5.

Examples:
    python tools/compare_results.py rounds1.json rounds2.json annotations.json --images photos/
    python tools/compare_results.py a.json b.json val.json --task keypoints --out outputs/a-b
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..io.coco import TASKS
from .options import add_data_root, exit_codes, make_parser

if TYPE_CHECKING:
    from rich.table import Table

    from ..evaluation.comparison import Comparison, ImageDifference
    from ..evaluation.comparison_cards import Card
    from ..evaluation.scored import ScoredResults
    from ..structures import Image

PROG = 'compare_results.py'
_SHOWN = 5  # warnings


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(PROG, __doc__)
    add = parser.add_argument
    add('a', type=Path, metavar='A', help='COCO results, the baseline')
    add('b', type=Path, metavar='B', help='COCO results that are compared with it')
    add('annotations', metavar='ANNOTATIONS', help='COCO annotations of people, or a data set')
    add_data_root(parser)
    add('--images', type=Path, metavar='DIR', help='images (default: beside the annotations)')
    add('--task', choices=TASKS, default='segm', help='default: segm')
    add('--min-score', type=float, default=0, metavar='S',
        help='leave out results scored below; useful for files with many weak ones')  # fmt: skip
    add('--top', type=int, default=20, metavar='N', help='images shown of each kind (default: 20)')
    add('--max-side', type=int, default=720, metavar='PX', help='of the images (default: 720)')
    add('--out', type=Path, default=Path('outputs/comparison'), metavar='OUT', help='folder')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, write the page, print the summary."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.top < 0 or args.max_side < 16:
        parser.error('--top must be >= 0 and --max-side >= 16')
    with exit_codes(PROG, wrong_input=1):
        comparison, missing = run(args)
        print_summary(comparison, missing)
        print(f'page: {args.out / "index.html"}')
    return 0


def print_summary(comparison: Comparison, missing: Sequence[str]) -> None:
    """Print the figures of both sides, and which images are missing."""
    from rich.console import Console

    console = Console()
    console.print(summary(comparison))
    better, worse = len(comparison.gained), len(comparison.lost)
    equal = len(comparison.images) - better - worse
    console.print(f'{better} photos better in B, {worse} worse, {equal} equal')
    for text in missing[:_SHOWN]:
        console.print(f'warning: {text}', markup=False, highlight=False)
    if len(missing) > _SHOWN:
        console.print(f'warning: {len(missing) - _SHOWN} more pictures are missing; see the page')


def run(args: argparse.Namespace) -> tuple[Comparison, list[str]]:
    """Compare and write the files; returns the figures and what is wrong with pictures.

    Raises:
        ValueError: the files do not fit; names the reason.
    """
    from ..datasets.eval_sets import find_annotations
    from ..evaluation.comparison import compare
    from ..evaluation.comparison_page import render_comparison_page
    from ..evaluation.scored import load_scored_results
    from ..io.atomic import write_json, write_text
    from ..io.tables import write_csv

    annotations = find_annotations(args.annotations, args.data_root)
    sides = [
        load_scored_results(file, annotations, [args.task], min_score=args.min_score)
        for file in (args.a, args.b)
    ]
    comparison = compare(sides[0], sides[1], args.task)
    names = {'annotations': str(annotations)}
    for name, file, side in zip('ab', (args.a, args.b), sides, strict=True):
        names[name] = f'{file} ({side.subject})' if side.subject else str(file)
    draw = CardMaker(args, sides, image_folders(args, annotations))
    gained = [draw(photo) for photo in comparison.gained[: args.top]]
    lost = [draw(photo) for photo in comparison.lost[: args.top]]
    page = render_comparison_page(comparison, names, gained, lost, min_score=args.min_score)
    write_text(args.out / 'index.html', page)
    write_csv(args.out / 'photos.csv', [p.to_row() for p in comparison.images])
    facts = {**names, 'min_score': args.min_score}
    write_json(args.out / 'comparison.json', comparison.to_json(facts), indent=1)
    problems = [f'{c.difference.file_name}: {c.problem}' for c in (*gained, *lost) if c.problem]
    return comparison, problems


def image_folders(args: argparse.Namespace, annotations: Path) -> list[Path]:
    """Where photos are looked for: as given, as the data set has them, or near the annotations.

    Raises:
        ValueError: the given folder does not exist.
    """
    from ..datasets.eval_sets import DatasetError, resolve_dataset

    if args.images is not None:
        if not args.images.is_dir():
            raise ValueError(f'--images {args.images} is no folder')
        return [args.images]
    try:
        return [resolve_dataset(args.annotations, args.data_root).images]
    except DatasetError:
        return [annotations.parent, annotations.parent / 'images']  # the page goes without


class CardMaker:
    """Draws the images of the page.

    Args:
        args: ``task`` and ``max_side`` of the command line.
        sides: A and B.
        folders: where images are looked for.
    """

    def __init__(
        self, args: argparse.Namespace, sides: Sequence[ScoredResults], folders: Sequence[Path]
    ) -> None:
        self.args, self.sides, self.folders = args, sides, folders
        truth = sides[0].annotations_of(args.task)
        self.images = {image['id']: image for image in truth['images']}
        self.people = truth['annotations']

    def __call__(self, photo: ImageDifference) -> Card:
        """The photo with both overlays; a missing picture is named on the page."""
        from ..evaluation.comparison_cards import make_card

        image = self.images[photo.image_id]
        a, b = ([r for r in side.results if r['image_id'] == photo.image_id] for side in self.sides)
        return make_card(
            photo,
            [p for p in self.people if p['image_id'] == photo.image_id],
            (a, b),
            self._picture(photo.file_name),
            size=(int(image['height']), int(image['width'])),
            task=self.args.task,
            max_side=self.args.max_side,
        )

    def _picture(self, name: str) -> Image | str:
        """The picture, or why there is none."""
        from ..io.images import ImageReadError, read_image

        found = [folder / name for folder in self.folders if (folder / name).is_file()]
        if not found:
            return f'no picture {name} in {" or ".join(map(str, self.folders))}'
        try:
            return read_image(found[0])
        except ImageReadError as error:
            return f'the picture cannot be read: {error}'


def summary(comparison: Comparison) -> Table:
    """Table for the screen."""
    from rich.table import Table

    table = Table(title=f'{comparison.task}, {len(comparison.images)} photos; percent, or number')
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
