"""Dense supervision of the image encoder: where is a person, and how far to the sides of its box.

Through the mask decoder alone a new encoder learns almost nothing for thousands of steps. Two maps
per feature level give every pixel a gradient of its own, and the distances to the own box tell
neighbouring people apart. The heads serve training only and are not part of the weights.

Legend: B canvases of S x S px, three feature levels of the encoder (strides 4, 8, 16).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.segmenters.sam2_forward import ImageEmbedding
from pipeline.training.sam_data import Canvas

# Canvases whose remaining people are not annotated still teach what is no person, but weakly.
BACKGROUND_WEIGHT = 0.2
BOX_WEIGHT = 3.0


class DenseHeads(nn.Module):
    """A 1 x 1 convolution per level to a person logit and four box distances.

    Args:
        hidden_dim: C of the model; the levels have C / 8, C / 4 and C channels.
    """

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        widths = (hidden_dim // 8, hidden_dim // 4, hidden_dim)
        self.heads = nn.ModuleList(nn.Conv2d(width, 5, 1) for width in widths)

    def forward(self, embedding: ImageEmbedding, canvases: list[Canvas]) -> Tensor:
        """Mean loss over the levels."""
        person, box, known = dense_targets(canvases)
        levels = (*embedding.high_res_feats, embedding.image_embed)
        parts = [
            _level_loss(head(level), person, box, known)
            for head, level in zip(self.heads, levels, strict=True)
        ]
        return torch.stack(parts).mean()


def dense_targets(canvases: list[Canvas]) -> tuple[Tensor, Tensor, Tensor]:
    """What is true at each pixel.

    Returns:
        1 on people, float (B, 1, S, S); on them the distances to left, top, right and bottom of
        the own visible box as shares of S, float (B, 4, S, S); 1 where nobody else can be in the
        picture, float (B, 1, 1, 1).
    """
    maps = [_maps(canvas.masks) for canvas in canvases]
    known = torch.tensor([float(canvas.person_free) for canvas in canvases]).view(-1, 1, 1, 1)
    stacked = torch.from_numpy(np.stack(maps))
    return stacked[:, :1], stacked[:, 1:], known


def _maps(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    side = masks.shape[-1]
    result = np.zeros((5, side, side), np.float32)
    rows, columns = np.mgrid[:side, :side]
    for mask in masks:
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        sides = np.stack([columns - xs[0], rows - ys[0], xs[-1] - columns, ys[-1] - rows])
        result[0, mask] = 1
        result[1:, mask] = sides[:, mask] / side
    return result


def _level_loss(output: Tensor, person: Tensor, box: Tensor, known: Tensor) -> Tensor:
    size = output.shape[-2:]
    share = F.interpolate(person, size, mode='area')
    distance = F.interpolate(box, size, mode='area') / share.clamp(min=1e-3)
    weight = share + (1 - share) * (BACKGROUND_WEIGHT + (1 - BACKGROUND_WEIGHT) * known)
    entropy = F.binary_cross_entropy_with_logits(output[:, :1], share, reduction='none')
    inside = (share > 0.9).float()
    error = ((output[:, 1:] - distance).abs() * inside).sum() / inside.sum().clamp(min=1) / 4
    return (entropy * weight).sum() / weight.sum() + BOX_WEIGHT * error
