"""How much every result overlaps every annotated person: what all studies of a results file need.

Legend: a photo has D results, best score first, and G annotations; K keypoints.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..io.coco import RESULT_KEYS, Task
from ..keypoints import KEYPOINT_SETS, KeypointSet
from ..rle import to_rle
from .scored import Scored

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Row = dict[str, Any]

LABELLED = (1, 2)  # COCO's flags of an annotated keypoint: hidden, visible
MAX_RESULTS = {'bbox': 100, 'segm': 100, 'keypoints': 20}  # per photo, as COCO counts them


@dataclass(frozen=True, eq=False)
class ImageOverlaps:
    """One photo of one task."""

    image_id: int | str
    people: tuple[Row, ...]  # G annotations, in the order of the file, crowd regions too
    results: tuple[Row, ...]  # D rows of the results file
    overlaps: Numbers  # (D, G) IoU or OKS, in [0, 1]
    ignored: Flags  # (G,) crowd regions; for keypoints also people without a labelled one

    @property
    def scores(self) -> Numbers:
        """(D,) falling."""
        return np.array([r['score'] for r in self.results], np.float64)

    @property
    def crowds(self) -> Flags:
        """(G,) regions that hold many people; any number of results may lie there."""
        return np.array([bool(p.get('iscrowd', 0)) for p in self.people], bool)


def image_overlaps(
    scored: Scored, task: Task, *, flags: Collection[int] = LABELLED
) -> list[ImageOverlaps]:
    """All photos, in the order of their ids; what is ignored follows COCO.

    Args:
        scored: results and annotations.
        task: what is compared.
        flags: keypoints with these flags make up the OKS; people without one are ignored.
    """
    annotations = scored.annotations_of(task)
    rows_of, people = _by_photo(scored.results), _by_photo(annotations['annotations'])
    ids = [image['id'] for image in annotations['images']]
    photos = []
    for image in sorted(ids, key=lambda v: (isinstance(v, str), v)):
        rows = [r for r in rows_of.get(image, []) if r[RESULT_KEYS[task]] is not None]
        rows = sorted(rows, key=lambda r: -r['score'])[: MAX_RESULTS[task]]
        photos.append(_photo(image, rows, people.get(image, []), task, flags))
    return photos


def _by_photo(rows: Sequence[Row]) -> dict[int | str, list[Row]]:
    grouped: dict[int | str, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row['image_id']].append(row)
    return grouped


def _photo(
    image_id: int | str, rows: list[Row], people: list[Row], task: Task, flags: Collection[int]
) -> ImageOverlaps:
    crowds = np.array([bool(p.get('iscrowd', 0)) for p in people], bool)
    if task != 'keypoints':
        overlaps = _iou(rows, people, crowds, task)
        return ImageOverlaps(image_id, tuple(people), tuple(rows), overlaps, crowds)
    use = [np.isin(flags_of(p), list(flags)) for p in people]
    overlaps = np.zeros((len(rows), len(people)))
    for g, (person, points) in enumerate(zip(people, use, strict=True)):
        overlaps[:, g] = oks(rows, person, points)
    nothing = [not u.any() or not p['num_keypoints'] for u, p in zip(use, people, strict=True)]
    return ImageOverlaps(
        image_id, tuple(people), tuple(rows), overlaps, crowds | np.array(nothing, bool)
    )


def _iou(rows: list[Row], people: list[Row], crowds: Flags, task: Task) -> Numbers:
    from pycocotools import mask as coco_mask

    if not rows or not people:
        return np.zeros((len(rows), len(people)))
    shapes: list[list[Any]]
    if task == 'bbox':
        shapes = [[[float(v) for v in r['bbox']] for r in both] for both in (rows, people)]
    else:
        height, width = rows[0]['segmentation']['size']
        shapes = [
            [to_rle(r['segmentation'], height, width) for r in both] for both in (rows, people)
        ]
    return np.asarray(coco_mask.iou(*shapes, crowds.astype(np.uint8).tolist()), np.float64)


def flags_of(row: Row) -> npt.NDArray[np.int64]:
    """COCO's flags (K,) of the keypoints of an annotation: 0 not labelled, 1 hidden, 2 visible."""
    return np.array(row['keypoints'][2::3], np.int64)


def keypoint_set(person: Row) -> KeypointSet:
    """The keypoints that an annotated person has."""
    sets = {known.num: known for known in KEYPOINT_SETS.values()}
    return sets[len(person['keypoints']) // 3]


def keypoint_similarities(rows: Sequence[Row], person: Row) -> Numbers:
    """Similarity (D, K) in [0, 1] of each keypoint of results to that of an annotated person.

    exp(-d^2 / (2 s^2 k^2)), s^2 the annotated area, k twice the sigma of the keypoint, as in
    pycocotools ``COCOeval.computeOks``.
    """
    found = _points(rows)
    true = np.array(person['keypoints'], np.float64).reshape(-1, 3)[:, :2]
    return _similarity(((found - true) ** 2).sum(-1), person)


def oks(rows: Sequence[Row], person: Row, use: Flags) -> Numbers:
    """Object keypoint similarity (D,) of results to a person, over the keypoints ``use`` (K,).

    With no keypoint to use, by the distance to the doubled box, as in COCO; such people are
    ignored, and this finds the results that are theirs.
    """
    if not rows:
        return np.zeros(0)
    if use.any():
        return np.asarray(keypoint_similarities(rows, person)[:, use].mean(1))
    x, y, w, h = person['bbox']
    low, high = np.array([x - w, y - h]), np.array([x + 2 * w, y + 2 * h])
    points = _points(rows)
    outside = np.maximum(low - points, 0) + np.maximum(points - high, 0)
    return np.asarray(_similarity((outside**2).sum(-1), person).mean(1))


def _points(rows: Sequence[Row]) -> Numbers:
    flat = np.array([r['keypoints'] for r in rows], np.float64)
    return flat.reshape(len(rows), -1, 3)[..., :2]


def _similarity(squared: Numbers, person: Row) -> Numbers:
    variances = (2 * keypoint_set(person).sigmas) ** 2
    return np.asarray(np.exp(-squared / variances / (person['area'] + np.spacing(1)) / 2))
