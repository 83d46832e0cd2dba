"""Where the crops of a batch lie: from px of the image to px of the crop.

Legend: B crops of `crop` x `crop` px. An image is scaled, cut out and perhaps mirrored. Positions
count from the top left corner of the top left pixel, so that pixel i covers [i, i + 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from typing_extensions import Self


@dataclass(frozen=True, eq=False)
class Windows:
    """One window for each crop; x and y in this order everywhere.

    Attributes:
        crop: side of the crops, px.
        scale: float32 (B,), px of the crop per px of the image.
        offset: float32 (B, 2), top left corner of the window in px of the scaled image.
        extent: float32 (B, 2), part of the crop that the image covers, from the top left, px.
        is_flipped: bool (B,), mirrored left to right within the extent.
    """

    crop: int
    scale: Tensor
    offset: Tensor
    extent: Tensor
    is_flipped: Tensor

    @classmethod
    def draw(
        cls,
        sizes: Tensor,
        crop: int,
        *,
        scale: Sequence[float],
        flip: float,
        generator: Generator,
    ) -> Self:
        """Draws windows.

        An image smaller than the crop after scaling lies at the top left, whole; of a larger one
        every window inside is equally likely.

        Args:
            sizes: (B, 2), height and width of the images, px.
            crop: side of the crops, px.
            scale: smallest and largest scale, uniform in its logarithm.
            flip: chance of a mirrored crop, in [0, 1].
            generator: on the device of `sizes`.
        """
        count, device = len(sizes), sizes.device
        numbers = torch.rand((4, count), generator=generator, device=device)
        low, high = (math.log(value) for value in scale)
        scales = torch.exp(low + (high - low) * numbers[0])
        scaled = sizes.flip(1) * scales[:, None]
        offset = numbers[1:3].T * (scaled - crop).clamp(min=0)
        return cls(crop, scales, offset, scaled.clamp(max=crop), numbers[3] < flip)

    def boxes(self, boxes: Tensor) -> Tensor:
        """Boxes (B, M, 4) xyxy from px of the image to px of the crop, not clipped."""
        moved = boxes * self.scale[:, None, None] - self.offset.repeat(1, 2)[:, None]
        left, top, right, bottom = moved.unbind(-1)
        width = self.extent[:, :1]
        mirrored = torch.stack([width - right, top, width - left, bottom], -1)
        return torch.where(self.is_flipped[:, None, None], mirrored, moved)

    def theta(self, side: int) -> Tensor:
        """Matrices (B, 2, 3) for `affine_grid`: from the crop to a frame of `side` px.

        Both in [-1, 1], so they hold for frames and crops of any resolution.
        """
        sign = torch.where(self.is_flipped, -1.0, 1.0)
        start = self.offset.clone()
        start[:, 0] += torch.where(self.is_flipped, self.extent[:, 0], 0.0)
        # Position in the image = slope * position in the crop + start, both in px.
        slope = torch.stack([sign, torch.ones_like(sign)], -1) / self.scale[:, None]
        start = start / self.scale[:, None]
        shift = (slope * self.crop + 2 * start) / side - 1
        return torch.cat([torch.diag_embed(slope * self.crop / side), shift[..., None]], -1)

    def outside(self) -> Tensor:
        """Pixels beside the image, bool (B, crop, crop)."""
        centres = torch.arange(self.crop, device=self.scale.device) + 0.5
        x, y = (centres > self.extent[:, axis, None] for axis in (0, 1))
        return x[:, None, :] | y[:, :, None]


def sample(images: Tensor, theta: Tensor, side: int, *, edge: str = 'zeros') -> Tensor:
    """Bilinear crops, float32 (N, C, side, side).

    Args:
        images: (N, C, h, w), any type.
        theta: (N, 2, 3), see `Windows.theta`.
        side: px of the result.
        edge: `padding_mode` of `grid_sample`.
    """
    if len(images) == 0:  # affine_grid takes none
        return images.new_zeros((0, images.shape[1], side, side), dtype=torch.float32)
    # Half precision would place pixels a quarter px off.
    grid = F.affine_grid(theta, [len(images), 1, side, side], align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode=edge, align_corners=False)
