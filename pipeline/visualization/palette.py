"""Choose colours that distinguish neighbouring people.

The palette has 20 saturated sRGB colours with large distances in Oklab (greedy farthest points,
then exchanges). Lightness has a lower weight than hue: a mask takes the lightness of the pixels
below it.
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

# Weight of a gap as wide as the people. The closest palette colours are 0.1 apart, so a colour
# repeats only after nearly all others, and several people away.
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
    """Convert sRGB colours (N, 3) to Oklab (N, 3), where distances are perceptual."""
    gamma = colours / 255.0
    linear = np.where(gamma <= 0.04045, gamma / 12.92, ((gamma + 0.055) / 1.055) ** 2.4)
    cones = np.cbrt(linear @ _TO_CONES.T)
    return np.asarray(cones @ _TO_OKLAB.T)


def choose_colours(boxes: Floats) -> Colours:
    """Choose one RGB colour per box (N, 4) xyxy, with large differences between near boxes.

    Greedy and deterministic: each row gets the palette colour farthest from the colours of the
    previous rows. The colour distance to a touching box has weight 0.5, rising to 1 at a gap of
    the width of a person.
    """
    chosen = np.zeros(len(boxes), int)
    between = _palette_distances()
    for i in range(1, len(boxes)):
        gaps = _gaps(boxes[i], boxes[:i])
        weights = 0.5 + 0.5 * np.minimum(gaps, 1)
        distances = weights[:, None] * between[chosen[:i]] + _GAP * gaps[:, None]
        chosen[i] = int(distances.min(axis=0).argmax())
    return np.asarray(PALETTE[chosen], np.uint8)


def identity_colours(track_ids: npt.NDArray[np.int64]) -> Colours:
    """RGB colours (N, 3) of identities (N,) from 1: the same in every frame."""
    return np.asarray(PALETTE[(track_ids - 1) % len(PALETTE)], np.uint8)


def _palette_distances() -> npt.NDArray[np.float64]:
    lab = oklab(PALETTE) * [_LIGHTNESS, 1, 1]
    return np.asarray(np.linalg.norm(lab[:, None] - lab[None], axis=-1))


def _gaps(box: Floats, others: Floats) -> npt.NDArray[np.float64]:
    """Gap (N,) between a box and others relative to their size; 0 if they touch."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    apart = np.linalg.norm(np.maximum(low - high, 0), axis=1)
    sizes = np.sqrt(box_areas(box[None])) + np.sqrt(box_areas(others))
    return np.asarray(apart / np.maximum(sizes / 2, 1), np.float64)
