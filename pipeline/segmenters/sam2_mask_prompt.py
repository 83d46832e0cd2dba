"""Point and box prompts drawn as a rough mask, for SAM 2's mask prompt.

A small SAM with little training does not learn to locate an object from sparse prompt tokens alone.
The mask prompt reaches every pixel directly. Any stock SAM 2 accepts it.

Legend: N objects, P points per object, S image side in px.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.segmenters.sam2_forward import (
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    POINT_NEGATIVE,
    POINT_POSITIVE,
    with_corners,
)

_INSIDE, _OUTSIDE = 4.0, -6.0
_LIMIT = 8.0


def draw_mask_prompt(
    point_coords: Tensor, point_labels: Tensor, image_size: int, boxes: Tensor | None = None
) -> Tensor:
    """Draw prompts as mask logits.

    Pixels start as outside, or as inside within a box. Each positive point adds a blob. Its width
    follows the largest distance between positive points: 0.1 S for a single point and, without a
    box, at least 0.08 S. Each negative point subtracts a small blob.

    Args:
        point_coords: (x, y) in pixels of the S x S square, float (N, P, 2).
        point_labels: In the format of `decode_prompts`, int (N, P).
        image_size: S.
        boxes: xyxy in pixels of the square, float (N, 4); or labelled corners among the points.

    Returns:
        Logits in [-8, 8] for `mask_inputs` of `decode_prompts`, float (N, 1, S / 4, S / 4).
    """
    side = image_size // 4
    point_coords, point_labels = with_corners(point_coords, point_labels, boxes)
    cells = torch.arange(side, device=point_coords.device) * 4 + 1.5
    x, y = cells.view(1, 1, 1, side), cells.view(1, 1, side, 1)
    point_x, point_y = point_coords[..., 0, None, None], point_coords[..., 1, None, None]
    positive, negative = point_labels == POINT_POSITIVE, point_labels == POINT_NEGATIVE

    spread = _largest_distance(point_coords, positive)
    width = torch.where(spread > 0, 0.3 * spread, 0.1 * image_size)
    has_box = (point_labels == BOX_TOP_LEFT).any(dim=1)
    least = torch.where(has_box, 0.03 * image_size, 0.08 * image_size)
    blob_width = torch.maximum(width, least).view(-1, 1, 1, 1)
    hole_width = width.clamp(min=0.03 * image_size).view(-1, 1, 1, 1)
    distance = (x - point_x).square() + (y - point_y).square()
    blobs = torch.exp(-distance / (2 * blob_width.square())) * positive[..., None, None]
    holes = torch.exp(-distance / (0.5 * hole_width.square())) * negative[..., None, None]

    has_corner = (point_labels == BOX_TOP_LEFT)[..., None, None]
    has_other = (point_labels == BOX_BOTTOM_RIGHT)[..., None, None]
    after = (has_corner & (x >= point_x) & (y >= point_y)).any(dim=1)
    before = (has_other & (x <= point_x) & (y <= point_y)).any(dim=1)
    base = torch.where(after & before, _INSIDE, _OUTSIDE)
    logits = base + 12 * blobs.amax(dim=1) - 12 * holes.amax(dim=1)
    return logits.clamp(-_LIMIT, _LIMIT)[:, None]


def _largest_distance(coords: Tensor, chosen: Tensor) -> Tensor:
    """Return the largest distance between chosen points, (N,); 0 for fewer than two."""
    distance = torch.cdist(coords, coords)
    both = chosen[:, :, None] & chosen[:, None, :]
    return (distance * both).flatten(1).amax(dim=1)
