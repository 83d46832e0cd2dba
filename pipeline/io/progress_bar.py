"""Progress of a run: a bar with ETA on a terminal."""

from __future__ import annotations

from rich import progress
from rich.console import Console

from .progress import Reporter


class TerminalReporter(Reporter):
    """A progress bar; messages scroll above it."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._bar_width = max(5, min(40, console.width // 2 - 25))
        self._bar = progress.Progress(
            progress.BarColumn(bar_width=self._bar_width),
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
        self._total = total
        self._bar.reset(self._task, total=total)  # the models were loaded in the meantime
        self._bar.start()

    def update(self, name: str, text: str) -> None:
        """Move the bar; a narrow terminal shortens the name of the image, not the result."""
        counts = 2 * len(str(self._total)) + 1
        used = self._bar_width + counts + len(f' 0:00:00 ETA 0:00:00  : {text}')
        description = f'{shorten_name(name, self._bar.console.width - used)}: {text}'
        self._bar.update(self._task, advance=1, description=description)

    def message(self, text: str) -> None:
        """Print above the bar."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Stop the bar."""
        self._bar.stop()


def shorten_name(name: str, width: int) -> str:
    """Replace the start of a name by an ellipsis if it is longer than ``width``."""
    if len(name) <= width:
        return name
    return '\N{HORIZONTAL ELLIPSIS}' + name[len(name) - max(width - 1, 0) :]
