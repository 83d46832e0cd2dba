"""How far the score of a result can be read as the probability that it is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..io.coco import Task
from .overlaps import ImageOverlaps, Numbers, compute_overlaps
from .precision import match
from .scored import ScoredResults

SCORE_BINS = 10
HIT = 0.5  # overlap from which a result is right


@dataclass(frozen=True)
class CalibrationRow:
    """Results of one task with a score in [low, high), the last bin with 1."""

    task: Task
    low: float
    high: float
    num_results: int  # those that are somebody ignored left out
    mean_score: float | None
    precision: float | None  # share that overlaps an own person by at least `HIT`


@dataclass(frozen=True)
class CalibrationTable:
    """How far a score can be read as the probability to be right."""

    rows: tuple[CalibrationRow, ...]

    def error(self, task: Task) -> float | None:
        """Expected calibration error: mean gap of score and precision, weighed by results."""
        rows = [r for r in self.rows if r.task == task and r.num_results]
        total = sum(r.num_results for r in rows)
        gaps = [r.num_results * abs(_known(r.precision) - _known(r.mean_score)) for r in rows]
        return sum(gaps) / total if total else None

    def bias(self, task: Task) -> float:
        """Mean score minus precision of all results; above 0 is over-confident."""
        rows = [r for r in self.rows if r.task == task and r.num_results]
        total = sum(r.num_results for r in rows)
        gaps = (r.num_results * (_known(r.mean_score) - _known(r.precision)) for r in rows)
        return sum(gaps) / max(total, 1)

    @property
    def text(self) -> str:
        """Error and direction of each task."""
        lines = []
        for task in dict.fromkeys(r.task for r in self.rows):
            error, bias = self.error(task), self.bias(task)
            if error is None:
                lines.append(f'{task}: no results')
            else:
                word = 'high' if bias > 0 else 'low'
                lines.append(f'{task}: ECE {error:.3f}, on average {abs(bias):.3f} too {word}')
        return f'Score as probability of an overlap of {HIT:.1f}: ' + '; '.join(lines)


def measure_calibration(scored: ScoredResults, bins: int = SCORE_BINS) -> CalibrationTable:
    """Precision at an overlap of 0.5 by score, in ``bins`` equal parts of [0, 1].

    A result is right when COCO's matching gives it a person; a second result for the same person
    is wrong. Results that lie on ignored people or crowd regions are left out.

    Raises:
        ValueError: scores outside of [0, 1], or fewer than one bin.
    """
    if bins < 1:
        raise ValueError(f'bins must be >= 1, got {bins}')
    wrong = [r['score'] for r in scored.results if not 0 <= r['score'] <= 1]
    if wrong:
        raise ValueError(f'calibration needs scores in [0, 1], got {wrong[0]}')
    edges = np.linspace(0, 1, bins + 1)
    rows = []
    for task in scored.tasks:
        scores, hits = _right(compute_overlaps(scored, task))
        place = np.minimum(np.searchsorted(edges, scores, side='right') - 1, bins - 1)
        for b in range(bins):
            inside = place == b
            rows.append(
                CalibrationRow(
                    task, float(edges[b]), float(edges[b + 1]), int(inside.sum()),
                    _mean(scores[inside]), _mean(hits[inside]),
                )
            )  # fmt: skip
    return CalibrationTable(tuple(rows))


def _right(photos: Sequence[ImageOverlaps]) -> tuple[Numbers, Numbers]:
    """Scores of the results that count, and 1 where they are right."""
    scores, hits = [np.zeros(0)], [np.zeros(0)]
    for photo in photos:
        matched = match(photo, HIT)
        counted = ~np.append(photo.ignored, False)[matched]
        scores.append(photo.scores[counted])
        hits.append((matched[counted] >= 0).astype(np.float64))
    return np.concatenate(scores), np.concatenate(hits)


def _known(value: float | None) -> float:
    return 0.0 if value is None else value


def _mean(values: Numbers) -> float | None:
    return float(np.mean(values)) if len(values) else None
