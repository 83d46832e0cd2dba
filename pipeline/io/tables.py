"""Tables as CSV files: UTF-8, one header line, empty cells for None."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from math import isinf
from pathlib import Path
from typing import Any

from .atomic import write_text


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with equal keys; floats keep all their digits.

    Raises:
        ValueError: no rows, or rows with different keys.
    """
    if not rows:
        raise ValueError(f'{path}: a table needs at least one row')
    stream = StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())


def finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row for JSON, which has no infinity: None in its place."""
    return {k: None if isinstance(v, float) and isinf(v) else v for k, v in row.items()}
