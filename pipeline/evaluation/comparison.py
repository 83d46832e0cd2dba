"""Two results files photo by photo: which photos got better, which got worse.

The figure of a photo is its **quality**

    2 * (sum of the overlaps of the people found) / (people + results)

A person is found when COCO's matching at an overlap of 0.5 gives him a result; overlap is IoU of
boxes, IoU of masks, or OKS. It is 1 when everybody is found exactly and nothing else, and falls
with every missed person, every false result and every inexact one: the panoptic quality of
Kirillov et al. (CVPR 2019) of one photo. Crowd regions, people without labelled keypoints (in the
keypoint task), and results that lie on them do not count. With nobody to find and nothing found
it is 1. Unlike AP, it does not rank: every result counts, whatever its score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..io.coco import Task
from .metrics import TaskMetrics
from .overlaps import ImageOverlaps, Row, compute_overlaps
from .precision import match
from .scored import ScoredResults

Box = tuple[float, ...]  # x, y, w, h px

FOUND = 0.5  # overlap from which a person is found
SAME = 1e-9  # quality differences up to this are none


@dataclass(frozen=True)
class ImageQuality:
    """One results file on one photo."""

    people: int  # annotated, those that are ignored left out
    results: int  # those on ignored people left out
    found: int
    overlap: float | None  # mean over the people found
    quality: float  # in [0, 1], see the module
    found_boxes: tuple[Box, ...]  # of the right results
    false_boxes: tuple[Box, ...]  # of the false results
    missed: tuple[int, ...]  # positions of the missed among the photo's annotations

    @property
    def false(self) -> int:
        """Results that are nobody's."""
        return self.results - self.found


@dataclass(frozen=True)
class ImageDifference:
    """Both results files on one photo."""

    image_id: int | str
    file_name: str
    a: ImageQuality
    b: ImageQuality

    @property
    def gain(self) -> float:
        """Quality of B minus quality of A."""
        return self.b.quality - self.a.quality

    def to_row(self) -> dict[str, Any]:
        """Flat: a line of the CSV."""
        row: dict[str, Any] = {'image_id': self.image_id, 'file_name': self.file_name}
        row |= {'gain': self.gain, 'people': self.a.people}
        for name, side in (('a', self.a), ('b', self.b)):
            row |= {
                f'quality_{name}': side.quality,
                f'found_{name}': side.found,
                f'false_{name}': side.false,
                f'overlap_{name}': side.overlap,
            }
        return row


@dataclass(frozen=True)
class Comparison:
    """Two results files against the same annotations, in one task."""

    task: Task
    metrics: tuple[TaskMetrics, TaskMetrics]  # of A and B, over all photos
    images: tuple[ImageDifference, ...]  # in the order of their ids

    @property
    def gained(self) -> tuple[ImageDifference, ...]:
        """Photos where B is better, the largest gain first."""
        better = [p for p in self.images if p.gain > SAME]
        return tuple(sorted(better, key=lambda p: -p.gain))

    @property
    def lost(self) -> tuple[ImageDifference, ...]:
        """Photos where B is worse, the largest loss first."""
        worse = [p for p in self.images if p.gain < -SAME]
        return tuple(sorted(worse, key=lambda p: p.gain))

    @property
    def mean_quality(self) -> tuple[float, float]:
        """Of A and B, over all photos; 0 without photos."""
        a, b = [p.a.quality for p in self.images], [p.b.quality for p in self.images]
        return (float(np.mean(a)), float(np.mean(b))) if a else (0.0, 0.0)

    def totals(self) -> dict[str, tuple[float | None, float | None]]:
        """Lines of the summary: name -> value of A, value of B."""
        first, second = (asdict(m) for m in self.metrics)
        lines: dict[str, tuple[float | None, float | None]] = {
            name: (first[name], second[name]) for name in ('ap', 'ap50', 'ap75', 'ar')
        }
        lines['mean quality'] = self.mean_quality
        for name in ('found', 'false'):
            a, b = (sum(getattr(getattr(p, s), name) for p in self.images) for s in 'ab')
            lines[name] = (a, b)
        return lines

    def to_json(self, names: Mapping[str, str]) -> dict[str, Any]:
        """Content of ``comparison.json``; ``names`` says what A and B are."""
        lines = {k: {'a': a, 'b': b} for k, (a, b) in self.totals().items()}
        counts = {'better': len(self.gained), 'worse': len(self.lost)}
        counts['equal'] = len(self.images) - sum(counts.values())
        return {
            'task': self.task,
            **names,
            'summary': lines,
            'photos': counts,
            'by_image': [p.to_row() for p in self.images],
        }


