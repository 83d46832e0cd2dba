"""Conversion between image pixels and the square input of SAM 2.

SAM 2 resizes every image to S x S pixels without keeping the aspect ratio. A point at x image
pixels is at x * S / width in the square. The stock prompt encoder adds the half pixel of the pixel
centre, so it is not added here (stock `SAM2Transforms`).

Legend: B images, H x W their size in pixels, S `model.image_size`, N objects.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize_images(images: Tensor) -> Tensor:
    """Normalize RGB images in [0, 1], float (B, 3, H, W), with ImageNet statistics."""
    mean = images.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = images.new_tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return (images - mean) / std


def preprocess_images(
    images: Sequence[NDArray[np.uint8]], image_size: int, device: torch.device | str = 'cpu'
) -> Tensor:
    """Resize (bilinear, antialiased) and normalize images like the stock predictor.

    Args:
        images: RGB images, uint8 (H, W, 3); sizes may differ.
        image_size: S.
        device: Device of the computation and the result.

    Returns:
        float32 (B, 3, S, S).
    """
    squares = []
    for image in images:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(
                f'expected an RGB image, uint8 (H, W, 3), got {image.dtype} {image.shape}'
            )
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device)
        squares.append(square_image(pixels.permute(2, 0, 1), image_size))
    if not squares:
        return torch.zeros((0, 3, image_size, image_size), device=device)
    return torch.stack(squares)


def square_image(pixels: Tensor, image_size: int) -> Tensor:
    """Resize and normalize an RGB image: uint8 (3, H, W) to float32 (3, S, S)."""
    size = (image_size, image_size)
    # One channel at a time saves memory: 12 megapixels take 144 MB as float32.
    channels = [
        F.interpolate(channel[None, None].float().div_(255), size, mode='bilinear', antialias=True)
        for channel in pixels
    ]
    return normalize_images(torch.cat(channels, dim=1))[0]


def points_to_square(points: Tensor, image_hw: tuple[int, int], image_size: int) -> Tensor:
    """Scale points (..., 2), (x, y) in image pixels, into the S x S square."""
    height, width = image_hw
    return points / points.new_tensor([width, height]) * image_size


def boxes_to_square(boxes: Tensor, image_hw: tuple[int, int], image_size: int) -> Tensor:
    """Scale xyxy boxes (N, 4) in image pixels into the S x S square."""
    return points_to_square(boxes.reshape(-1, 2, 2), image_hw, image_size).reshape(-1, 4)


def logits_to_image(logits: Tensor, image_hw: tuple[int, int]) -> Tensor:
    """Resize low-res mask logits (N, M, h, w) to image pixels, float (N, M, H, W); mask: > 0."""
    if logits.shape[0] == 0:
        return logits.new_zeros((0, logits.shape[1], *image_hw))
    return F.interpolate(logits.float(), image_hw, mode='bilinear', align_corners=False)


def boxes_of(masks: Tensor) -> Tensor:
    """Compute boxes (n, 4), xyxy px, of bool masks (n, S, S); zeros for empty masks."""
    size = masks.shape[-1]
    places = torch.arange(size, device=masks.device)
    sides = []
    for axis in (1, 2):
        hit = masks.any(axis)  # columns, then rows
        first = torch.where(hit, places, size).amin(1)
        last = torch.where(hit, places + 1, 0).amax(1)
        sides.append((torch.minimum(first, last), last))
    (x1, x2), (y1, y2) = sides
    return torch.stack([x1, y1, x2, y2], 1).float()
