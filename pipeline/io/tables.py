"""Tables as CSV files and JSON."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from math import isinf
from pathlib import Path
from typing import IO, Any

from .atomic import write_text

FORMULA_STARTS = ('=', '+', '-', '@', '\t', '\r')


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with equal keys in UTF-8, with a header; None is an empty cell.

    Raises:
        ValueError: There are no rows, or their keys differ.
    """
    if not rows:
        raise ValueError(f'{path}: a table needs at least one row')
    names = list(rows[0])
    unknown = {name for row in rows for name in row} - set(names)
    if unknown:
        raise ValueError(f'{path}: only some rows have {", ".join(map(str, unknown))}')
    stream = StringIO()
    writer = CsvWriter(stream)
    writer.writerow(names)
    for row in rows:
        writer.writerow([row.get(name) for name in names])
    write_text(path, stream.getvalue())


class CsvWriter:
    """Like `csv.writer`, for lines that end with a line feed; None is an empty cell.

    A text that a spreadsheet would run as a formula gets an apostrophe in front.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def writerow(self, cells: Iterable[object]) -> None:
        """Write a line."""
        line = StringIO()
        # With this terminator, cells with a carriage return are quoted, too.
        csv.writer(line, lineterminator='\r\n').writerow(map(_neutralise_formula, cells))
        self._stream.write(line.getvalue().removesuffix('\r\n') + '\n')


def escape_markdown(text: str) -> str:
    """Return a text that Markdown shows as it is, in one line."""
    return re.sub(
        r'[\\`*\[\]<>|&~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])', r'\\\g<0>', ' '.join(text.split())
    )


def _neutralise_formula(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell


def replace_infinity(row: Mapping[str, Any]) -> dict[str, Any]:
    """Replace infinity by None, for JSON."""
    return {k: None if isinstance(v, float) and isinf(v) else v for k, v in row.items()}
