"""Progress of a run in log lines; `pipeline.io.progress_bar` shows a bar on a terminal."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger(__name__)


class Reporter:
    """Log lines, one per image."""

    def __init__(self) -> None:
        self._total = self._number = 0
        self._started = 0.0

    def start(self, total: int) -> None:
        """Start a run of ``total`` images."""
        self._total, self._started = total, time.monotonic()
        logger.info('%s', count_of(total, 'image'))

    def update(self, name: str, text: str) -> None:
        """Report that an image is done or has failed."""
        self._number += 1
        seconds, left = time.monotonic() - self._started, self._total - self._number
        eta = f', ETA {format_time(seconds / self._number * left)}' if left > 0 else ''
        logger.info('[%d/%d] %s: %s%s', self._number, self._total, name, text, eta)

    def message(self, text: str) -> None:
        """Show a message to the user."""
        logger.warning('%s', text)

    def stop(self) -> None:
        """End the run."""


def format_time(seconds: float) -> str:
    """Format a duration as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{rest:02}'


def count_of(number: int, one: str, many: str = '') -> str:
    """Format a count with the singular or the plural (default: ``one`` with an s)."""
    return f'{number} {one if number == 1 else many or one + "s"}'
