"""Place labels where they cover neither faces nor other labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from ..arrays import Floats, Image
from ..boxes import box_intersections
from ..keypoints import COCO_NAMES
from .palette import Colours

if TYPE_CHECKING:
    from .drawable import Drawable

_HEAD = COCO_NAMES[:5]  # nose, eyes, ears
_PAD = 2
_MAX_FRACTION = 0.35  # maximum area of a label, as a fraction of the person's box
_MAX_OVERLAP = 0.1  # of a label with a face or another label
_REACH = 8  # label heights between a person and a label with a leader line
_LEADER = 3  # px, the shortest visible leader line


def draw_labels(
    canvas: Image,
    people: Drawable,
    texts: Sequence[str],
    shown: npt.NDArray[np.bool_],
    colours: Colours,
) -> None:
    """Write the text of each person on ``canvas``, highest score first.

    A label that has no room at its person, since it would cover a face or another label or hide a
    small person, is written nearby, with a line to the person. It is omitted only if that has no
    room either.

    Args:
        canvas: (H, W, 3) uint8 RGB, modified in place.
        people: N people.
        texts: N labels.
        shown: (N, K) confident keypoints.
        colours: (N, 3) RGB of each person.
    """
    faces = estimate_face_boxes(people, shown)
    taken: Floats = np.zeros((0, 4), np.float32)
    order = np.argsort(-people.scores, kind='stable').tolist()
    fonts = [_font(_font_size(box, people.image_shape)) for box in people.boxes]
    # Labels with leader lines come last: they can go elsewhere.
    for far, i in product((False, True), order):
        if far and i not in order:
            continue
        size, box = _text_size(fonts[i], texts[i]), people.boxes[i]
        place = _place(box, size, people.image_shape, faces, taken, far=far)
        if place is not None:
            taken = np.concatenate([taken, place[None]])
            if far:
                _draw_leader(canvas, box, place, colours[i])
            _write(canvas, place, texts[i], fonts[i], colours[i])
            order = [other for other in order if other != i]


def estimate_face_boxes(people: Drawable, shown: npt.NDArray[np.bool_]) -> Floats:
    """Estimate the boxes (N, 4) xyxy px of the faces.

    A box encloses the confident keypoints of the head; without any, it is the top centre of the
    person's box.
    """
    boxes = people.boxes
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    middle = (boxes[:, 0] + boxes[:, 2]) / 2
    half = np.minimum(width * 0.25, height * 0.12)
    guess = np.stack([middle - half, boxes[:, 1], middle + half, boxes[:, 1] + 2 * half], axis=1)
    head = [k for k, name in enumerate(people.keypoint_set.names) if name in _HEAD]
    for i, row in enumerate(shown):
        points = people.keypoints[i, head][row[head]]
        if len(points):
            low, high = points.min(0), points.max(0)
            margin = max(float((high - low).max()) * 0.5, float(half[i]) * 0.5)
            guess[i] = np.concatenate([low - margin, high + margin])
    return np.asarray(guess, np.float32)


def _font_size(box: Floats, image_shape: tuple[int, int]) -> int:
    person = float(np.sqrt(np.prod(np.maximum(box[2:] - box[:2], 0))))
    largest = max(13.0, max(image_shape) / 70)
    return int(np.clip(person / 9, 10, largest))


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _text_size(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str) -> tuple[int, int]:
    left, top, right, bottom = font.getbbox(text)
    return round(right - left) + 2 * _PAD + 1, round(bottom - top) + 2 * _PAD


def _place(
    box: Floats,
    size: tuple[int, int],
    image_shape: tuple[int, int],
    faces: Floats,
    taken: Floats,
    *,
    far: bool,
) -> Floats | None:
    """Find the best free position of a label of ``size`` (w, h): xyxy px, or None."""
    height, width = image_shape
    w, h = size
    area = float(np.prod(box[2:] - box[:2]))
    if w > width or h > height or (w * h > _MAX_FRACTION * area and not far):
        return None
    corners = _far_candidates(box, w, h) if far else _candidates(box, w, h)
    corners = np.clip(corners, 0, [width - w, height - h])
    rows = np.concatenate([corners, corners + np.array(size)], axis=1).astype(np.float32)
    avoided = np.concatenate([faces, taken, box[None]] if far else [faces, taken])
    shared = np.asarray(box_intersections(rows, avoided), np.float32)
    covered = shared.max(axis=1, initial=0) / (w * h)
    free = np.flatnonzero(covered <= (0 if far else _MAX_OVERLAP))
    if far:
        lines = [_leader(box, row) for row in rows[free]]
        free = free[[not _crosses(line, faces) for line in lines]] if len(free) else free
    return rows[free[0]] if len(free) else None


def _candidates(box: Floats, w: int, h: int) -> npt.NDArray[np.int64]:
    """Top-left corners (M, 2), best first: above the box, then at its bottom, then below it."""
    left, top, right, bottom = np.round(box).astype(int).tolist()
    middle = (left + right - w) // 2
    columns = (left, right - w, middle)
    rows = (top - h, bottom - h, bottom, (top + bottom - h) // 2, top)
    return np.array([(x, y) for y in rows for x in columns], np.int64)


def _far_candidates(box: Floats, w: int, h: int) -> npt.NDArray[np.int64]:
    """Top-left corners (M, 2) around the box, near ones first, above before below."""
    left, top, right, bottom = np.round(box).astype(int).tolist()
    corners = []
    for step in range(1, _REACH + 1):
        away = step * h
        columns = (left - w - away, left, (left + right - w) // 2, right - w, right + away)
        corners += [(x, y) for y in (top - h - away, bottom + away) for x in columns]
        corners += [(x, (top + bottom - h) // 2) for x in (left - w - away, right + away)]
    return np.array(corners, np.int64)


def _draw_leader(canvas: Image, box: Floats, place: Floats, colour: npt.NDArray[np.uint8]) -> None:
    """Draw the line from a label to its person, if it is long enough to be seen."""
    ends = _leader(box, place)
    if np.abs(ends[1] - ends[0]).max() >= _LEADER:
        start, end = ends.round().astype(int).tolist()
        cv2.line(canvas, start, end, (24, 24, 28), 3, cv2.LINE_AA)
        cv2.line(canvas, start, end, colour.tolist(), 2, cv2.LINE_AA)


def _leader(box: Floats, place: Floats) -> Floats:
    """Line (2, 2) from the edge of a label to the nearest point of the person's box."""
    around = box + np.array([-4, -4, 4, 4])  # a small face may begin at the box
    end = np.clip((place[:2] + place[2:]) / 2, around[:2], around[2:])
    return np.asarray([np.clip(end, place[:2], place[2:]), end], np.float32)


