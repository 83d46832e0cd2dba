"""Overlaps of results and annotated people.

Legend: an image has D results, highest score first, and G annotations; K keypoints.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..io.coco import RESULT_KEYS, Task
from ..keypoint_sets import KEYPOINT_SETS
from ..keypoints import KeypointSet
from ..rle import to_rle
from .scored import ScoredResults

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Row = dict[str, Any]

LABELLED = (1, 2)  # COCO's flags of an annotated keypoint: hidden, visible
MAX_RESULTS = {'bbox': 100, 'segm': 100, 'keypoints': 20}  # per image, as in COCO


@dataclass(frozen=True, eq=False)
class ImageOverlaps:
    """Overlaps of one image in one task."""

    image_id: int | str
    people: tuple[Row, ...]  # G annotations with crowd regions, in the order of the file
    results: tuple[Row, ...]  # D rows of the results file
    overlaps: Numbers  # (D, G) IoU or OKS, in [0, 1]
    ignored: Flags  # (G,) crowd regions; for keypoints also people without labelled ones

    @property
    def scores(self) -> Numbers:
        """(D,) in descending order."""
        return np.array([r['score'] for r in self.results], np.float64)

    @property
    def crowds(self) -> Flags:
        """(G,) crowd regions, which match any number of results."""
        return np.array([bool(p.get('iscrowd', 0)) for p in self.people], bool)


def compute_overlaps(
    scored: ScoredResults, task: Task, *, flags: Collection[int] = LABELLED
) -> list[ImageOverlaps]:
    """Compute the overlaps of all images, in the order of their ids; ignores people as COCO does.

    Args:
        scored: results and annotations.
        task: 'bbox', 'segm' or 'keypoints'.
        flags: flags of the keypoints in the OKS; people without such keypoints are ignored.
    """
    annotations = scored.annotations_of(task)
    results, people = _group_by_image(scored.results), _group_by_image(annotations['annotations'])
    ids = [image['id'] for image in annotations['images']]
    images = []
    for image_id in sorted(ids, key=lambda v: (isinstance(v, str), v)):
        rows = [r for r in results.get(image_id, []) if r[RESULT_KEYS[task]] is not None]
        rows = sorted(rows, key=lambda r: -r['score'])[: MAX_RESULTS[task]]
        images.append(_compare_image(image_id, rows, people.get(image_id, []), task, flags))
    return images


def _group_by_image(rows: Sequence[Row]) -> dict[int | str, list[Row]]:
    grouped: dict[int | str, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row['image_id']].append(row)
    return grouped


def _compare_image(
    image_id: int | str, rows: list[Row], people: list[Row], task: Task, flags: Collection[int]
) -> ImageOverlaps:
    crowds = np.array([bool(p.get('iscrowd', 0)) for p in people], bool)
    if task != 'keypoints':
        overlaps = _iou(rows, people, crowds, task)
        return ImageOverlaps(image_id, tuple(people), tuple(rows), overlaps, crowds)
    overlaps, ignored = np.zeros((len(rows), len(people))), crowds.copy()
    for g, person in enumerate(people):
        use = np.isin(read_keypoint_flags(person), list(flags))
        overlaps[:, g] = compute_oks(rows, person, use)
        ignored[g] |= not use.any() or not person['num_keypoints']
    return ImageOverlaps(image_id, tuple(people), tuple(rows), overlaps, ignored)


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


def read_keypoint_flags(row: Row) -> npt.NDArray[np.int64]:
    """Read the flags (K,) of an annotation: 0 not labelled, 1 hidden, 2 visible."""
    return np.array(row['keypoints'][2::3], np.int64)


def find_keypoint_set(person: Row) -> KeypointSet:
    """Find the keypoint set of an annotated person by the number of keypoints."""
    sets = {known.num: known for known in KEYPOINT_SETS.values()}
    return sets[len(person['keypoints']) // 3]


def compute_keypoint_similarities(rows: Sequence[Row], person: Row) -> Numbers:
    """Compute the similarity (D, K) in [0, 1] of the keypoints of results and a person.

    exp(-d^2 / (2 s^2 k^2)) with the annotated area s^2 and twice the sigma of the keypoint k, as in
    pycocotools ``COCOeval.computeOks``.
    """
    annotated = np.array(person['keypoints'], np.float64).reshape(-1, 3)[:, :2]
    return _similarity(((_points(rows) - annotated) ** 2).sum(-1), person)


def compute_oks(rows: Sequence[Row], person: Row, use: Flags) -> Numbers:
    """Compute the OKS (D,) of results and a person, over the keypoints ``use`` (K,).

    Without keypoints in ``use``, the distance to the doubled box counts, as in COCO: such a person
    is ignored, together with the results nearby.
    """
    if not rows:
        return np.zeros(0)
    if use.any():
        return np.asarray(compute_keypoint_similarities(rows, person)[:, use].mean(1))
    x, y, w, h = person['bbox']
    low, high = np.array([x - w, y - h]), np.array([x + 2 * w, y + 2 * h])
    points = _points(rows)
    outside = np.maximum(low - points, 0) + np.maximum(points - high, 0)
    return np.asarray(_similarity((outside**2).sum(-1), person).mean(1))


def _points(rows: Sequence[Row]) -> Numbers:
    flat = np.array([r['keypoints'] for r in rows], np.float64)
    return flat.reshape(len(rows), -1, 3)[..., :2]


def _similarity(squared: Numbers, person: Row) -> Numbers:
    variances = (2 * find_keypoint_set(person).sigmas) ** 2
    return np.asarray(np.exp(-squared / variances / (person['area'] + np.spacing(1)) / 2))
