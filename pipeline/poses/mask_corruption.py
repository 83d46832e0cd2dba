"""Mask augmentation for training: detector masks miss parts and leak onto neighbours.

An interpretation of the MaskPose recipe: smooth the mask, then shrink and grow it at random, half
of the time along the outline and half of the time in patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pipeline.values import check_ranges

Mask = NDArray[np.bool_]

SMOOTHING = 5  # px, side of the square of the opening and closing
# The outline moves by half of max(5, area / n) px at most.
SMALLEST_KERNEL, ERODE_DIVISOR, DILATE_DIVISOR = 5, 1000, 3000
ERODE_PATCHES, DILATE_PATCHES = 10, 50


@dataclass(frozen=True)
class MaskCorruption:
    """Random changes of a mask, using NumPy's global generator like MMPose's transforms.

    Raises:
        ValueError: A value is outside [0, 1].
    """

    dilate_prob: float = 0.5  # probability of growing the mask
    dilate_amount: float = 0.1  # largest growth, as a fraction of the mask area (uniformly drawn)
    erode_prob: float = 0.5  # probability of shrinking the mask
    erode_amount: float = 0.5  # largest loss, as a fraction of the mask area (uniformly drawn)
    patch_prob: float = 0.5  # probability of changing patches instead of the outline

    def __post_init__(self) -> None:
        unit = 'in [0, 1]'
        check_ranges(
            self, 'MaskCorruption', dilate_prob=unit, dilate_amount=unit, erode_prob=unit,
            erode_amount=unit, patch_prob=unit,
        )  # fmt: skip

    def __call__(self, mask: Mask) -> Mask:
        """Return a changed copy of a mask (H, W); it is empty only if the mask is."""
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
    """Select the ``count`` px of ``where`` with the smallest distance, up to ``reach``."""
    candidates = np.flatnonzero(where & (distance <= reach))
    order = np.argsort(distance.ravel()[candidates], kind='stable')[:count]
    chosen = np.zeros(where.size, np.bool_)
    chosen[candidates[order]] = True
    return chosen.reshape(where.shape)


def move_outline_in(mask: Mask, fraction: float) -> Mask:
    """Remove ``fraction`` of the area next to the outline, max(5, area / 1000) / 2 px deep."""
    area = int(mask.sum())
    # The image border counts as outline: pad with background.
    framed = np.pad(mask.astype(np.uint8), 1)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
    reach = max(SMALLEST_KERNEL, area / ERODE_DIVISOR) / 2
    return mask & ~_nearest_first(depth, mask, int(fraction * area), reach)


def move_outline_out(mask: Mask, fraction: float) -> Mask:
    """Add ``fraction`` of the area next to the outline, max(5, area / 3000) / 2 px wide."""
    area = int(mask.sum())
    far = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    reach = max(SMALLEST_KERNEL, area / DILATE_DIVISOR) / 2
    return mask | _nearest_first(far, ~mask, int(fraction * area), reach)


def _patches(places: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Return the Voronoi patch index of every pixel (M, 2), for ``count`` random seeds."""
    seeds = places[np.random.choice(len(places), min(count, len(places)), replace=False)]
    return np.asarray(KDTree(seeds).query(places)[1], np.intp)


def _drawn(patches: NDArray[np.intp], max_pixels: int) -> Mask:
    """Select the pixels of random whole patches, at most ``max_pixels`` of them."""
    order = np.random.permutation(patches.max() + 1)
    sizes = np.bincount(patches)[order]
    selected: Mask = np.isin(patches, order[np.cumsum(sizes) <= max_pixels])
    return selected


def remove_patches(mask: Mask, fraction: float) -> Mask:
    """Remove some of 10 Voronoi patches of the mask, at most ``fraction`` of its area."""
    places = np.argwhere(mask)
    gone = places[_drawn(_patches(places, ERODE_PATCHES), int(fraction * len(places)))]
    changed = mask.copy()
    changed[gone[:, 0], gone[:, 1]] = False
    return changed


def add_patches(mask: Mask, fraction: float) -> Mask:
    """Add the background in some of 50 Voronoi patches of the mask's bounding box.

    At most ``fraction`` of the mask's area is added.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.zeros_like(mask)
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    places = np.argwhere(box & ~mask)
    if len(places) == 0:
        return mask
    new = places[_drawn(_patches(places, DILATE_PATCHES), int(fraction * mask.sum()))]
    changed = mask.copy()
    changed[new[:, 0], new[:, 1]] = True
    return changed
