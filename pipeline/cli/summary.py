"""Summary of a run for the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..io.run_options import RunReport

if TYPE_CHECKING:
    from rich.table import Table


def print_summary(report: RunReport, out_dir: Path) -> None:
    """Print counts, stage times and output paths."""
    from rich.console import Console

    console = Console(markup=False, emoji=False)
    console.print(build_counts(report))
    if report.seconds:
        console.print(build_times(report))
    lines = [f'results: {out_dir}']
    if report.failures:
        lines.append(f'{len(report.failures)} inputs failed: {out_dir / "failures.json"}')
    if report.interrupted:
        done = report.computed + report.resumed
        lines.append(
            f'interrupted: {done} of {report.images} images are done; run the same command again '
            'to continue'
        )
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def build_counts(report: RunReport) -> Table:
    """Build the table of images, people and failures."""
    from rich.table import Table

    table = Table('images', 'computed', 'done before', 'failed inputs', 'people')
    numbers = (report.images, report.computed, report.resumed, len(report.failures), report.people)
    for column in table.columns:
        column.justify = 'right'
    table.add_row(*(str(n) for n in numbers))
    return table


def build_times(report: RunReport) -> Table:
    """Build the table of seconds per stage, time per computed image and fraction of the total."""
    from rich.table import Table

    table = Table('stage')
    for name in ('seconds', 'ms per computed image', 'fraction'):
        table.add_column(name, justify='right')
    total = report.seconds.get('total', 0.0)
    stages = {k: v for k, v in report.seconds.items() if k != 'total'}
    rows = {**stages, 'other': max(total - sum(stages.values()), 0.0), 'total': total}
    for stage, seconds in rows.items():
        each = f'{1000 * seconds / report.computed:.1f}' if report.computed else '-'
        table.add_row(stage, f'{seconds:.2f}', each, f'{100 * seconds / max(total, 1e-9):.0f} %')
    return table
