"""From the decoder's low-resolution logits to crops in image pixels.

Only the part of a mask that holds the person is enlarged, with the same bilinear weights that
enlarging the whole mask would use (``F.interpolate(..., align_corners=False)``), so the result is
the same while the cost follows the person, not the photo.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def logit_crop(low_res: Tensor, shape: tuple[int, int]) -> tuple[int, int, npt.NDArray[np.float16]]:
    """Crop (x, y, logits) around everything above 0 in one soft mask.

    Args:
        low_res: (h, w) logits that span the whole image.
        shape: (H, W) of the image.

    Returns:
        Left and top pixel, and float16 logits of the crop; (0, 0, empty) when nothing is above 0.
    """
    # Interpolation makes no value larger than its four neighbours: what is above 0 in the image
    # lies within one cell of a cell above 0.
    rows = torch.nonzero((low_res > 0).any(1)).flatten()
    cols = torch.nonzero((low_res > 0).any(0)).flatten()
    if len(rows) == 0:
        return 0, 0, np.zeros((0, 0), np.float16)
    top, bottom = _pixel_range(int(rows[0]), int(rows[-1]), low_res.shape[0], shape[0])
    left, right = _pixel_range(int(cols[0]), int(cols[-1]), low_res.shape[1], shape[1])
    vertical = _weights(top, bottom, low_res.shape[0], shape[0], low_res)
    horizontal = _weights(left, right, low_res.shape[1], shape[1], low_res)
    crop = vertical @ low_res @ horizontal.T
    return left, top, crop.to(torch.float16).cpu().numpy()


def _pixel_range(first: int, last: int, cells: int, pixels: int) -> tuple[int, int]:
    """Half-open range of image pixels that cells ``first``..``last`` can reach."""
    scale = pixels / cells
    start = int(np.floor((first - 0.5) * scale)) - 1
    stop = int(np.ceil((last + 1.5) * scale)) + 1
    return max(start, 0), min(stop, pixels)


def _weights(start: int, stop: int, cells: int, pixels: int, like: Tensor) -> Tensor:
    """(stop - start, cells) bilinear weights, two per row."""
    centre = (torch.arange(start, stop, device=like.device, dtype=torch.float32) + 0.5) * (
        cells / pixels
    ) - 0.5
    centre = centre.clamp(0, cells - 1)
    low = centre.floor().long()
    high = (low + 1).clamp(max=cells - 1)
    share = (centre - low).to(like.dtype)
    weights = torch.zeros(stop - start, cells, device=like.device, dtype=like.dtype)
    weights.scatter_add_(1, low[:, None], (1 - share)[:, None])
    weights.scatter_add_(1, high[:, None], share[:, None])
    return weights
