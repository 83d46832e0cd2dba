"""Training with imperfect masks: a detector's mask misses parts and leaks onto neighbours.

The recipe of MaskPose, in our own reading: the mask is smoothed, then shrunk and grown by chance,
half of the time along its outline, half of the time in patches.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Mask = NDArray[np.bool_]

SMOOTHING = 5  # px, side of the square of the opening and closing
# The outline moves by half of max(5, area / n) px at most.
SMALLEST_KERNEL, ERODE_DIVISOR, DILATE_DIVISOR = 5, 1000, 3000
ERODE_PATCHES, DILATE_PATCHES = 10, 50


@dataclass(frozen=True)
class MaskCorruption:
    """Random changes of a mask, drawn from numpy's global generator as MMPose's transforms do.

    Attributes:
        dilate_prob: how often the mask grows.
        dilate_amount: it grows by at most this share of its area (a uniform draw up to it).
        erode_prob: how often the mask shrinks.
        erode_amount: it loses at most this share of its area.
        patch_prob: how often patches come and go; else the outline moves.

    Raises:
        ValueError: a value outside [0, 1].
    """

    dilate_prob: float = 0.5
    dilate_amount: float = 0.1
    erode_prob: float = 0.5
    erode_amount: float = 0.5
    patch_prob: float = 0.5

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f'{field.name} = {value}; it must be in [0, 1]')

    def __call__(self, mask: Mask) -> Mask:
        """A changed copy of a mask (H, W); never empty if the mask is not."""
        erode, dilate, patches = np.random.rand(3) < (
            self.erode_prob, self.dilate_prob, self.patch_prob,
        )  # fmt: skip
        eroded_by, dilated_by = np.random.rand(2) * (self.erode_amount, self.dilate_amount)
        changed = _unless_empty(_smooth(mask), mask)
        if erode:
            shrink = remove_patches if patches else move_outline_in
            changed = _unless_empty(shrink(changed, eroded_by), changed)
        if dilate:
            changed = (add_patches if patches else move_outline_out)(changed, dilated_by)
        return changed


def _unless_empty(mask: Mask, otherwise: Mask) -> Mask:
    return mask if mask.any() else otherwise


def _smooth(mask: Mask) -> Mask:
    kernel = np.ones((SMOOTHING, SMOOTHING), np.uint8)
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    return cv2.morphologyEx(opened, cv2.MORPH_CLOSE, kernel).astype(np.bool_)


def _nearest_first(distance: NDArray[Any], where: Mask, count: int, reach: float) -> Mask:
    """The ``count`` px of ``where`` with the smallest distance, none farther than ``reach``."""
    candidates = np.flatnonzero(where & (distance <= reach))
    order = np.argsort(distance.ravel()[candidates], kind='stable')[:count]
    chosen = np.zeros(where.size, np.bool_)
    chosen[candidates[order]] = True
    return chosen.reshape(where.shape)


def move_outline_in(mask: Mask, share: float) -> Mask:
    """Remove the px nearest to the outline, ``share`` of the area, max(5, area / 1000) / 2 deep."""
    area = int(mask.sum())
    # The picture's edge is an outline too: a frame of background stands around it.
    framed = np.pad(mask.astype(np.uint8), 1)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
    reach = max(SMALLEST_KERNEL, area / ERODE_DIVISOR) / 2
    return mask & ~_nearest_first(depth, mask, int(share * area), reach)


def move_outline_out(mask: Mask, share: float) -> Mask:
    """Add the px nearest to the mask, ``share`` of its area, max(5, area / 3000) / 2 far."""
    area = int(mask.sum())
    far = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    reach = max(SMALLEST_KERNEL, area / DILATE_DIVISOR) / 2
    return mask | _nearest_first(far, ~mask, int(share * area), reach)


def _patches(places: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Number of the Voronoi patch of every place (M, 2): of the nearest of ``count`` of them."""
    seeds = places[np.random.choice(len(places), min(count, len(places)), replace=False)]
    return np.asarray(KDTree(seeds).query(places)[1], np.intp)


def _drawn(patches: NDArray[np.intp], most: int) -> Mask:
    """Places of random patches, as many whole ones as ``most`` places allow."""
    order = np.random.permutation(patches.max() + 1)
    sizes = np.bincount(patches)[order]
    drawn: Mask = np.isin(patches, order[np.cumsum(sizes) <= most])
    return drawn


def remove_patches(mask: Mask, share: float) -> Mask:
    """Remove whole ones of 10 Voronoi patches of the mask, at most ``share`` of its area."""
    places = np.argwhere(mask)
    gone = places[_drawn(_patches(places, ERODE_PATCHES), int(share * len(places)))]
    changed = mask.copy()
    changed[gone[:, 0], gone[:, 1]] = False
    return changed


def add_patches(mask: Mask, share: float) -> Mask:
    """Add what is not mask in some of 50 Voronoi patches of the mask's bounding box.

    At most ``share`` of the mask's area is added.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.zeros_like(mask)
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    places = np.argwhere(box & ~mask)
    if len(places) == 0:
        return mask
    new = places[_drawn(_patches(places, DILATE_PATCHES), int(share * mask.sum()))]
    changed = mask.copy()
    changed[new[:, 0], new[:, 1]] = True
    return changed
