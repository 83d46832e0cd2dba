"""Compare two results files image by image.

The metric of an image is its **quality**, the panoptic quality of Kirillov et al. (CVPR 2019):

    2 * (sum of the overlaps of matched results) / (people + results)

COCO's matching at an overlap of 0.5 assigns results to people; the overlap is the IoU of boxes, the
IoU of masks, or OKS. Quality is 1 for exact results of all people and nothing else; missed people,
false positives and inexact results lower it. It is also 1 without people and results. Crowd
regions, people without labelled keypoints (in the keypoint task), and results on them do not count.
Unlike AP, quality does not depend on the scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..io.coco import Task
from .matching import match
from .metrics import TaskMetrics
from .overlaps import ImageOverlaps, Row, compute_overlaps
from .scored import ScoredResults

FOUND = 0.5  # minimum overlap of a match
SAME = 1e-9  # maximum difference of equal qualities


@dataclass(frozen=True)
class ImageQuality:
    """Quality of one results file on one image."""

    people: int  # annotated, without ignored people
    results: int  # without results on ignored people
    found: int  # matched people
    overlap: float | None  # mean over the matches
    quality: float  # in [0, 1], see the module
    hits: tuple[Row, ...]  # true positives
    false_rows: tuple[Row, ...]  # false positives
    missed: tuple[int, ...]  # indices of missed people in the annotations of the image

    @property
    def false(self) -> int:
        """Number of false positives."""
        return self.results - self.found


@dataclass(frozen=True)
class ImageDifference:
    """Both results files on one image."""

    image_id: int | str
    file_name: str
    a: ImageQuality
    b: ImageQuality

    @property
    def gain(self) -> float:
        """Quality of B minus quality of A."""
        return self.b.quality - self.a.quality

    def to_row(self) -> dict[str, Any]:
        """Convert to a row of the CSV."""
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
    """Comparison of two results files with the same annotations, in one task."""

    task: Task
    metrics: tuple[TaskMetrics, TaskMetrics]  # of A and B, over all images
    images: tuple[ImageDifference, ...]  # in the order of their ids

    @property
    def gained(self) -> tuple[ImageDifference, ...]:
        """Images where B is better, largest gain first."""
        better = [p for p in self.images if p.gain > SAME]
        return tuple(sorted(better, key=lambda p: -p.gain))

    @property
    def lost(self) -> tuple[ImageDifference, ...]:
        """Images where B is worse, largest loss first."""
        worse = [p for p in self.images if p.gain < -SAME]
        return tuple(sorted(worse, key=lambda p: p.gain))

    @property
    def mean_quality(self) -> tuple[float, float]:
        """Mean quality of A and B over all images; 0 without images."""
        a, b = [p.a.quality for p in self.images], [p.b.quality for p in self.images]
        return (float(np.mean(a)), float(np.mean(b))) if a else (0.0, 0.0)

    def totals(self) -> dict[str, tuple[float | None, float | None]]:
        """Return the summary: name -> value of A, value of B."""
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
        """Build the content of ``comparison.json``; ``names`` describes A and B."""
        lines = {k: {'a': a, 'b': b} for k, (a, b) in self.totals().items()}
        counts = {'better': len(self.gained), 'worse': len(self.lost)}
        counts['equal'] = len(self.images) - sum(counts.values())
        return {
            'task': self.task,
            **names,
            'summary': lines,
            'photos': counts,
            'by_photo': [p.to_row() for p in self.images],
        }


def compare(a: ScoredResults, b: ScoredResults, task: Task) -> Comparison:
    """Compare two results files that were scored against the same annotations.

    Args:
        a: baseline.
        b: results to compare with the baseline.
        task: a task of both.

    Raises:
        ValueError: the images differ or, because of the protocols, the evaluated people do.
    """
    _check_images(a, b)
    _check_people(a, b, task)
    names = {i['id']: str(i['file_name']) for i in a.annotations['images']}
    second = rate_images(b, task)
    images = tuple(
        ImageDifference(image_id, names[image_id], quality, second[image_id])
        for image_id, quality in rate_images(a, task).items()
    )
    return Comparison(task, (a.metrics.tasks[task], b.metrics.tasks[task]), images)


def rate_images(scored: ScoredResults, task: Task) -> dict[int | str, ImageQuality]:
    """Compute the quality of every image, in the order of their ids."""
    return {image.image_id: _quality(image) for image in compute_overlaps(scored, task)}


def _quality(image: ImageOverlaps) -> ImageQuality:
    matched = match(image, FOUND)
    counted = ~np.append(image.ignored, False)[matched]
    hits = np.flatnonzero(counted & (matched >= 0))
    overlaps = image.overlaps[hits, matched[hits]]
    people, results = int((~image.ignored).sum()), int(counted.sum())
    missed = sorted(set(np.flatnonzero(~image.ignored).tolist()) - set(matched.tolist()))
    false = np.flatnonzero(counted & (matched < 0))
    total = people + results
    return ImageQuality(
        people=people,
        results=results,
        found=len(hits),
        overlap=float(overlaps.mean()) if len(hits) else None,
        quality=2 * float(overlaps.sum()) / total if total else 1.0,
        hits=tuple(image.results[d] for d in hits),
        false_rows=tuple(image.results[d] for d in false),
        missed=tuple(missed),
    )


def _check_people(a: ScoredResults, b: ScoredResults, task: Task) -> None:
    counts = [len(side.annotations_of(task)['annotations']) for side in (a, b)]
    if counts[0] != counts[1]:
        raise ValueError(
            f'A ({a.subject}) is scored on {counts[0]} people, B ({b.subject}) on {counts[1]}; '
            'compare results of the same protocol'
        )


def _check_images(a: ScoredResults, b: ScoredResults) -> None:
    of_a, of_b = (set(side.metrics.image_ids) for side in (a, b))
    if of_a != of_b:
        raise ValueError(
            f'A has {len(of_a)} images, B has {len(of_b)}, and they differ '
            f'({min(of_a ^ of_b, key=str)!r} is only in one); compare results of the same images'
        )
    of_a, of_b = ({r['image_id'] for r in side.results} for side in (a, b))
    if of_a and of_b and not of_a & of_b:
        raise ValueError(
            f'A has results for {len(of_a)} images ({min(of_a, key=str)!r}, ...), B for '
            f'{len(of_b)} others ({min(of_b, key=str)!r}, ...); compare results of the same images'
        )
