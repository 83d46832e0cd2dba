"""Summary of a run for the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..io.progress import count_of
from ..io.run_options import RunReport

if TYPE_CHECKING:
    from rich.table import Table


def print_summary(report: RunReport, out_dir: Path) -> None:
    """Print counts, stage times and output paths."""
    from rich.console import Console

    console = Console(markup=False, emoji=False)
    if report.seconds:
        console.print(build_times(report))
    for line in summary_lines(report, out_dir):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def summary_lines(report: RunReport, out_dir: Path) -> list[str]:
    """Describe images, people, dropped candidates, failures and the folder in a few lines."""
    people = count_of(report.people, 'person', 'people')
    parts = [f'{count_of(report.images, "image")}: {people}']
    if report.empty:
        parts.append(f'{count_of(report.empty, "image")} without people')
    if report.dropped:
        below = count_of(report.dropped, 'candidate')
        parts.append(f'{below} below the minimum score {report.min_score:g} dropped')
    if report.resumed:
        parts.append(f'{report.computed} computed, {report.resumed} done before')
    lines = ['; '.join(parts)] if report.images or not report.videos else []
    lines += report.videos
    if report.failures:
        failed = count_of(len(report.failures), 'input')
        lines.append(f'{failed} failed: {out_dir / "failures.json"}')
    if report.interrupted:
        done = f'{report.computed + report.resumed} of {count_of(report.images, "image")} done; '
        lines.append(
            f'interrupted: {done if report.images else ""}run the same command again to continue'
        )
    return [*lines, f'results: {out_dir}']


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
