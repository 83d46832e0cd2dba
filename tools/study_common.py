"""What the study tools share: the pipeline, the data set, the loop over its photos."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from run_bmp import parse_pairs

if TYPE_CHECKING:
    from pipeline.build import BuiltPipeline
    from pipeline.config import ResolvedConfig
    from pipeline.datasets.eval_sets import EvalDataset
    from pipeline.io.inputs import Failure
    from pipeline.studies.photos import Computed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add CONFIG, the data set, the device and the output folder."""
    add = parser.add_argument
    add('config', metavar='CONFIG', help='pipeline: name in configs/, or file')
    add('--data', required=True, metavar='NAME|FILE', help='data set, or COCO annotation file')
    add('--data-root', type=Path, metavar='DIR', help='of named data sets (default: $BMP_DATA)')
    add('--images', type=Path, metavar='DIR', help='photos, if they are not where expected')
    add('--limit', type=int, metavar='N', help='the first N photos only')
    add('--device', help='auto, cpu, cuda, cuda:1, ... (default: what the config says)')
    add('--out', type=Path, metavar='OUT', help='folder; a study there is continued')
    add(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
        help='override settings of the config',
    )  # fmt: skip


def config_options(args: argparse.Namespace) -> dict[str, Any]:
    """Overrides of the config.

    Raises:
        ValueError: a pair is not KEY=VALUE.
    """
    options = parse_pairs(args.cfg_options, 'write KEY=VALUE')
    if args.device:
        options['runtime.device'] = args.device
    return options


def find_data(args: argparse.Namespace) -> EvalDataset:
    """The data set that the arguments name.

    Raises:
        DatasetError: it is unknown or incomplete.
    """
    from pipeline.datasets.eval_sets import resolve_dataset

    if args.limit is not None and args.limit < 1:
        raise ValueError(f'--limit must be >= 1, got {args.limit}')
    return resolve_dataset(args.data, args.data_root, images=args.images)


def build(config: ResolvedConfig) -> BuiltPipeline:
    """The models; what their libraries deprecate among themselves is no news to a user."""
    from pipeline.build import build_pipeline
    from pipeline.openmmlab import quiet_libraries

    quiet_libraries()
    return build_pipeline(config)


def guarded(name: str, run: Callable[[], int]) -> int:
    """Exit code of a tool: errors of the user as one message, Ctrl-C as 130."""
    from pipeline.weights.checkpoints import CheckpointError

    logging.basicConfig(format='%(message)s')
    logging.getLogger('pipeline').setLevel(logging.INFO)
    try:
        return run()
    except KeyboardInterrupt:
        print(f'{name}: interrupted; the same command goes on', file=sys.stderr)
        return 130
    except (OSError, ValueError, CheckpointError) as error:
        print(f'{name}: {error}', file=sys.stderr)
        return 1


def check_computed(computed: Computed) -> None:
    """Stop where there is nothing to tell.

    Raises:
        ValueError: no photo is done; names the first reason.
    """
    if not computed.parts:
        reasons = [f.described() for f in computed.failures] or ['the data set has none']
        raise ValueError(f'no photo is done: {reasons[0]}')


def report(failures: Sequence[Failure], notes: Sequence[str], out: Path) -> int:
    """Tell what is left out, and where the files are; returns the exit code."""
    for note in notes:
        print(f'note: {note}')
    if failures:
        print(f'{len(failures)} photos failed and are left out, people and all:')
        for failure in failures[:5]:
            print(f'  {failure.described()}')
    print(f'tables, charts and what was computed: {out}')
    return int(bool(failures))
