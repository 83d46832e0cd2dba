"""Matching and average precision with the rules of COCO, for any choice of people to ignore.

`pipeline.evaluation.coco` scores a whole data set; here the same rules are at work on a part of
the people: the others are not removed but ignored, with the results that are theirs.

Legend: D results and G annotations of a photo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .overlaps import Flags, ImageOverlaps, Numbers

THRESHOLDS: Numbers = np.asarray(np.linspace(0.5, 0.95, 10), np.float64)
_RECALLS: Numbers = np.asarray(np.linspace(0, 1, 101), np.float64)

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PartScore:
    """Metrics of a part of the people, each in [0, 1]; None where the part has nobody.

    A result that is nobody's counts as false in every part, so AP falls with the size of a part.
    ``ap_equal_size`` takes that away: false results are weighed by the share of people that the
    part holds ("normalized precision" of Hoiem et al., Diagnosing Error in Object Detectors,
    ECCV 2012). Parts of different sizes are compared by it and by ``ar``.
    """

    num_people: int
    ap: float | None  # mean over overlaps 0.50, 0.55, ..., 0.95
    ap_equal_size: float | None  # as ap, false results weighed by the share of the part
    ap50: float | None  # AP where an overlap of 0.50 is a hit
    ar: float | None  # share of people found, mean over the same overlaps


def match(photo: ImageOverlaps, threshold: float, ignored: Flags | None = None) -> Rows:
    """The annotation (D,) that each result is matched with, -1 for none.

    As in pycocotools ``COCOeval.evaluateImg``: best score first, each result takes the free
    person whom it overlaps most, at least by ``threshold``; only a result without such a person
    may take one of the ``ignored`` (G,) (default: those that COCO ignores).
    """
    ignored = photo.ignored if ignored is None else ignored
    crowds, free = photo.crowds, np.ones(len(ignored), bool)
    matched = np.full(len(photo.results), -1, np.int64)
    enough = photo.overlaps >= min(threshold, 1 - 1e-10)
    for d in np.flatnonzero(enough.any(1)).tolist():
        for group in (~ignored, ignored):
            candidates = np.flatnonzero(enough[d] & (free | crowds) & group)
            if len(candidates):
                # Ties go to the last one, as there.
                best = candidates[::-1][photo.overlaps[d, candidates[::-1]].argmax()]
                matched[d], free[best] = best, False
                break
    return matched


def score_part(
    photos: Sequence[ImageOverlaps],
    ignored: Sequence[Flags],
    *,
    unmatched_ignored: Sequence[Flags] | None = None,
) -> PartScore:
    """Metrics of the people who are not ignored.

    Args:
        photos: in the order that ranks equal scores.
        ignored: (G,) of each photo, people outside of the part; crowd regions must be among them.
        unmatched_ignored: (D,) of each photo, results that are not false even if nobody's.
    """
    count = int(sum((~i).sum() for i in ignored))
    if count == 0:
        return PartScore(0, None, None, None, None)
    share = count / sum(int((~p.ignored).sum()) for p in photos)
    scores = np.concatenate([np.zeros(0), *(p.scores for p in photos)])
    order = np.argsort(-scores, kind='stable')
    plain, weighed, recalls = [], [], []
    for threshold in THRESHOLDS.tolist():
        hits, counted = _outcomes(photos, ignored, unmatched_ignored, threshold)
        right = hits[order].cumsum().astype(np.float64)
        wrong = (counted & ~hits)[order].cumsum().astype(np.float64)
        plain.append(_average_precision(right, wrong, count))
        weighed.append(_average_precision(right, share * wrong, count))
        recalls.append(float(right[-1]) / count if len(right) else 0.0)
    ap, ap_equal_size, ar = (float(np.mean(v)) for v in (plain, weighed, recalls))
    return PartScore(count, ap, ap_equal_size, plain[0], ar)


def _outcomes(
    photos: Sequence[ImageOverlaps],
    ignored: Sequence[Flags],
    unmatched_ignored: Sequence[Flags] | None,
    threshold: float,
) -> tuple[Flags, Flags]:
    """Of all results of all photos: is it a hit; does it count at all."""
    hits: list[Flags] = [np.zeros(0, bool)]
    counted: list[Flags] = [np.zeros(0, bool)]
    for n, (photo, people) in enumerate(zip(photos, ignored, strict=True)):
        matched = match(photo, threshold, people)
        theirs = np.append(people, False)[matched]  # -1 picks the appended one
        if unmatched_ignored is not None:
            theirs = theirs | ((matched < 0) & unmatched_ignored[n])
        hits.append((matched >= 0) & ~theirs)
        counted.append(~theirs)
    return np.concatenate(hits), np.concatenate(counted)


def _average_precision(hits: Numbers, false: Numbers, count: int) -> float:
    """Precision at recall 0, 0.01, ..., 1, averaged, from cumulated hits and false results."""
    recall, precision = hits / count, hits / (hits + false + np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, _RECALLS, side='left')
    return float(np.append(envelope, 0.0)[np.minimum(places, len(envelope))].mean())
