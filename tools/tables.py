"""Tables that read well in a terminal and are Markdown when redirected to a file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of text under their titles; cells wrap where a terminal is narrow."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=box.MARKDOWN)
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 1000, highlight=False, markup=False)
    with console.capture() as text:
        console.print(table)
    print('\n'.join(line.rstrip() for line in text.get().strip().splitlines()))
