"""Progress of a run: a bar with ETA on a terminal."""

from __future__ import annotations

from rich import progress
from rich.console import Console

from .progress import Reporter


class TerminalReporter(Reporter):
    """A progress bar; messages scroll above it."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._bar = progress.Progress(
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn('ETA'),
            progress.TimeRemainingColumn(),
            progress.TextColumn('{task.description}', markup=False),
            console=console,
        )
        self._task = self._bar.add_task('', total=None)

    def start(self, total: int) -> None:
        """Show the bar."""
        self._bar.update(self._task, total=total)
        self._bar.start()

    def update(self, name: str, text: str) -> None:
        """Move the bar."""
        self._bar.update(self._task, advance=1, description=f'{name}: {text}')

    def message(self, text: str) -> None:
        """Print above the bar."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Stop the bar."""
        self._bar.stop()
