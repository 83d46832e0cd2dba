"""What is here of the manifest, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.table import Table
from rich.text import Text

from ..weights.checkpoints import path_of, problem_with, size_text
from ..weights.loading import not_weights
from ..weights.manifest import WeightsEntry
from .fetch import trust
from .part import PartFile

State = Literal['here', 'partly', 'absent', 'wrong']
_STYLES: dict[State, str] = {'here': 'green', 'partly': 'yellow', 'absent': '', 'wrong': 'bold red'}


@dataclass(frozen=True)
class Status:
    """One entry and its file.

    Attributes:
        entry: Of the manifest.
        state: Of the file.
        detail: How it is known, or what is wrong.
        size: Bytes of the whole file; None if nobody said.
    """

    entry: WeightsEntry
    state: State
    detail: str
    size: int | None


def status_of(entry: WeightsEntry, folder: Path, *, verify: bool) -> Status:
    """State of the file of an entry.

    Args:
        entry: Of the manifest.
        folder: Of the downloads.
        verify: Compare the checksum too; a file for which none is known is trusted and recorded.
    """
    path = path_of(entry, folder)
    if path.is_file():
        return _verified(entry, path) if verify else _glanced_at(entry, path)
    part = PartFile(path)
    origin = part.origin()
    size = entry.size or (origin.size if origin else None)
    if origin and part.size:
        return Status(entry, 'partly', f'{size_text(part.size)} of {size_text(size)}', size)
    return Status(entry, 'absent', '', size)


def _glanced_at(entry: WeightsEntry, path: Path) -> Status:
    size = path.stat().st_size
    problem = not_weights(path)
    if entry.size is not None and size != entry.size:
        problem = f'it has {size} bytes, expected {entry.size}'
    return Status(entry, 'wrong' if problem else 'here', problem, entry.size or size)


def _verified(entry: WeightsEntry, path: Path) -> Status:
    problem, digest = problem_with(entry, path)
    if problem:
        return Status(entry, 'wrong', problem, entry.size or path.stat().st_size)
    known = 'sha256 as published' if entry.sha256 else 'sha256 as recorded'
    if trust(entry, path, digest):
        known = 'sha256 recorded now'
    if entry.sha256_prefix and not entry.sha256:
        known += ', begins as published'
    return Status(entry, 'here', known, path.stat().st_size)


def table_of(rows: Sequence[Status], *, verified: bool) -> Table:
    """Name, use, size, state and licence of each entry."""
    table = Table('name', 'for', 'what', box=None, pad_edge=False, header_style='bold')
    table.add_column('size', justify='right', no_wrap=True)
    table.add_column('state', no_wrap=not verified)
    table.add_column('licence')
    table.columns[0].no_wrap = True
    for row in rows:
        state = f'{row.state}: {row.detail}' if row.detail else row.state
        if row.entry.embedded:
            state += ' (embedded)' if not row.detail else ''
        table.add_row(
            row.entry.name,
            row.entry.kind,
            row.entry.about,
            '?' if row.size is None else size_text(row.size),
            Text(state, _STYLES[row.state]),
            row.entry.licence,
        )
    return table
