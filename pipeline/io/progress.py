"""Progress of a run in log lines; `pipeline.io.progress_bar` shows a bar on a terminal."""

from __future__ import annotations

import logging
import time

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


def format_time(seconds: float) -> str:
    """Format a duration as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{rest:02}'
