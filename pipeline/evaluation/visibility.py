"""How well keypoints are placed, by visibility and by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..keypoints import COCO_NAMES
from .overlaps import (
    LABELLED,
    Flags,
    Numbers,
    compute_keypoint_similarities,
    compute_overlaps,
    find_keypoint_set,
    read_keypoint_flags,
)
from .precision import match, score_part
from .scored import ScoredResults

OWN_POSE = 0.1  # OKS from which a result is about a person, however badly
NEAR = 0.5  # similarity from which a keypoint is right

HIDDEN, VISIBLE = 1, 2
VISIBILITIES: dict[str, tuple[int, ...]] = {
    'all': LABELLED,
    'visible': (VISIBLE,),
    'hidden': (HIDDEN,),
}


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


def measure_visibility(scored: ScoredResults) -> VisibilityTable:
    """How well keypoints are placed, by COCO's flag (1 hidden, 2 visible) and by name.

    AP: OKS is made of the keypoints of this flag alone, people without one are ignored. The other
    columns count keypoints: results are given to people by COCO's matching at OKS 0.1 (a person
    without one was not found), then each keypoint has the similarity that OKS is the mean of.
    """
    names = _names(scored)
    similarities, flags, found = _keypoint_rows(scored, len(names))
    rows = []
    for name, wanted in VISIBILITIES.items():
        photos = compute_overlaps(scored, 'keypoints', flags=wanted)
        score = score_part(photos, [p.ignored for p in photos])
        use = np.isin(flags, wanted)
        rows.append(_visibility_row('all', name, similarities, use, found, score.ap))
        for k, keypoint in enumerate(names):
            one = use & (np.arange(use.shape[1]) == k)
            rows.append(_visibility_row(keypoint, name, similarities, one, found, None))
    return VisibilityTable(tuple(rows))


def _keypoint_rows(scored: ScoredResults, count: int) -> tuple[Numbers, Numbers, Flags]:
    """Of all N annotated people: similarities (N, K), flags (N, K), was he found (N,)."""
    similarities, flags, found = [], [], []
    for photo in compute_overlaps(scored, 'keypoints'):
        matched = match(photo, OWN_POSE)
        for g in np.flatnonzero(~photo.ignored).tolist():
            rows = [photo.results[d] for d in np.flatnonzero(matched == g)]
            similarities.append(
                compute_keypoint_similarities(rows, photo.people[g])[0] if rows else np.zeros(count)
            )
            flags.append(read_keypoint_flags(photo.people[g]))
            found.append(bool(rows))
    shape = (len(found), count)
    return (
        np.array(similarities, np.float64).reshape(shape),
        np.array(flags, np.float64).reshape(shape),
        np.array(found, bool),
    )


def _names(scored: ScoredResults) -> tuple[str, ...]:
    people = scored.annotations['annotations']
    return find_keypoint_set(people[0]).names if people else COCO_NAMES


def _visibility_row(
    keypoint: str, name: str, similarities: Numbers, use: Flags, found: Flags, ap: float | None
) -> VisibilityRow:
    values, theirs = similarities[use], use & found[:, None]
    return VisibilityRow(
        keypoint, name, int(use.sum()), int(use.any(1).sum()), ap,
        _mean(values), _mean(values >= NEAR), _mean(similarities[theirs] >= NEAR),
    )  # fmt: skip


def _mean(values: Numbers | Flags) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _percent(value: float | None) -> str:
    return '–' if value is None else f'{100 * value:.1f}'
