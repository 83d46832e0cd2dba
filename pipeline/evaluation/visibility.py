"""Keypoint accuracy by visibility and by keypoint."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..keypoints import COCO_NAMES
from .matching import match, score_part
from .metrics import format_percent, mean_or_none
from .overlaps import (
    LABELLED,
    Flags,
    Numbers,
    compute_keypoint_similarities,
    compute_overlaps,
    find_keypoint_set,
    read_keypoint_flags,
)
from .scored import ScoredResults

MIN_OKS = 0.1  # minimum OKS to assign a result to a person
NEAR = 0.5  # minimum similarity of a correct keypoint

HIDDEN, VISIBLE = 1, 2
VISIBILITIES: dict[str, tuple[int, ...]] = {
    'all': LABELLED,
    'visible': (VISIBLE,),
    'hidden': (HIDDEN,),
}


@dataclass(frozen=True)
class VisibilityRow:
    """Metrics of a keypoint (or ``all``) and a visibility (``all``, ``visible``, ``hidden``)."""

    keypoint: str
    visibility: str
    num_keypoints: int
    num_people: int
    ap: float | None  # with OKS over these keypoints; only for keypoint ``all``
    similarity: float | None  # mean over the keypoints, 0 for missed people
    near: float | None  # fraction of the keypoints with a similarity of at least `NEAR`
    near_if_found: float | None  # the same fraction for detected people


@dataclass(frozen=True)
class VisibilityTable:
    """Keypoint accuracy by visibility and keypoint."""

    rows: tuple[VisibilityRow, ...]

    @property
    def text(self) -> str:
        """AP and accuracy of visible and hidden keypoints."""
        parts = [
            f'{r.visibility} (n={r.num_keypoints}) AP {format_percent(r.ap)}, '
            f'correct {format_percent(r.near)}'
            for r in self.rows
            if r.keypoint == 'all'
        ]
        return 'Keypoints, percent: ' + '; '.join(parts)


def measure_visibility(scored: ScoredResults) -> VisibilityTable:
    """Compute keypoint accuracy by COCO's flag (1 hidden, 2 visible) and by keypoint.

    AP uses the OKS over the keypoints with the flag and ignores people without such keypoints. The
    other metrics are per keypoint: COCO's matching at OKS 0.1 assigns results to people, and each
    keypoint of a matched person has a similarity, whose mean is OKS.
    """
    people = scored.annotations['annotations']
    names = find_keypoint_set(people[0]).names if people else COCO_NAMES
    similarities, flags, found = _keypoint_rows(scored, len(names))
    rows = []
    for name, values in VISIBILITIES.items():
        images = compute_overlaps(scored, 'keypoints', flags=values)
        score = score_part(images, [image.ignored for image in images])
        use = np.isin(flags, values)
        rows.append(_visibility_row('all', name, similarities, use, found, score.ap))
        for k, keypoint in enumerate(names):
            column = use & (np.arange(use.shape[1]) == k)
            rows.append(_visibility_row(keypoint, name, similarities, column, found, None))
    return VisibilityTable(tuple(rows))


def _keypoint_rows(scored: ScoredResults, count: int) -> tuple[Numbers, Numbers, Flags]:
    """Similarities (N, K), flags (N, K) and whether matched (N,), of all N annotated people."""
    similarities, flags, found = [], [], []
    for image in compute_overlaps(scored, 'keypoints'):
        matched = match(image, MIN_OKS)
        for g in np.flatnonzero(~image.ignored).tolist():
            rows = [image.results[d] for d in np.flatnonzero(matched == g)]
            similarities.append(
                compute_keypoint_similarities(rows, image.people[g])[0] if rows else np.zeros(count)
            )
            flags.append(read_keypoint_flags(image.people[g]))
            found.append(bool(rows))
    shape = (len(found), count)
    return (
        np.array(similarities, np.float64).reshape(shape),
        np.array(flags, np.float64).reshape(shape),
        np.array(found, bool),
    )


def _visibility_row(
    keypoint: str, name: str, similarities: Numbers, use: Flags, found: Flags, ap: float | None
) -> VisibilityRow:
    values, of_found = similarities[use], similarities[use & found[:, None]]
    return VisibilityRow(
        keypoint, name, int(use.sum()), int(use.any(1).sum()), ap,
        mean_or_none(values), mean_or_none(values >= NEAR), mean_or_none(of_found >= NEAR),
    )  # fmt: skip
