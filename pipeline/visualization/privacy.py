"""Hide faces or whole people in images that may be shown."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Image
from .drawable import Drawable
from .labels import estimate_face_boxes
from .palette import Colours
from .style import Hide

_MARGIN = 0.2  # of a face box on each side, for hair, chin and errors of the keypoints
_TILES = 5  # across a hidden face, and per _TILES of a person's height
_GROW = 0.02  # of the larger side of the person: pixels around the mask that are hidden too


def hide_people(
    canvas: Image, people: Drawable, hide: Hide, shown: npt.NDArray[np.bool_], colours: Colours
) -> None:
    """Make the people of an image unrecognisable, as far as they were found.

    Args:
        canvas: (H, W, 3) uint8 RGB, modified in place.
        people: N people.
        hide: ``'faces'`` and ``'people'`` become few large pixels; ``'silhouettes'`` paints the
            people in their colours.
        shown: (N, K) confident keypoints.
        colours: (N, 3) RGB of each person.
    """
    if hide == 'faces':
        for box in estimate_face_boxes(people, shown):
            margin = _MARGIN * float((box[2:] - box[:2]).max())
            box = box + np.array([-margin, -margin, margin, margin], np.float32)
            window = _window(box, people.image_shape)
            height, width = (part.stop - part.start for part in window)
            face = np.zeros((height, width), np.uint8)
            centre = (int(width / 2), int(height / 2))
            cv2.ellipse(face, centre, centre, 0, 0, 360, 1, -1)
            _pixelate(canvas, window, face, _TILES)
    elif hide != 'none':
        for i in range(len(people.boxes)):
            window, body = _body(people, i)
            if hide == 'silhouettes':
                canvas[window][body > 0] = colours[i]
            else:
                _pixelate(canvas, window, body, 2 * _TILES)


def _body(people: Drawable, i: int) -> tuple[tuple[slice, slice], npt.NDArray[np.uint8]]:
    """Window of a person with a margin, and the grown mask in it; the box if it is empty."""
    box = people.boxes[i]
    if people.masks.areas[i] > 0:
        mask_box = people.masks.boxes[i]
        box = np.concatenate([np.minimum(box[:2], mask_box[:2]), np.maximum(box[2:], mask_box[2:])])
    grow = max(2, round(_GROW * float((box[2:] - box[:2]).max())))
    around = np.array([-grow, -grow, grow, grow], np.float32)
    window = _window(box + around, people.image_shape)
    if people.masks.areas[i] == 0:
        return window, np.ones([part.stop - part.start for part in window], np.uint8)
    body = people.masks.crop(i, window).astype(np.uint8)
    return window, np.asarray(cv2.dilate(body, np.ones((2 * grow + 1,) * 2, np.uint8)), np.uint8)


def _window(box: Floats, shape: tuple[int, int]) -> tuple[slice, slice]:
    height, width = shape
    low = np.clip(np.floor(box[:2]), 0, [width - 1, height - 1]).astype(int)
    high = np.clip(np.ceil(box[2:]), low + 1, [width, height]).astype(int)
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def _pixelate(
    canvas: Image, window: tuple[slice, slice], mask: npt.NDArray[np.uint8], tiles: int
) -> None:
    """Average the pixels of ``mask`` over at most ``tiles`` squares along the longer side."""
    region = canvas[window]
    height, width = region.shape[:2]
    side = max(height, width) / tiles
    size = (max(1, round(width / side)), max(1, round(height / side)))
    small = cv2.resize(region, size, interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
    cv2.copyTo(large, mask, region)
