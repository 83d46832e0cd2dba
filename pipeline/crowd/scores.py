"""Counting errors, localisation and intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CountingErrors:
    """Errors of counts.

    Attributes:
        images: number of images.
        mae: mean absolute error, people.
        rmse: root of the mean squared error, which papers on counting call "MSE".
        bias: mean error; below 0: people are missed.
    """

    images: int
    mae: float
    rmse: float
    bias: float


@dataclass(frozen=True)
class Localisation:
    """One-to-one matches of points; fractions are 1 if there is nothing to find or to refute."""

    matches: int
    false_positives: int
    misses: int

    @property
    def precision(self) -> float:
        """Matched part of the predictions."""
        found = self.matches + self.false_positives
        return self.matches / found if found else 1.0

    @property
    def recall(self) -> float:
        """Matched part of the annotations."""
        true = self.matches + self.misses
        return self.matches / true if true else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = 2 * self.matches + self.false_positives + self.misses
        return 2 * self.matches / total if total else 1.0

    def __add__(self, other: Localisation) -> Localisation:
        return Localisation(
            self.matches + other.matches,
            self.false_positives + other.false_positives,
            self.misses + other.misses,
        )


def score_counts(predicted: npt.ArrayLike, true: npt.ArrayLike) -> CountingErrors:
    """Errors of predicted counts (I,) of images."""
    errors = np.asarray(predicted, np.float64) - np.asarray(true, np.float64)
    if errors.ndim != 1 or not len(errors):
        raise ValueError(f'counts of one or more images are needed, got shape {errors.shape}')
    rmse = float(np.sqrt((errors**2).mean()))
    return CountingErrors(len(errors), float(np.abs(errors).mean()), rmse, float(errors.mean()))


def match_points(predicted: Doubles, true: Doubles, max_distance: float | Doubles) -> Localisation:
    """Match points one to one, as many as possible within a distance.

    Args:
        predicted: (N, 2) px.
        true: (M, 2) px.
        max_distance: px; one number or one per true point, (M,).
    """
    from scipy.optimize import linear_sum_assignment

    apart = np.linalg.norm(predicted[:, None] - true[None], axis=2)
    limit = np.broadcast_to(np.asarray(max_distance, np.float64), (len(true),))
    allowed = apart <= limit
    far = 1e6
    rows, columns = linear_sum_assignment(np.where(allowed, apart, far))
    matches = int(allowed[rows, columns].sum())
    return Localisation(matches, len(predicted) - matches, len(true) - matches)


def bootstrap_mean(
    values: npt.ArrayLike, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Interval of a mean by resampling the values; NaN for fewer than two."""
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    if len(known) < 2:
        return float('nan'), float('nan')
    rng = np.random.default_rng(seed)
    means = known[rng.integers(len(known), size=(resamples, len(known)))].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_count(
    count: int, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Interval of a count by a Poisson bootstrap over people: each counts 0, 1, 2, ... times."""
    counts = np.random.default_rng(seed).poisson(count, resamples)
    low, high = np.quantile(counts, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