def _crosses(line: Floats, faces: Floats) -> bool:
    """Whether a line passes over a face, or closer than its own width."""
    points = line[0] + np.linspace(0, 1, 32)[:, None] * (line[1] - line[0])
    inside = (points[:, None] > faces[:, :2] - 2) & (points[:, None] < faces[:, 2:] + 2)
    return bool(inside.all(axis=2).any())


def text_colour(colour: npt.NDArray[np.uint8]) -> tuple[int, int, int]:
    """Black or white, the one with the higher contrast (WCAG) on an RGB colour; at least 4.5:1."""
    channels = colour / 255.0
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    # (L + 0.05) / 0.05 and 1.05 / (L + 0.05) are the two contrasts.
    return (0, 0, 0) if (luminance + 0.05) ** 2 >= 0.05 * 1.05 else (255, 255, 255)


def _write(
    canvas: Image,
    place: Floats,
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    colour: npt.NDArray[np.uint8],
) -> None:
    left, top, right, bottom = place.astype(int).tolist()
    tile = PilImage.new('RGB', (right - left, bottom - top), tuple(colour.tolist()))
    x, y, *_ = font.getbbox(text)
    ImageDraw.Draw(tile).text((_PAD - x, _PAD - y), text, fill=text_colour(colour), font=font)
    canvas[top:bottom, left:right] = np.asarray(tile)
