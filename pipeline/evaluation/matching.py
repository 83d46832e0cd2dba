"""Matching and average precision with the rules of COCO, for a part of the people.

`pipeline.evaluation.coco` scores a whole data set. This module applies the same rules to a part of
the people; the other people and the results matched to them are ignored.

Legend: D results and G annotations of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .overlaps import Flags, ImageOverlaps, Numbers

THRESHOLDS: Numbers = np.asarray(np.linspace(0.5, 0.95, 10), np.float64)
_RECALLS: Numbers = np.asarray(np.linspace(0, 1, 101), np.float64)

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PartScore:
    """Metrics of a part of the people in [0, 1]; None if the part is empty.

    A false positive counts in every part, so AP is lower in smaller parts. ``ap_equal_size``
    corrects this: false positives are weighted by the fraction of people in the part ("normalized
    precision" of Hoiem et al., Diagnosing Error in Object Detectors, ECCV 2012). Compare parts of
    different sizes by ``ap_equal_size`` and ``ar``.
    """

    num_people: int
    ap: float | None  # mean over overlap thresholds 0.50, 0.55, ..., 0.95
    ap_equal_size: float | None  # ap with weighted false positives
    ap50: float | None  # AP at an overlap threshold of 0.50
    ar: float | None  # recall, mean over the same thresholds


def match(image: ImageOverlaps, threshold: float, ignored: Flags | None = None) -> Indices:
    """Match each result with an annotation; returns its index (D,), or -1.

    As in pycocotools ``COCOeval.evaluateImg``: in the order of scores, each result matches the free
    person of highest overlap, at least ``threshold``. Only results without such a person match
    ``ignored`` people (G,); the default is ``image.ignored``.
    """
    ignored = image.ignored if ignored is None else ignored
    crowds, free = image.crowds, np.ones(len(ignored), bool)
    matched = np.full(len(image.results), -1, np.int64)
    enough = image.overlaps >= min(threshold, 1 - 1e-10)
    for d in np.flatnonzero(enough.any(1)).tolist():
        for group in (~ignored, ignored):
            candidates = np.flatnonzero(enough[d] & (free | crowds) & group)
            if len(candidates):
                # The last candidate wins ties, as in pycocotools.
                best = candidates[::-1][image.overlaps[d, candidates[::-1]].argmax()]
                matched[d], free[best] = best, False
                break
    return matched


def score_part(
    images: Sequence[ImageOverlaps],
    ignored: Sequence[Flags],
    *,
    unmatched_ignored: Sequence[Flags] | None = None,
) -> PartScore:
    """Compute the metrics of the people who are not ignored.

    Args:
        images: overlaps of all images; the order ranks equal scores.
        ignored: (G,) per image: people outside of the part, including all crowd regions.
        unmatched_ignored: (D,) per image: results that do not count if they have no match.
    """
    count = int(sum((~i).sum() for i in ignored))
    if count == 0:
        return PartScore(0, None, None, None, None)
    fraction = count / sum(int((~image.ignored).sum()) for image in images)
    scores = np.concatenate([np.zeros(0), *(image.scores for image in images)])
    order = np.argsort(-scores, kind='stable')
    plain, weighted, recalls = [], [], []
    for threshold in THRESHOLDS.tolist():
        hits, counted = _match_all(images, ignored, unmatched_ignored, threshold)
        positives = hits[order].cumsum().astype(np.float64)
        false = (counted & ~hits)[order].cumsum().astype(np.float64)
        plain.append(_average_precision(positives, false, count))
        weighted.append(_average_precision(positives, fraction * false, count))
        recalls.append(float(positives[-1]) / count if len(positives) else 0.0)
    ap, ap_equal_size, ar = (float(np.mean(v)) for v in (plain, weighted, recalls))
    return PartScore(count, ap, ap_equal_size, plain[0], ar)


def _match_all(
    images: Sequence[ImageOverlaps],
    ignored: Sequence[Flags],
    unmatched_ignored: Sequence[Flags] | None,
    threshold: float,
) -> tuple[Flags, Flags]:
    """Flag all results of all images: true positives, and results that count."""
    hits: list[Flags] = [np.zeros(0, bool)]
    counted: list[Flags] = [np.zeros(0, bool)]
    for n, (image, people) in enumerate(zip(images, ignored, strict=True)):
        matched = match(image, threshold, people)
        skipped = np.append(people, False)[matched]  # -1 selects the appended value
        if unmatched_ignored is not None:
            skipped = skipped | ((matched < 0) & unmatched_ignored[n])
        hits.append((matched >= 0) & ~skipped)
        counted.append(~skipped)
    return np.concatenate(hits), np.concatenate(counted)


def _average_precision(hits: Numbers, false: Numbers, count: int) -> float:
    """Average precision at recall 0, 0.01, ..., 1 from cumulative true and false positives."""
    recall, precision = hits / count, hits / (hits + false + np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, _RECALLS, side='left')
    return float(np.append(envelope, 0.0)[np.minimum(places, len(envelope))].mean())
