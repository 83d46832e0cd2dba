"""Does a cost grow in proportion? A line through it, and the exponent of its growth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_MIN_POINTS = 3
Column = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """Growth of a cost y with a size x.

    Attributes:
        fixed: y of the fitted line at x = 0.
        slope: y per unit of x.
        r2: share of the variance that the line explains; 1 is a perfect line, 0 none.
        exponent: slope of log y over log x in the upper half of the sizes, where a fixed part
            counts least: 1 is linear, 2 quadratic. None with fewer than three sizes there, or
            where a cost is not above zero.
    """

    fixed: float
    slope: float
    r2: float
    exponent: float | None


def fit_growth(sizes: Sequence[float], costs: Sequence[float]) -> Fit:
    """Fit a cost against its size.

    Args:
        sizes: x, at least two different ones.
        costs: y, as many.

    Raises:
        ValueError: fewer than two different sizes, or another number of costs.
    """
    x, y = np.asarray(sizes, np.float64), np.asarray(costs, np.float64)
    if x.shape != y.shape or len(np.unique(x)) < 2:
        raise ValueError(
            f'a fit needs at least two different sizes and a cost for each, got {list(sizes)} '
            f'and {list(costs)}'
        )
    slope, fixed = np.polyfit(x, y, 1)
    spread = ((y - y.mean()) ** 2).sum()
    left = ((y - (fixed + slope * x)) ** 2).sum()
    r2 = 1.0 if spread == 0 else max(1.0 - left / spread, 0.0)
    return Fit(float(fixed), float(slope), float(r2), _exponent(x, y))


def _exponent(x: Column, y: Column) -> float | None:
    upper = x >= np.median(x)
    if upper.sum() < _MIN_POINTS or (x[upper] <= 0).any() or (y[upper] <= 0).any():
        return None
    return float(np.polyfit(np.log(x[upper]), np.log(y[upper]), 1)[0])
