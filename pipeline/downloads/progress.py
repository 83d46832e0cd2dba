"""Progress of downloads: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ..weights.checkpoints import size_text

LINE_INTERVAL_S = 10.0


class Reporter(Protocol):
    """Hears about downloads."""

    def begin(self, name: str, done: int, total: int | None) -> None:
        """A transfer starts or goes on: bytes that are here, bytes of the whole file."""

    def advance(self, count: int) -> None:
        """Bytes have come."""

    def message(self, text: str) -> None:
        """Something that the user should read."""


class Display(Reporter, Protocol):
    """A reporter that is shown within a ``with`` block."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Bar:
    """One bar per file; messages scroll above."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn('{task.description}', markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._task = TaskID(0)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, name: str, done: int, total: int | None) -> None:
        """Show the bar of this file."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name)
        self._task = self._tasks[name]
        self._progress.update(self._task, completed=done, total=total)

    def advance(self, count: int) -> None:
        """Move the bar."""
        self._progress.advance(self._task, count)

    def message(self, text: str) -> None:
        """Print above the bars."""
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)


class Lines:
    """A line per file, and one every `LINE_INTERVAL_S` while it comes."""

    def __init__(self, console: Console, interval_s: float = LINE_INTERVAL_S) -> None:
        self._console = console
        self._interval_s = interval_s
        self._name, self._done, self._total = '', 0, ''
        self._spoke = 0.0

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def begin(self, name: str, done: int, total: int | None) -> None:
        """Say what comes."""
        self._name, self._done = name, done
        self._total = size_text(total)
        kept = f', {size_text(done)} of it are here' if done else ''
        self.message(f'{name}: {self._total}{kept}')

    def advance(self, count: int) -> None:
        """Say how far it is, now and then."""
        self._done += count
        if time.monotonic() - self._spoke >= self._interval_s:
            self.message(f'{self._name}: {size_text(self._done)} of {self._total}')

    def message(self, text: str) -> None:
        """Print it."""
        self._spoke = time.monotonic()
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def make_display() -> Display:
    """Bars on stderr if that is a terminal, else lines."""
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else Lines(console)
