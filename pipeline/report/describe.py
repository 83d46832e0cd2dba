"""Describe the people of an image for the script of the page.

Boxes are x1, y1, x2, y2 and points x, y in px of the image; masks are outlines as SVG paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from ..boxes import box_intersections, xywh_to_xyxy
from ..evaluation.overlaps import Row
from ..masks import Bitmap, Masks
from ..rle import to_rle
from ..scores import pose_scores
from ..structures import Floats, MaskSource, People
from ..visualization.palette import choose_colours

_MIN_DISPUTED = 0.02  # of the smaller mask: two people of whom one is in front of the other


def describe_people(
    people: People, raw: Masks | None = None, verdicts: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Describe N people.

    Args:
        people: of one image.
        raw: their masks before overlaps were resolved, N rows; None: not recorded.
        verdicts: per person ``'hit'``, ``'false'`` or ``''``; empty without ground truth.
    """
    colours = choose_colours(people.boxes).tolist()
    poses = pose_scores(people.keypoint_set.view(people.keypoint_scores)).tolist()
    areas = people.masks.areas.astype(int).tolist()
    points = np.concatenate(
        [people.keypoints, people.keypoint_scores[..., None], people.visibility[..., None]], axis=2
    )
    confident = np.minimum(people.keypoint_scores, people.presence)
    points[..., 2] = confident
    return [
        {
            'colour': '#{:02x}{:02x}{:02x}'.format(*colours[i]),
            'score': round(float(people.scores[i]), 3),
            'box_score': round(float(people.box_scores[i]), 3),
            'mask_score': round(float(people.mask_scores[i]), 3),
            'pose_score': round(poses[i], 3),
            'round': int(people.rounds[i]),
            'source': MaskSource(int(people.mask_sources[i])).name.lower(),
            'box': _numbers(people.boxes[i], 1),
            'detector_box': _numbers(people.detector_boxes[i], 1),
            'area': areas[i],
            'mask': outline(people.masks.crops[i], people.masks.offsets[i]),
            'points': [_numbers(point, 2) for point in points[i]],
            'prompts': [int(k) for k in people.prompts[i] if k >= 0],
            **({} if raw is None else _describe_raw(raw, i)),
            **({'verdict': verdicts[i]} if len(verdicts) else {}),
        }
        for i in range(len(people))
    ]


def _describe_raw(raw: Masks, i: int) -> dict[str, Any]:
    return {'raw': outline(raw.crops[i], raw.offsets[i]), 'raw_area': int(raw.areas[i])}


def find_occlusions(people: People, raw: Masks) -> list[list[int]]:
    """Pairs (in front, behind) of people whose masks overlapped; who won the pixels is in front."""
    shared = np.asarray(box_intersections(raw.boxes, raw.boxes))
    pairs = []
    for i, j in np.argwhere(np.triu(shared > 0, 1)).tolist():
        (a, b), (c, d) = ([(s.start, s.stop) for s in raw.window(k)] for k in (i, j))
        window = (slice(max(a[0], c[0]), min(a[1], c[1])), slice(max(b[0], d[0]), min(b[1], d[1])))
        disputed = raw.crop(i, window) & raw.crop(j, window)
        if disputed.sum() > _MIN_DISPUTED * min(raw.areas[i], raw.areas[j]):
            won = [(disputed & people.masks.crop(k, window)).sum() for k in (i, j)]
            pairs.append([i, j] if won[0] >= won[1] else [j, i])
    return pairs


def describe_truth(rows: Sequence[Row], found: Sequence[set[int]], task: str) -> list[Any]:
    """Describe annotated people; ``found`` has the rows that each side found."""
    described = []
    for n, row in enumerate(rows):
        if row.get('iscrowd'):
            continue
        item: dict[str, Any] = {
            'box': _numbers(xywh_to_xyxy(row['bbox'])[0], 1),
            'missed': [n in missed for missed in found],
        }
        if task == 'keypoints':
            item['points'] = np.reshape(row['keypoints'], (-1, 3)).tolist()
        described.append(item)
    return described


def add_truth_masks(truth: list[Any], rows: Sequence[Row], size: tuple[int, int]) -> None:
    """Add the outlines of annotated masks to the result of `describe_truth`."""
    single = [row for row in rows if not row.get('iscrowd')]
    for item, row in zip(truth, single, strict=True):
        masks = Masks.from_rle([to_rle(row['segmentation'], *size)], size)
        item['mask'] = outline(masks.crops[0], masks.offsets[0])


def outline(bitmap: Bitmap, offset: Any) -> str:
    """SVG path of the contours of a crop whose top left pixel is at ``offset`` (x, y)."""
    if not bitmap.size:
        return ''
    padded = np.pad(bitmap.astype(np.uint8), 1)
    contours, _ = cv2.findContours(padded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    parts = []
    for contour in contours:
        points = cv2.approxPolyDP(contour, 0.8, True)[:, 0] + np.asarray(offset) - 1
        parts.append('M' + 'L'.join(f'{x} {y}' for x, y in points.tolist()) + 'Z')
    return ''.join(parts)


def crowding(boxes: Floats) -> float:
    """The largest IoU of two boxes of an image; 0 for fewer than two people."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    shared = np.asarray(box_intersections(boxes, boxes))
    union = areas[:, None] + areas - shared
    return round(float(np.triu(shared / np.maximum(union, 1e-6), 1).max(initial=0)), 3)


def _numbers(values: Floats, digits: int) -> list[float]:
    # NaN is no number in JSON, nor in a script.
    return [round(float(v), digits) if np.isfinite(v) else 0 for v in values]
