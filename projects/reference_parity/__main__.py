"""Compare our numbers with the recorded ones of the reference: python -m projects.reference_parity.

Each fixture has a function that returns a `Comparison`; tests/test_parity.py asserts its rows.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pipeline.registry  # noqa: F401 - the rows build models and codecs by name

from . import loop_rows, model_rows, pose_rows, recordings, trace_rows
from .rows import Comparison, Row

PARTS: dict[str, Callable[[], Comparison]] = {
    'pmpose_head': pose_rows.pmpose_head,
    'pmpose_full': model_rows.pmpose_full,
    'maskpose21_full': model_rows.maskpose21_full,
    'maskpose21_full_npmeta': model_rows.maskpose21_full_npmeta,
    'maskpose23_full': model_rows.maskpose23_full,
    'mask_background': pose_rows.mask_background,
    'oks_target_maps': pose_rows.oks_target_maps,
    'losses': pose_rows.losses,
    'multihead_loss': pose_rows.multihead_loss,
    'pose_nms': loop_rows.pose_nms,
    'keypoint_selection': loop_rows.keypoint_selection,
    'mask_ops': loop_rows.mask_ops,
    'rtmdet_ins': model_rows.rtmdet_ins,
}

FILES = {'maskpose21_full_npmeta': 'maskpose21_full_npmeta.pth'}  # others: name.npz

# Arrays that nothing is compared with, by name pattern.
NOT_COMPARED = {
    'err_*raw': 'the error branch is random and frozen; our head drops it',
    '*_keypoints_error': 'error branch',
    '*_error_*': 'error branch',
    '*_loss_error': 'error branch',
    '*_mae_err': 'error branch',
    'kpt_sensitivity_*': 'how well conditioned the recorded numbers are',
    '*_kpt_fp64_diff': 'how well conditioned the recorded numbers are',
    'box_prompt_extended': 'extend_bbox, off in every released config, is not offered',
    'c*_sam_kpts': 'a column that our rows do not have: they keep indices of keypoints',
    'c*_sam_scores': 'a column joined like every other',
    'c*_scores': 'a column that our rows do not have',
    'sam_radius': 'read only in scenes with prompts',
}


def comparisons() -> dict[str, Callable[[], Comparison]]:
    """Every comparison that the recordings allow, by name."""
    there = {
        name: part for name, part in PARTS.items() if recordings.has(FILES.get(name, f'{name}.npz'))
    }
    traces = {
        f'loop_trace: {name}': partial(trace_rows.loop_trace, name) for name in trace_rows.scenes()
    }
    return {**there, **traces}


def unnamed(c: Comparison) -> list[str]:
    """Arrays that were neither read nor are named in `NOT_COMPARED`."""
    return [
        name
        for name in c.unread()
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in NOT_COMPARED)
    ]


def grouped(rows: list[Row]) -> list[Row]:
    """The worst row of each group; the group is the name up to a bar."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.what.split(' | ')[0], []).append(row)
    worst = {what: max(group, key=_badness) for what, group in groups.items()}
    return [Row(r.fixture, what, r.difference, r.tolerance) for what, r in worst.items()]


def _badness(row: Row) -> tuple[bool, float]:
    return not row.ok, row.difference


def show(every_row: bool) -> int:
    """Print the table; the number of rows out of tolerance."""
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(
        Column('fixture', no_wrap=True), 'what is compared', 'max difference', 'tolerance', 'ok'
    )
    failed = 0
    for name, compare in comparisons().items():
        rows = compare().rows
        failed += sum(not row.ok for row in rows)
        for row in rows if every_row else grouped(rows):
            values = (f'{row.difference:.1e}', f'{row.tolerance:.0e}' if row.tolerance else 'exact')
            table.add_row(name, row.what, *values, 'yes' if row.ok else '[red]NO')
        table.add_section()
    console = Console(width=None if os.isatty(1) else 132)
    console.print(table)
    console.print('Not compared: ' + '; '.join(f'{k} ({v})' for k, v in NOT_COMPARED.items()))
    return failed


def main() -> None:
    """Print the table; exit code 1 if a row is out of tolerance."""
    parser = argparse.ArgumentParser(
        prog='python -m projects.reference_parity', description=__doc__
    )
    parser.add_argument(
        '--all', action='store_true', help='every row, not only the worst of each group'
    )
    parser.add_argument(
        '--fixtures', type=Path, metavar='DIR', help='folder with the complete recordings'
    )
    arguments = parser.parse_args()
    if arguments.fixtures:
        recordings.read_from(arguments.fixtures)
    if not recordings.has('loop_trace.json'):
        parser.error(f'no recordings in {recordings.folder}')
    raise SystemExit(show(arguments.all) > 0)


if __name__ == '__main__':
    import warnings

    warnings.simplefilter('ignore')
    main()