def compare(a: ScoredResults, b: ScoredResults, task: Task) -> Comparison:
    """Compare two results files that were scored against the same annotations.

    Args:
        a: the baseline.
        b: what is compared with it.
        task: one that both have.

    Raises:
        ValueError: A and B are of different photos or, by their protocols, of different people.
    """
    _check_photos(a, b)
    _check_people(a, b, task)
    names = {i['id']: str(i['file_name']) for i in a.annotations['images']}
    photos = tuple(
        ImageDifference(x.image_id, names[x.image_id], _quality(x), _quality(y))
        for x, y in zip(compute_overlaps(a, task), compute_overlaps(b, task), strict=True)
    )
    return Comparison(task, (a.metrics.tasks[task], b.metrics.tasks[task]), photos)


def _quality(photo: ImageOverlaps) -> ImageQuality:
    matched = match(photo, FOUND)
    counted = ~np.append(photo.ignored, False)[matched]
    hits = np.flatnonzero(counted & (matched >= 0))
    overlaps = photo.overlaps[hits, matched[hits]]
    people, results = int((~photo.ignored).sum()), int(counted.sum())
    missed = sorted(set(np.flatnonzero(~photo.ignored).tolist()) - set(matched.tolist()))
    false = np.flatnonzero(counted & (matched < 0))
    total = people + results
    return ImageQuality(
        people=people,
        results=results,
        found=len(hits),
        overlap=float(overlaps.mean()) if len(hits) else None,
        quality=2 * float(overlaps.sum()) / total if total else 1.0,
        found_boxes=tuple(_box(photo.results[d]) for d in hits),
        false_boxes=tuple(_box(photo.results[d]) for d in false),
        missed=tuple(missed),
    )


def _box(row: Row) -> Box:
    """Box of a result of any task, x, y, w, h px."""
    if row.get('bbox') is not None:
        return tuple(float(v) for v in row['bbox'])
    if row.get('segmentation') is not None:
        from pycocotools import mask as coco_mask

        return tuple(float(v) for v in coco_mask.toBbox(row['segmentation']))
    points = np.array(row['keypoints'], np.float64).reshape(-1, 3)[:, :2]
    return tuple(float(v) for v in (*points.min(0), *(points.max(0) - points.min(0))))


def _check_people(a: ScoredResults, b: ScoredResults, task: Task) -> None:
    counts = [len(side.annotations_of(task)['annotations']) for side in (a, b)]
    if counts[0] != counts[1]:
        raise ValueError(
            f'A ({a.subject}) is scored on {counts[0]} people, B ({b.subject}) on {counts[1]}; '
            'compare results of the same protocol'
        )


def _check_photos(a: ScoredResults, b: ScoredResults) -> None:
    asked = [set(side.metrics.image_ids) for side in (a, b)]
    if asked[0] != asked[1]:
        odd = min(asked[0] ^ asked[1], key=str)
        raise ValueError(
            f'A was run on {len(asked[0])} photos, B on {len(asked[1])}, not the same '
            f'({odd!r} is only in one of them); compare results of the same photos'
        )
    given = [{r['image_id'] for r in side.results} for side in (a, b)]
    if all(given) and not given[0] & given[1]:
        raise ValueError(
            f'A has results for {len(given[0])} photos ({min(given[0], key=str)!r}, ...), B for '
            f'{len(given[1])} others ({min(given[1], key=str)!r}, ...); compare results of the '
            'same photos'
        )
