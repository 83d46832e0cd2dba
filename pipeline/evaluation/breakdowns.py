"""What one results file says about parts of the people: crowding, size, score, visibility.

Each study is a table of frozen rows, the same that its CSV and its chart show, and one line of
text. None stands where there is nothing to measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from ..geometry import max_neighbour_iou, xywh_to_xyxy
from ..io.coco import Task
from ..keypoints import COCO_NAMES, NUM_COCO
from .overlaps import (
    LABELLED,
    Flags,
    Numbers,
    PhotoOverlaps,
    Row,
    flags_of,
    keypoint_similarities,
    photo_overlaps,
    to_rle,
)
from .precision import match, score_part

CROWDING_EDGES = (0.1, 0.3, 0.5)  # 0.3: box NMS of the loop; 0.5: where OCHuman begins
SIZE_EDGES = (32.0, 96.0)  # px, the square root of the area; COCO's small, medium, large
SCORE_BINS = 10
HIT = 0.5  # overlap from which a result is right, in calibration
OWN_POSE = 0.1  # OKS from which a result is about a person, however badly
NEAR = 0.5  # similarity from which a keypoint is right

HIDDEN, VISIBLE = 1, 2
VISIBILITIES: dict[str, tuple[int, ...]] = {
    'all': LABELLED,
    'visible': (VISIBLE,),
    'hidden': (HIDDEN,),
}


class Table(Protocol):
    """A finished study."""

    @property
    def rows(self) -> Sequence[Any]:
        """Frozen dataclasses of one kind: lines of the CSV."""

    @property
    def text(self) -> str:
        """One line of what it says."""


@dataclass(frozen=True)
class PartRow:
    """One task, one part of the people; see `pipeline.evaluation.precision.PartScore`."""

    task: Task
    part: str
    low: float  # of the quantity that the parts are made by
    high: float  # not included, but in the study of sizes, as in COCO; inf in the last part
    num_people: int
    ap: float | None
    ap_equal_size: float | None
    ap50: float | None
    ar: float | None


@dataclass(frozen=True)
class PartTable:
    """Metrics by crowding or by size."""

    quantity: str
    rows: tuple[PartRow, ...]

    @property
    def text(self) -> str:
        """Best and worst part of each task."""
        lines = []
        for task in dict.fromkeys(r.task for r in self.rows):
            scored = [r for r in self.rows if r.task == task and r.ap_equal_size is not None]
            best = max(scored, key=lambda r: r.ap_equal_size or 0, default=None)
            worst = min(scored, key=lambda r: r.ap_equal_size or 0, default=None)
            if best is None or worst is None:
                lines.append(f'{task}: nobody is annotated')
            else:
                lines.append(f'{task}: best {_described(best)}, worst {_described(worst)}')
        return f'AP (equal size) by {self.quantity}: ' + '; '.join(lines)


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


@dataclass(frozen=True)
class VisibilityRow:
    """A keypoint (or ``all``) and a visibility (``all``, ``visible`` v = 2, ``hidden`` v = 1)."""

    keypoint: str
    visibility: str
    num_keypoints: int
    num_people: int
    ap: float | None  # OKS over these keypoints alone; only for keypoint ``all``
    similarity: float | None  # mean over the keypoints, 0 for those of people who were not found
    near: float | None  # share of the keypoints with a similarity of at least `NEAR`
    near_if_found: float | None  # the same among people who were found


@dataclass(frozen=True)
class VisibilityTable:
    """Where keypoints are right, by visibility and name."""

    rows: tuple[VisibilityRow, ...]

    @property
    def text(self) -> str:
        """AP and accuracy of visible and hidden keypoints."""
        parts = [
            f'{r.visibility} (n={r.num_keypoints}) AP {_percent(r.ap)}, right {_percent(r.near)}'
            for r in self.rows
            if r.keypoint == 'all'
        ]
        return 'Keypoints, percent: ' + '; '.join(parts)


def crowding(
    results: Sequence[Row],
    annotations: Row,
    tasks: Sequence[Task],
    edges: Sequence[float] = CROWDING_EDGES,
) -> PartTable:
    """Metrics by the highest box IoU of a person with another annotated one in the photo.

    People with a value in [edge, next edge) make up a part; the others are ignored. Crowd regions
    are no neighbours.

    Raises:
        ValueError: edges do not rise inside (0, 1).
    """
    _check_edges(edges, 1)
    bounds = (0.0, *edges, float('inf'))
    rows = []
    for task in tasks:
        photos = photo_overlaps(results, annotations, task)
        crowded = [_neighbour_iou(p) for p in photos]
        for low, high in pairwise(bounds):
            outside = [
                p.ignored | (c < low) | (c >= high) for p, c in zip(photos, crowded, strict=True)
            ]
            name = f'{low:g} to {min(high, 1):g}'
            score = score_part(photos, outside)
            rows.append(PartRow(task, name, low, high, **vars(score)))
    return PartTable('highest box IoU with a neighbour', tuple(rows))


def sizes(
    results: Sequence[Row],
    annotations: Row,
    tasks: Sequence[Task],
    edges: Sequence[float] = SIZE_EDGES,
) -> PartTable:
    """Metrics by the square root of the annotated area, in px.

    As COCO does it: a result that is nobody's counts only in the part of its own size, and a
    person just on an edge belongs to both parts. The default edges give COCO's small, medium and
    large.

    Raises:
        ValueError: edges do not rise above 0.
    """
    _check_edges(edges, float('inf'))
    bounds = (0.0, *edges, float('inf'))
    rows = []
    for task in tasks:
        photos = photo_overlaps(results, annotations, task)
        true = [np.array([a['area'] for a in p.people], np.float64) for p in photos]
        found = [np.array([_result_area(r, task) for r in p.results], np.float64) for p in photos]
        for low, high in pairwise(bounds):
            outside = [
                p.ignored | _outside(a, low, high) for p, a in zip(photos, true, strict=True)
            ]
            score = score_part(
                photos, outside, unmatched_ignored=[_outside(a, low, high) for a in found]
            )
            name = f'{low:g} to {high:g}' if np.isfinite(high) else f'{low:g} and more'
            rows.append(PartRow(task, name, low, high, **vars(score)))
    return PartTable('size of the person (square root of the area, px)', tuple(rows))


def calibration(
    results: Sequence[Row], annotations: Row, tasks: Sequence[Task], bins: int = SCORE_BINS
) -> CalibrationTable:
    """Precision at an overlap of 0.5 by score, in ``bins`` equal parts of [0, 1].

    A result is right when COCO's matching gives it a person; a second result for the same person
    is wrong. Results that lie on ignored people or crowd regions are left out.

    Raises:
        ValueError: scores outside of [0, 1], or fewer than one bin.
    """
    if bins < 1:
        raise ValueError(f'bins must be >= 1, got {bins}')
    wrong = [r['score'] for r in results if not 0 <= r['score'] <= 1]
    if wrong:
        raise ValueError(f'calibration needs scores in [0, 1], got {wrong[0]}')
    edges = np.linspace(0, 1, bins + 1)
    rows = []
    for task in tasks:
        scores, hits = _right(photo_overlaps(results, annotations, task))
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


def visibility(results: Sequence[Row], annotations: Row) -> VisibilityTable:
    """How well keypoints are placed, by COCO's flag (1 hidden, 2 visible) and by name.

    AP: OKS is made of the keypoints of this flag alone, people without one are ignored. The other
    columns count keypoints: results are given to people by COCO's matching at OKS 0.1 (a person
    without one was not found), then each keypoint has the similarity that OKS is the mean of.
    """
    similarities, flags, found = _keypoint_rows(results, annotations)
    rows = []
    for name, wanted in VISIBILITIES.items():
        photos = photo_overlaps(results, annotations, 'keypoints', flags=wanted)
        score = score_part(photos, [p.ignored for p in photos])
        use = np.isin(flags, wanted)
        rows.append(_visibility_row('all', name, similarities, use, found, score.ap))
        for k, keypoint in enumerate(COCO_NAMES):
            one = use & (np.arange(use.shape[1]) == k)
            rows.append(_visibility_row(keypoint, name, similarities, one, found, None))
    return VisibilityTable(tuple(rows))


def _keypoint_rows(results: Sequence[Row], annotations: Row) -> tuple[Numbers, Numbers, Flags]:
    """Of all N annotated people: similarities (N, K), flags (N, K), was he found (N,)."""
    similarities, flags, found = [], [], []
    for photo in photo_overlaps(results, annotations, 'keypoints'):
        matched = match(photo, OWN_POSE)
        for g in np.flatnonzero(~photo.ignored).tolist():
            rows = [photo.results[d] for d in np.flatnonzero(matched == g)]
            similarities.append(
                keypoint_similarities(rows, photo.people[g])[0] if rows else np.zeros(NUM_COCO)
            )
            flags.append(flags_of(photo.people[g]))
            found.append(bool(rows))
    shape = (len(found), NUM_COCO)
    return (
        np.array(similarities, np.float64).reshape(shape),
        np.array(flags, np.float64).reshape(shape),
        np.array(found, bool),
    )


def _visibility_row(
    keypoint: str, name: str, similarities: Numbers, use: Flags, found: Flags, ap: float | None
) -> VisibilityRow:
    values, theirs = similarities[use], use & found[:, None]
    return VisibilityRow(
        keypoint, name, int(use.sum()), int(use.any(1).sum()), ap,
        _mean(values), _mean(values >= NEAR), _mean(similarities[theirs] >= NEAR),
    )  # fmt: skip


def _neighbour_iou(photo: PhotoOverlaps) -> Numbers:
    """Highest box IoU (G,) with another single person; 0 for crowd regions."""
    single = np.flatnonzero(~photo.crowds)
    boxes = xywh_to_xyxy([photo.people[g]['bbox'] for g in single])
    values = np.zeros(len(photo.people))
    values[single] = max_neighbour_iou(boxes)
    return values


def _result_area(row: Row, task: Task) -> float:
    """Size of a result in px^2, as ``COCO.loadRes`` defines it for each task."""
    if task == 'bbox':
        return float(row['bbox'][2] * row['bbox'][3])
    if task == 'segm':
        from pycocotools import mask as coco_mask

        size = row['segmentation']['size']
        return float(coco_mask.area(to_rle(row['segmentation'], *size)))
    points = np.array(row['keypoints'], np.float64).reshape(-1, 3)[:, :2]
    return float(np.prod(points.max(0) - points.min(0)))


def _outside(areas: Numbers, low: float, high: float) -> Flags:
    return np.asarray((areas < low**2) | (areas > high**2))


def _right(photos: Sequence[PhotoOverlaps]) -> tuple[Numbers, Numbers]:
    """Scores of the results that count, and 1 where they are right."""
    scores, hits = [np.zeros(0)], [np.zeros(0)]
    for photo in photos:
        matched = match(photo, HIT)
        counted = ~np.append(photo.ignored, False)[matched]
        scores.append(photo.scores[counted])
        hits.append((matched[counted] >= 0).astype(np.float64))
    return np.concatenate(scores), np.concatenate(hits)


def _check_edges(edges: Sequence[float], highest: float) -> None:
    bounds = (0.0, *edges, highest)
    if not all(a < b for a, b in pairwise(bounds)):
        raise ValueError(f'edges must rise inside (0, {highest:g}), got {list(edges)}')


def _described(row: PartRow) -> str:
    return f'{_percent(row.ap_equal_size)} at {row.part} (n={row.num_people})'


def _known(value: float | None) -> float:
    return 0.0 if value is None else value


def _mean(values: Numbers | Flags) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _percent(value: float | None) -> str:
    return '–' if value is None else f'{100 * value:.1f}'


STUDIES: Mapping[str, str] = {
    'crowding': 'AP against the highest box IoU with a neighbour',
    'calibration': 'precision against the score',
    'visibility': 'keypoints by visibility and by name',
    'sizes': 'AP against the size of people',
}
