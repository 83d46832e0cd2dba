"""Place labels where they cover neither faces nor other labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from ..arrays import Floats, Image
from ..boxes import box_intersections
from ..keypoints import COCO_NAMES
from .palette import Colours, oklab

if TYPE_CHECKING:
    from .drawable import Drawable

_HEAD = COCO_NAMES[:5]  # nose, eyes, ears
_PAD = 2
_MAX_FRACTION = 0.35  # maximum area of a label, as a fraction of the person's box
_MAX_OVERLAP = 0.1  # of a label with a face or another label


def draw_labels(
    canvas: Image,
    people: Drawable,
    texts: Sequence[str],
    shown: npt.NDArray[np.bool_],
    colours: Colours,
) -> None:
    """Write the text of each person on ``canvas``, highest score first.

    A label is omitted if all candidate positions cover a face or another label, or if the person is
    too small.

    Args:
        canvas: (H, W, 3) uint8 RGB, modified in place.
        people: N people.
        texts: N labels.
        shown: (N, K) confident keypoints.
        colours: (N, 3) RGB of each person.
    """
    faces = estimate_face_boxes(people, shown)
    taken: Floats = np.zeros((0, 4), np.float32)
    for i in np.argsort(-people.scores, kind='stable').tolist():
        font = _font(_font_size(people.boxes[i], people.image_shape))
        size = _text_size(font, texts[i])
        place = _place(people.boxes[i], size, people.image_shape, faces, taken)
        if place is not None:
            taken = np.concatenate([taken, place[None]])
            _write(canvas, place, texts[i], font, colours[i])


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
    box: Floats, size: tuple[int, int], image_shape: tuple[int, int], faces: Floats, taken: Floats
) -> Floats | None:
    """Find the best free position of a label of ``size`` (w, h): xyxy px, or None."""
    height, width = image_shape
    w, h = size
    area = float(np.prod(box[2:] - box[:2]))
    if w > width or h > height or w * h > _MAX_FRACTION * area:
        return None
    corners = np.clip(_candidates(box, w, h), 0, [width - w, height - h])
    rows = np.concatenate([corners, corners + np.array(size)], axis=1).astype(np.float32)
    shared = np.asarray(box_intersections(rows, np.concatenate([faces, taken])), np.float32)
    covered = shared.max(axis=1, initial=0) / (w * h)
    free = np.flatnonzero(covered <= _MAX_OVERLAP)
    return rows[free[0]] if len(free) else None


def _candidates(box: Floats, w: int, h: int) -> npt.NDArray[np.int64]:
    """Top-left corners (M, 2), best first: above the box, then at its bottom, then below it."""
    left, top, right, bottom = np.round(box).astype(int).tolist()
    middle = (left + right - w) // 2
    columns = (left, right - w, middle)
    rows = (top - h, bottom - h, bottom, (top + bottom - h) // 2, top)
    return np.array([(x, y) for y in rows for x in columns], np.int64)


def _write(
    canvas: Image,
    place: Floats,
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    colour: npt.NDArray[np.uint8],
) -> None:
    left, top, right, bottom = place.astype(int).tolist()
    dark_text = oklab(colour[None])[0, 0] > 0.62
    tile = PilImage.new('RGB', (right - left, bottom - top), tuple(colour.tolist()))
    x, y, *_ = font.getbbox(text)
    ink = (0, 0, 0) if dark_text else (255, 255, 255)
    ImageDraw.Draw(tile).text((_PAD - x, _PAD - y), text, fill=ink, font=font)
    canvas[top:bottom, left:right] = np.asarray(tile)
