"""From low-resolution mask logits to crops in image pixels.

Only the part of a mask that holds the person is enlarged, with the same bilinear weights that
enlarging the whole mask would use (``F.interpolate(..., align_corners=False)``), so the result is
the same, at a cost that depends on the person, not on the image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

# If the person covers a larger fraction of the cells, enlarging all of them is faster (measured
# from 640 px to 12 megapixels).
WIDE = 0.4
Place = tuple[int, int, Tensor]  # left and top pixel, (h, w) crop


def logit_crop(
    low_res: Tensor, shape: tuple[int, int], visible: tuple[int, int] | None = None
) -> Place:
    """Crop around everything above 0 in one soft mask.

    Args:
        low_res: (h, w) logits that span the whole image.
        shape: (H, W) that the logits are enlarged to.
        visible: (H, W) of the top-left part that is kept; None keeps all.

    Returns:
        Left and top pixel, and logits of the crop in the type of ``low_res``; (0, 0, empty) when
        nothing is above 0.
    """
    # Interpolation makes no value larger than its four neighbours: what is above 0 in the image
    # lies within one cell of a cell above 0.
    above = low_res > 0
    rows, cols = torch.nonzero(above.any(1)).flatten(), torch.nonzero(above.any(0)).flatten()
    if len(rows) == 0:
        return 0, 0, low_res.new_zeros(0, 0)
    spans = [
        _Span.around(int(on[0]), int(on[-1]), cells, pixels, limit)
        for on, cells, pixels, limit in zip(
            (rows, cols), low_res.shape, shape, visible or shape, strict=True
        )
    ]
    down, across = spans
    if down.empty or across.empty:
        return 0, 0, low_res.new_zeros(0, 0)
    cells = low_res[down.cells, across.cells]
    if cells.numel() > WIDE * low_res.numel():
        full = functional.interpolate(low_res[None, None], shape, mode='bilinear')[0, 0]
        return across.start, down.start, full[down.pixels, across.pixels].clone()
    return across.start, down.start, down.weights(cells) @ cells @ across.weights(cells).T


class _Span:
    """Half-open range of image pixels along one side, and the cells that they depend on."""

    def __init__(self, start: int, stop: int, cells: int, pixels: int) -> None:
        self.start, self.stop = start, stop
        self.scale, self.last = cells / pixels, cells - 1
        low = math.floor(self._centre(start)) - 1
        self.cells = slice(max(low, 0), math.ceil(self._centre(stop)) + 2)

    @classmethod
    def around(cls, first: int, last: int, cells: int, pixels: int, limit: int) -> _Span:
        """The pixels below ``limit`` that the cells ``first``..``last`` can reach."""
        scale = pixels / cells
        start = math.floor((first - 0.5) * scale) - 1
        stop = math.ceil((last + 1.5) * scale) + 1
        return cls(max(start, 0), min(stop, limit), cells, pixels)

    @property
    def pixels(self) -> slice:
        """The range itself."""
        return slice(self.start, self.stop)

    @property
    def empty(self) -> bool:
        return self.stop <= self.start

    def _centre(self, pixel: int) -> float:
        return min(max((pixel + 0.5) * self.scale - 0.5, 0), self.last)

    def weights(self, like: Tensor) -> Tensor:
        """(stop - start, cells of the slice) bilinear weights, two per row."""
        pixels = torch.arange(self.start, self.stop, device=like.device, dtype=torch.float32)
        centre = ((pixels + 0.5) * self.scale - 0.5).clamp(0, self.last)
        low = centre.floor().long()
        high = (low + 1).clamp(max=self.last)
        fraction = (centre - low).to(like.dtype)
        offset = self.cells.start
        width = min(self.cells.stop, self.last + 1) - offset
        weights = torch.zeros(len(pixels), width, device=like.device, dtype=like.dtype)
        weights.scatter_add_(1, (low - offset)[:, None], (1 - fraction)[:, None])
        weights.scatter_add_(1, (high - offset)[:, None], fraction[:, None])
        return weights
