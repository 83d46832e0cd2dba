"""What the samplers of all trainers share: warps, pasted people, colours, normalization.

Legend: B crops of W x H px.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Pixels = NDArray[np.uint8]
Rng = np.random.Generator
Three = tuple[float, float, float]

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # RGB
FLIP = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15])  # COCO's keypoints
LUMA = (0.114, 0.587, 0.299)  # of blue, green, red
GREY = 115  # mean brightness of images


def warp(
    source: Pixels,
    matrix: Array,
    size: tuple[int, int],
    *,
    origin: tuple[int, int] = (0, 0),
    out: Pixels | None = None,
) -> Pixels:
    """Bilinear crop of `size` (W, H) of an image whose first px lies at `origin`.

    Args:
        source: (h, w) or (h, w, C).
        matrix: (2, 3), from px of the whole image to px of the crop.
        size: of the crop.
        origin: x, y; what lies beside the image is black.
        out: array to write to.
    """
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ np.array(origin, np.float32)
    return np.asarray(cv2.warpAffine(source, moved, size, dst=out, flags=cv2.INTER_LINEAR))


def place_cutout(cutout: Pixels, low: Array, high: Array, rng: Rng) -> Array:
    """Map (2, 3) that puts a cut-out beside or over a person whose box is low to high."""
    height, width = cutout.shape[:2]
    side = float((high - low).max())
    scale = side * rng.uniform(0.5, 1.3) / max(height, width)
    center = (low + high) / 2 + (high - low) * [rng.uniform(-0.9, 0.9), rng.normal(0, 0.25)]
    sign = rng.choice([-1, 1])
    linear = np.diag([sign * scale, scale])
    offset = center - linear @ [width / 2, height / 2]
    return np.asarray(np.concatenate([linear, offset[:, None]], 1), np.float32)


def change_colours(crops: Pixels, ranges: tuple[float, float, float, float], rng: Rng) -> None:
    """Change brightness, contrast, saturation, and tint of crops (B, H, W, 3), in place.

    BGR becomes RGB.
    """
    count = len(crops)
    draws = rng.uniform(-1, 1, (4, count)).astype(np.float32)
    bright, contrast, saturation = (1 + c * d for c, d in zip(ranges[:3], draws[:3], strict=True))
    saturation = np.where(draws[3] < 2 * ranges[3] - 1, 0, saturation)[:, None, None]
    luma = np.broadcast_to(np.array(LUMA, np.float32), (3, 3))
    tint = 1 + 0.06 * rng.uniform(-1, 1, (count, 3, 1))
    matrices = np.zeros((count, 3, 4), np.float32)
    matrices[..., :3] = saturation * (np.eye(3, dtype=np.float32) - luma) + luma
    matrices[..., :3] *= (bright * contrast)[:, None, None] * tint
    matrices[..., 3] = ((1 - contrast) * bright * GREY)[:, None]
    for crop, matrix in zip(crops, matrices[:, ::-1], strict=True):
        cv2.transform(crop, matrix, dst=crop)


def normalize(crops: Pixels, mean: Three = MEAN, std: Three = STD) -> Tensor:
    """Crops (B, H, W, 3) as normalized (B, 3, H, W), channels last."""
    scale = 1 / torch.tensor(std)
    pixels = torch.from_numpy(np.ascontiguousarray(crops)).float()
    return torch.addcmul(-torch.tensor(mean) * scale, pixels, scale).permute(0, 3, 1, 2)
