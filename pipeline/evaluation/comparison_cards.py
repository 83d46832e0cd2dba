"""Images of the comparison page: both overlays, with the ground truth as SVG lines on top.

Legend: H x W image; SVG coordinates are px of the image.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import PIL.Image

from ..io.coco import Task
from ..io.coco_people import people_from_coco
from ..io.images import describe_exchanged_sides
from ..keypoints import COCO_SKELETON, NUM_COCO
from ..rle import to_rle
from ..structures import Image
from ..visualization.draw import draw_people
from ..visualization.style import DrawingStyle, Layer
from .comparison import ImageDifference, ImageQuality
from .overlaps import Row

LAYER_OF_TASK: dict[Task, Layer] = {
    'bbox': 'boxes', 'segm': 'masks', 'keypoints': 'skeletons',
}  # fmt: skip
_GREY = 96  # of the canvas of a missing image
_JPEG_QUALITY = 82


@dataclass(frozen=True)
class Card:
    """An image of the page."""

    difference: ImageDifference
    width: int  # px of the image
    height: int
    overlays: tuple[str, str]  # data URLs: result A, result B
    ground_truth: str  # SVG lines
    missed: tuple[str, str]  # SVG boxes of the people that A, B missed
    problem: str  # reason why the image is missing, or empty


def make_card(
    difference: ImageDifference,
    people: Sequence[Row],
    rows: tuple[Sequence[Row], Sequence[Row]],
    image_or_reason: Image | str,
    *,
    size: tuple[int, int],
    task: Task,
    max_side: int,
) -> Card:
    """Draw an image.

    Args:
        difference: metrics of the image.
        people: annotations of the image.
        rows: results of A and of B.
        image_or_reason: (H, W, 3) RGB uint8, or the reason why it is missing; a missing image is
            replaced by a grey one.
        size: (H, W) in the annotations.
        task: task to draw.
        max_side: px of the longer side of the overlays on the page.
    """
    height, width = size
    canvas: Image = np.full((height, width, 3), _GREY, np.uint8)
    problem = ''
    if isinstance(image_or_reason, str):
        problem = image_or_reason
    elif image_or_reason.shape[:2] != size:
        problem = (
            f'the image is {image_or_reason.shape[1]} x {image_or_reason.shape[0]}, the '
            f'annotations say {width} x {height}'
            + describe_exchanged_sides(image_or_reason.shape[:2], size)
        )
    else:
        canvas = image_or_reason
    style = DrawingStyle((LAYER_OF_TASK[task],))
    a, b = (
        _data_url(_shrink(draw_people(canvas, people_from_coco(r, *size), style), max_side))
        for r in rows
    )
    missed_a, missed_b = (
        _boxes(people[g]['bbox'] for g in side.missed) for side in (difference.a, difference.b)
    )
    lines = _draw_ground_truth(people, size, task)
    return Card(difference, width, height, (a, b), lines, (missed_a, missed_b), problem)


def render_marks(side: ImageQuality, missed: str, task: Task) -> str:
    """Render SVG boxes of missed people, false positives and, for boxes, true positives."""
    found = _boxes(side.found_boxes) if task == 'bbox' else ''
    groups = (('missed', missed), ('found', found), ('false', _boxes(side.false_boxes)))
    return ''.join(f'<g class="{css}">{boxes}</g>' for css, boxes in groups)


def _draw_ground_truth(people: Sequence[Row], size: tuple[int, int], task: Task) -> str:
    single = [p for p in people if not p.get('iscrowd', 0)]
    if task == 'bbox':
        return _boxes(p['bbox'] for p in single)
    draw = _outline if task == 'segm' else _skeleton
    return ''.join(draw(p, size) for p in single)


def _boxes(boxes_xywh: Iterable[Sequence[float]]) -> str:
    return ''.join(
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}"/>'
        for x, y, w, h in boxes_xywh
    )


def _outline(person: Row, size: tuple[int, int]) -> str:
    from pycocotools import mask as coco_mask

    bitmap = np.ascontiguousarray(coco_mask.decode(to_rle(person['segmentation'], *size)))
    contours, _ = cv2.findContours(bitmap, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    short = (cv2.approxPolyDP(c, 0.7, True)[:, 0] + 0.5 for c in contours)
    lines = ('M' + 'L'.join(f'{x:.1f} {y:.1f}' for x, y in c.tolist()) + 'Z' for c in short)
    return f'<path d="{"".join(lines)}"/>'


def _skeleton(person: Row, size: tuple[int, int]) -> str:
    points = np.array(person['keypoints'], float).reshape(-1, 3).tolist()
    radius = max(size) / 250
    bones = (
        (points[a], points[b])
        for a, b in COCO_SKELETON
        if len(points) == NUM_COCO and points[a][2] > 0 and points[b][2] > 0
    )
    lines = ''.join(f'<path d="M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}"/>' for a, b in bones)
    dots = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>' for x, y, flag in points if flag > 0
    )
    return lines + ''.join(dots)


def _shrink(image: Image, max_side: int) -> Any:
    factor = max_side / max(image.shape[:2])
    if factor >= 1:
        return image
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def _data_url(image: Image) -> str:
    stream = BytesIO()
    PIL.Image.fromarray(image).save(stream, 'JPEG', quality=_JPEG_QUALITY, optimize=True)
    return 'data:image/jpeg;base64,' + b64encode(stream.getvalue()).decode()
