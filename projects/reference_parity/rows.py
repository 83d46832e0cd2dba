"""What a comparison with recorded numbers of the reference is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import recordings

Array = npt.NDArray[Any]

# Suggested by the README of the fixtures: ten times the largest effect of rounding seen there.
NETWORK, FEATURES, SCORES, EXACT = 1e-5, 5e-5, 1e-5, 0.0
PMPOSE_PX, MASKPOSE_PX, LOSS_RELATIVE, OKS = 5e-3, 1e-2, 1e-5, 1e-6


@dataclass(frozen=True)
class Row:
    """One comparison: the largest difference found, and the largest allowed."""

    fixture: str
    what: str
    difference: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.difference <= self.tolerance  # False for NaN


class Recorded(dict[str, Array]):
    """The arrays of a fixture; remembers which were read."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        super().__init__(arrays)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Array:
        self.read.add(key)
        return super().__getitem__(key)


class Comparison:
    """Collects the rows of one fixture."""

    def __init__(self, fixture: str, arrays: str | None = None) -> None:
        self.fixture = fixture
        content, self.facts = recordings.load(arrays or fixture)
        self.arrays = Recorded(content)
        self.rows: list[Row] = []

    def add(
        self, what: str, ours: Any, recorded: Any, tolerance: float, *, relative: bool = False
    ) -> None:
        """Compare two arrays; ``relative``: the tolerance is a fraction of the largest value.

        ``recorded`` is an array, or the name of one that the short recordings may leave out. Of
        several comparisons under one name the worst counts.
        """
        if isinstance(recorded, str):
            if recorded not in self.arrays:
                return
            recorded = self.arrays[recorded]
        difference = max_difference(np.asarray(ours), np.asarray(recorded))
        if relative:
            difference /= max(float(np.abs(recorded).max(initial=0)), 1e-30)
        self._keep(Row(self.fixture, what, difference, tolerance))

    def count(self, what: str, wrong: int) -> None:
        """Something that is right or wrong; none may be wrong."""
        self._keep(Row(self.fixture, what, float(wrong), EXACT))

    def _keep(self, row: Row) -> None:
        for i, other in enumerate(self.rows):
            if other.what == row.what:
                worse = max(row.difference, other.difference)
                self.rows[i] = Row(row.fixture, row.what, worse, row.tolerance)
                return
        self.rows.append(row)

    def unread(self) -> Iterator[str]:
        """Names of the arrays that nothing was compared with or computed from."""
        return (name for name in self.arrays if name not in self.arrays.read)


def max_difference(ours: Array, recorded: Array) -> float:
    """Largest absolute difference; infinite for other shapes or NaN in other places."""
    if ours.shape != recorded.shape:
        return float('inf')
    if ours.size == 0:
        return 0.0
    a, b = ours.astype(np.float64), recorded.astype(np.float64)
    if (np.isnan(a) != np.isnan(b)).any():
        return float('inf')
    return float(np.nan_to_num(np.abs(a - b), nan=0.0, posinf=np.inf).max())
