"""Progress of a run: a bar with ETA on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

logger = logging.getLogger(__name__)
LOG_INTERVAL_S = 2.0


class Reporter:
    """Log lines: at most one every `LOG_INTERVAL_S` seconds, and one for the last image."""

    def __init__(self, interval_s: float = LOG_INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._total = self._number = 0
        self._started = self._last_log = 0.0

    def start(self, total: int) -> None:
        """Start a run of ``total`` images."""
        self._total, self._started = total, time.monotonic()
        logger.info('%d images', total)

    def update(self, name: str, text: str) -> None:
        """Report that an image is done or has failed."""
        self._number += 1
        now = time.monotonic()
        if now - self._last_log < self._interval_s and self._number < self._total:
            return
        self._last_log = now
        left = format_time((now - self._started) / self._number * (self._total - self._number))
        logger.info('[%d/%d] ETA %s %s: %s', self._number, self._total, left, name, text)

    def message(self, text: str) -> None:
        """Show a message to the user."""
        logger.warning('%s', text)

    def stop(self) -> None:
        """End the run."""


class TerminalReporter(Reporter):
    """A progress bar; messages scroll above it."""

    def __init__(self, console: Console) -> None:
        from rich import progress

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


def make_reporter() -> Reporter:
    """Create a bar on stderr if it is a terminal, else log lines."""
    from rich.console import Console

    console = Console(stderr=True)
    return TerminalReporter(console) if console.is_terminal else Reporter()


def format_time(seconds: float) -> str:
    """Format a duration as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{rest:02}'
