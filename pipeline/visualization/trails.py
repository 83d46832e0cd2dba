"""Draw the ways of people, and the boxes of people who are hidden."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Image
from .palette import identity_colours

_SHIFT = 4  # fractional bits of the fixed-point coordinates of OpenCV
_DARK = (24, 24, 28)


def draw_trails(canvas: Image, trails: Mapping[int, Floats]) -> None:
    """Draw lines through points (P, 2) px of each track id, in the colour of the identity.

    Args:
        canvas: (H, W, 3) uint8 RGB, modified in place.
        trails: track id -> points, the latest last.
    """
    width = max(1, round(max(canvas.shape) / 640))
    colours = identity_colours(np.array(list(trails), np.int64))
    for colour, points in zip(colours.tolist(), trails.values(), strict=True):
        line = [(points.astype(np.float64) * (1 << _SHIFT)).round().astype(np.int32)]
        cv2.polylines(canvas, line, False, _DARK, width + 2, cv2.LINE_AA, _SHIFT)
        cv2.polylines(canvas, line, False, colour, width, cv2.LINE_AA, _SHIFT)


def draw_hidden_boxes(canvas: Image, boxes: Floats, track_ids: npt.NDArray[np.int64]) -> None:
    """Draw the corners of boxes (N, 4) xyxy px where people are expected, not seen."""
    colours = identity_colours(track_ids).tolist()
    for (x1, y1, x2, y2), colour in zip(boxes.round().astype(int).tolist(), colours, strict=True):
        for x, dx in ((x1, (x2 - x1) // 4), (x2, (x1 - x2) // 4)):
            for y, dy in ((y1, (y2 - y1) // 8), (y2, (y1 - y2) // 8)):
                cv2.line(canvas, (x, y), (x + dx, y), colour, 1, cv2.LINE_AA)
                cv2.line(canvas, (x, y), (x, y + dy), colour, 1, cv2.LINE_AA)
