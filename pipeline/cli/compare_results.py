"""Compare two COCO results files image by image.

Writes OUT/index.html (one file, works offline) with both results side by side, OUT/photos.csv and
OUT/comparison.json, and prints a summary. The quality of an image is 2 * (sum of the overlaps of
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
from .options import add_data_root, add_person_category, handle_errors, make_parser

if TYPE_CHECKING:
    from rich.table import Table

    from ..evaluation.comparison import Comparison, ImageDifference
    from ..evaluation.comparison_cards import Card
    from ..evaluation.scored import ScoredResults
    from ..structures import Image

PROG = 'bmp compare'
MAX_WARNINGS = 5


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = make_parser(PROG, __doc__)
    add = parser.add_argument
    add('a', type=Path, metavar='A', help='COCO results, the baseline')
    add('b', type=Path, metavar='B', help='COCO results to compare with A')
    add('annotations', metavar='ANNOTATIONS', help='COCO annotations of people, or a data set')
    add_data_root(parser)
    add_person_category(parser)
    add('--images', type=Path, metavar='DIR', help='images (default: next to the annotations)')
    add('--task', choices=TASKS, default='segm', help='default: segm')
    add('--min-score', type=float, default=0, metavar='S', help='ignore results with lower scores')
    add('--top', type=int, default=20, metavar='N', help='images shown of each kind (default: 20)')
    add('--max-side', type=int, default=720, metavar='PX', help='image size (default: 720)')
    add('--out', type=Path, default=Path('outputs/comparison'), metavar='OUT', help='folder')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, write the page and print the summary."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.top < 0 or args.max_side < 16:
        parser.error('--top must be >= 0 and --max-side >= 16')
    with handle_errors(PROG):
        comparison, problems = run(args)
        print_summary(comparison, problems)
        print(f'page: {args.out / "index.html"}')
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


def run(args: argparse.Namespace) -> tuple[Comparison, list[str]]:
    """Compare and write the files; returns the comparison and the problems with images.

    Raises:
        ValueError: The files do not fit.
    """
    from ..datasets.eval_sets import find_annotations
    from ..evaluation.comparison import compare
    from ..evaluation.comparison_page import render_comparison_page
    from ..evaluation.scored import load_scored_results
    from ..io.atomic import write_json, write_text
    from ..io.tables import write_csv

    annotations = find_annotations(args.annotations, args.data_root)
    sides = [
        load_scored_results(
            file,
            annotations,
            [args.task],
            min_score=args.min_score,
            person_category=args.person_category,
        )
        for file in (args.a, args.b)
    ]
    comparison = compare(sides[0], sides[1], args.task)
    names = {'annotations': str(annotations)}
    for name, file, side in zip('ab', (args.a, args.b), sides, strict=True):
        names[name] = f'{file} ({side.subject})' if side.subject else str(file)
    make_card = CardMaker(args, sides, find_image_folders(args, annotations))
    gained = [make_card(difference) for difference in comparison.gained[: args.top]]
    lost = [make_card(difference) for difference in comparison.lost[: args.top]]
    page = render_comparison_page(comparison, names, gained, lost, min_score=args.min_score)
    write_text(args.out / 'index.html', page)
    write_csv(args.out / 'photos.csv', [p.to_row() for p in comparison.images])
    facts = {**names, 'min_score': args.min_score}
    write_json(args.out / 'comparison.json', comparison.to_json(facts), indent=1)
    problems = [f'{c.difference.file_name}: {c.problem}' for c in (*gained, *lost) if c.problem]
    return comparison, problems


def find_image_folders(args: argparse.Namespace, annotations: Path) -> list[Path]:
    """Return the folders to search: --images, that of the data set, or next to the annotations.

    Raises:
        ValueError: --images does not exist.
    """
    from ..datasets.eval_sets import DatasetError, resolve_dataset

    if args.images is not None:
        if not args.images.is_dir():
            raise ValueError(f'--images {args.images} is not a folder')
        return [args.images]
    try:
        return [
            resolve_dataset(
                args.annotations, args.data_root, person_category=args.person_category
            ).images
        ]
    except DatasetError:
        return [annotations.parent, annotations.parent / 'images']  # images are optional


class CardMaker:
    """Draws the images of the page.

    Args:
        args: ``task`` and ``max_side`` of the command line.
        sides: Results A and B.
        folders: Folders to search for images.
    """

    def __init__(
        self, args: argparse.Namespace, sides: Sequence[ScoredResults], folders: Sequence[Path]
    ) -> None:
        self.args, self.sides, self.folders = args, sides, folders
        ground_truth = sides[0].annotations_of(args.task)
        self.images = {image['id']: image for image in ground_truth['images']}
        self.people = ground_truth['annotations']

    def __call__(self, difference: ImageDifference) -> Card:
        """Draw an image with both overlays; the card names a missing image."""
        from ..evaluation.comparison_cards import make_card

        image_id = difference.image_id
        info = self.images[image_id]
        a, b = ([r for r in side.results if r['image_id'] == image_id] for side in self.sides)
        return make_card(
            difference,
            [p for p in self.people if p['image_id'] == image_id],
            (a, b),
            self._read(difference.file_name),
            size=(int(info['height']), int(info['width'])),
            task=self.args.task,
            max_side=self.args.max_side,
        )

    def _read(self, name: str) -> Image | str:
        """Read an image; returns the reason if that fails."""
        from ..io.images import ImageReadError, read_image
        from ..io.inputs import is_file, locate_image

        paths = [locate_image(folder, name) for folder in self.folders]
        paths = [path for path in paths if is_file(path)]
        if not paths:
            return f'no image {name} in {" or ".join(map(str, self.folders))}'
        folders = [folder.resolve() for folder in self.folders]
        paths = [path for path in paths if any(map(path.resolve().is_relative_to, folders))]
        if not paths:
            return f'{name} is outside of the image folder, and is not opened'
        try:
            return read_image(paths[0])
        except ImageReadError as error:
            return f'the image cannot be read: {error}'


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
