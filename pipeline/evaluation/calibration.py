"""Calibration: compare the scores of results with their precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..io.coco import Task
from ..values import check_range
from .matching import match
from .metrics import mean_or_none
from .overlaps import ImageOverlaps, Numbers, compute_overlaps
from .scored import ScoredResults

SCORE_BINS = 10
HIT = 0.5  # minimum overlap of a true positive


@dataclass(frozen=True)
class CalibrationRow:
    """Results of one task with a score in [low, high); the last bin includes 1."""

    task: Task
    low: float
    high: float
    num_results: int  # without results on ignored people
    mean_score: float | None
    precision: float | None  # fraction matched to a person with an overlap of at least `HIT`


@dataclass(frozen=True)
class CalibrationTable:
    """Mean score and precision by score bin."""

    rows: tuple[CalibrationRow, ...]

    def error(self, task: Task) -> float | None:
        """Expected calibration error: mean gap of score and precision, weighted by results."""
        gaps = self._gaps(task)
        total = sum(count for count, _ in gaps)
        return sum(count * abs(gap) for count, gap in gaps) / total if total else None

    def bias(self, task: Task) -> float:
        """Mean score minus precision of all results; above 0 is over-confident."""
        gaps = self._gaps(task)
        return sum(count * gap for count, gap in gaps) / max(sum(count for count, _ in gaps), 1)

    def _gaps(self, task: Task) -> list[tuple[int, float]]:
        """Number of results, and mean score minus precision, of each bin with results."""
        return [
            (r.num_results, r.mean_score - r.precision)
            for r in self.rows
            if r.task == task and r.mean_score is not None and r.precision is not None
        ]

    @property
    def text(self) -> str:
        """Calibration error and bias of each task."""
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
    """Compute precision at an overlap of 0.5 by score, in ``bins`` equal parts of [0, 1].

    A result is a true positive if COCO's matching assigns it a person; duplicates are false
    positives. Results on ignored people or crowd regions do not count.

    Raises:
        ValueError: scores outside of [0, 1], or fewer than one bin.
    """
    check_range('bins', bins, '>= 1')
    wrong = [r['score'] for r in scored.results if not 0 <= r['score'] <= 1]
    if wrong:
        raise ValueError(f'calibration needs scores in [0, 1], got {wrong[0]}')
    edges = np.linspace(0, 1, bins + 1)
    rows = []
    for task in scored.tasks:
        scores, hits = _match_results(compute_overlaps(scored, task))
        bin_of = np.minimum(np.searchsorted(edges, scores, side='right') - 1, bins - 1)
        for b in range(bins):
            inside = bin_of == b
            rows.append(
                CalibrationRow(
                    task, float(edges[b]), float(edges[b + 1]), int(inside.sum()),
                    mean_or_none(scores[inside]), mean_or_none(hits[inside]),
                )
            )  # fmt: skip
    return CalibrationTable(tuple(rows))


def _match_results(images: Sequence[ImageOverlaps]) -> tuple[Numbers, Numbers]:
    """Scores of the results that count, and 1 for true positives, else 0."""
    scores, hits = [np.zeros(0)], [np.zeros(0)]
    for image in images:
        matched = match(image, HIT)
        counted = ~np.append(image.ignored, False)[matched]
        scores.append(image.scores[counted])
        hits.append((matched[counted] >= 0).astype(np.float64))
    return np.concatenate(scores), np.concatenate(hits)
