"""Shared command-line functions of the study tools."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.options import add_data_root, add_runtime_options

if TYPE_CHECKING:
    from pipeline.datasets.eval_sets import EvalDataset
    from pipeline.io.inputs import Failure
    from projects.studies.images import Computed


def add_arguments(parser: argparse.ArgumentParser, out: str) -> None:
    """Add CONFIG, the data set, the device and the output folder."""
    add = parser.add_argument
    add('config', metavar='CONFIG', help='pipeline: name in configs/, or file')
    add('--data', required=True, metavar='NAME|FILE', help='data set, or COCO annotation file')
    add_data_root(parser)
    add('--images', type=Path, metavar='DIR', help='images, if they are not where expected')
    add('--limit', type=int, metavar='N', help='the first N images only')
    add('--out', type=Path, default=Path(out), metavar='OUT',
        help='folder; a study there is continued (default: %(default)s)')  # fmt: skip
    add_runtime_options(parser)


def find_data(args: argparse.Namespace) -> EvalDataset:
    """Resolve the data set of the arguments.

    Raises:
        DatasetError: it is unknown or incomplete.
    """
    from pipeline.datasets.eval_sets import resolve_dataset

    if args.limit is not None and args.limit < 1:
        raise ValueError(f'--limit must be >= 1, got {args.limit}')
    return resolve_dataset(args.data, args.data_root, images=args.images)


def check_computed(computed: Computed) -> None:
    """Check that there is something to report.

    Raises:
        ValueError: no image was computed; has the first reason.
    """
    if not computed.parts:
        reasons = [f.describe() for f in computed.failures] or ['the data set has no images']
        raise ValueError(f'no image was computed: {reasons[0]}')


def report(failures: Sequence[Failure], notes: Sequence[str], out: Path) -> int:
    """Print failures, notes and the output folder; returns the exit code."""
    for note in notes:
        print(f'note: {note}')
    if failures:
        print(f'{len(failures)} images failed and are excluded with their people:')
        for failure in failures[:5]:
            print(f'  {failure.describe()}')
    print(f'tables, charts and computed parts: {out}')
    return int(bool(failures))
