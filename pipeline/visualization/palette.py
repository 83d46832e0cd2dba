"""Colours that tell neighbouring people apart.

The palette was made once: 20 colours of the sRGB cube, far from each other in Oklab (greedy
farthest points, then exchanged one by one), none dark, pale or grey, so that each one stands out
on a photo. Lightness counts less than hue there, as a mask takes the lightness of what it covers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..arrays import Floats
from ..boxes import box_areas

Colours = npt.NDArray[np.uint8]

PALETTE: Colours = np.array(
    [
        (0, 248, 248), (248, 0, 248), (224, 112, 16), (0, 112, 248), (0, 248, 0),
        (248, 168, 240), (248, 0, 136), (152, 48, 248), (128, 128, 0), (128, 112, 200),
        (0, 152, 200), (248, 8, 32), (184, 80, 104), (248, 192, 0), (184, 64, 176),
        (176, 224, 136), (48, 168, 0), (32, 168, 128), (192, 248, 8), (0, 248, 160),
    ], np.uint8,
)  # fmt: skip

# Weight of a gap as wide as the people themselves. The closest palette colours are 0.1 apart, so
# nearly all of them are used before one comes back, and then several people further on.
_GAP = 0.02
_LIGHTNESS = 0.4

# Linear sRGB to cone response, and its cube root to Oklab (Ottosson 2020).
_TO_CONES = np.array([
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
])  # fmt: skip
_TO_OKLAB = np.array([
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
])  # fmt: skip


def oklab(colours: Colours) -> npt.NDArray[np.float64]:
    """Oklab coordinates (N, 3) of sRGB colours (N, 3); distances there follow perception."""
    gamma = colours / 255.0
    linear = np.where(gamma <= 0.04045, gamma / 12.92, ((gamma + 0.055) / 1.055) ** 2.4)
    cones = np.cbrt(linear @ _TO_CONES.T)
    return np.asarray(cones @ _TO_OKLAB.T)


def choose_colours(boxes: Floats) -> Colours:
    """One RGB colour per box (N, 4) xyxy: near boxes get colours that differ most.

    Greedy and without chance: row by row, the palette colour that is farthest from those of the
    rows before. The distance to a neighbour counts half, rising to full a person's width away.
    """
    chosen = np.zeros(len(boxes), int)
    between = _palette_distances()
    for i in range(1, len(boxes)):
        gaps = _gaps(boxes[i], boxes[:i])
        weights = 0.5 + 0.5 * np.minimum(gaps, 1)
        distances = weights[:, None] * between[chosen[:i]] + _GAP * gaps[:, None]
        chosen[i] = int(distances.min(axis=0).argmax())
    return np.asarray(PALETTE[chosen], np.uint8)


def _palette_distances() -> npt.NDArray[np.float64]:
    lab = oklab(PALETTE) * [_LIGHTNESS, 1, 1]
    return np.asarray(np.linalg.norm(lab[:, None] - lab[None], axis=-1))


def _gaps(box: Floats, others: Floats) -> npt.NDArray[np.float64]:
    """Gap (N,) between a box and others as a multiple of their size; 0 when they touch."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    apart = np.linalg.norm(np.maximum(low - high, 0), axis=1)
    sizes = np.sqrt(box_areas(box[None])) + np.sqrt(box_areas(others))
    return np.asarray(apart / np.maximum(sizes / 2, 1), np.float64)
