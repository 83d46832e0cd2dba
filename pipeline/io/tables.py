"""Tables as CSV files and JSON."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from math import isinf
from pathlib import Path
from typing import Any

from .atomic import write_text


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with equal keys in UTF-8, with a header; None is an empty cell.

    Raises:
        ValueError: There are no rows, or their keys differ.
    """
    if not rows:
        raise ValueError(f'{path}: a table needs at least one row')
    stream = StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())


def replace_infinity(row: Mapping[str, Any]) -> dict[str, Any]:
    """Replace infinity by None, for JSON."""
    return {k: None if isinstance(v, float) and isinf(v) else v for k, v in row.items()}
