"""Dense supervision of the image encoder: where people are, the sides of their boxes, keypoints.

Through the mask decoder alone a new encoder learns almost nothing for thousands of steps. Maps on
each feature level give every pixel a gradient of its own; the distances to the sides of the own
box tell neighbouring people apart. The heads serve training only and are not among SAM's weights.

Legend: B images of S x S px, n people of an image, K keypoints, s side of a feature level in cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.keypoints import NUM_COCO
from pipeline.segmenters.sam2_forward import ImageEmbedding
from pipeline.segmenters.sam2_preprocess import boxes_of

# People who are not annotated may be anywhere: the rest of an image counts, but less.
BACKGROUND_WEIGHT = 0.2
BOX_WEIGHT = 3.0
_HEAT_WIDTH = 0.06  # of a keypoint's blob, as a fraction of the side of the person's box


@dataclass(frozen=True)
class DenseTargets:
    """What is true in each cell of a level.

    Attributes:
        person: fraction of the cell that people cover, (1, s, s).
        known: 0 where it is not known whether a person is there, (1, s, s).
        sides: distances to left, top, right and bottom of the box of the person in the cell, as
            fractions of S, (4, s, s).
        heat: keypoints as blobs with a peak of 1, (K, s, s).
        labelled: 1 inside people with this keypoint labelled, (K, s, s).
    """

    person: Tensor
    known: Tensor
    sides: Tensor
    heat: Tensor
    labelled: Tensor


class DenseHeads(nn.Module):
    """A 1 x 1 convolution per level to a person logit, four distances and K keypoint logits.

    Args:
        hidden_dim: C of the model; the levels have C / 8, C / 4 and C channels.
        weight: of the loss.
    """

    def __init__(self, hidden_dim: int, weight: float) -> None:
        super().__init__()
        widths = (hidden_dim // 8, hidden_dim // 4, hidden_dim)
        self.heads = nn.ModuleList(nn.Conv2d(width, 5 + NUM_COCO, 1) for width in widths)
        self.weight = weight

    def forward(self, embedding: ImageEmbedding, people: Sequence[Any]) -> Tensor:
        """Weighted mean loss over the levels.

        Args:
            embedding: of the images.
            people: `gt_instances` of each, as `PackPromptedPoses` makes them.
        """
        levels = (*embedding.high_res_feats, embedding.image_embed)
        losses = []
        for head, level in zip(self.heads, levels, strict=True):
            targets = [dense_targets(group, level.shape[-1]) for group in people]
            losses.append(level_loss(head(level), targets))
        return self.weight * torch.stack(losses).mean()


def dense_targets(people: Any, side: int) -> DenseTargets:
    """Targets of one image.

    Args:
        people: `masks` and `unknown` bool (n, S, S), `keypoints` (n, K, 2) px of the square,
            `visibility` (n, K).
        side: s.
    """
    size = people.masks.shape[-1]
    stride = size // side
    regions = people.masks | people.unknown
    fractions = F.avg_pool2d(torch.stack([people.masks.float(), regions.float()]), stride)
    masks, areas = fractions  # (n, s, s) each
    boxes = boxes_of(regions)
    cells = (torch.arange(side, device=masks.device) + 0.5) * stride
    owner = boxes[masks.argmax(0)].permute(2, 0, 1)
    here = torch.stack([cells.expand(side, side), cells[:, None].expand(side, side)])
    sides = torch.cat([here - owner[:2], owner[2:] - here]) / size

    widths = _HEAT_WIDTH * (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt().clamp(min=8)
    offsets = cells - people.keypoints[..., None]  # (n, K, 2, s)
    blobs = torch.exp(-(offsets / widths.clamp(min=stride).view(-1, 1, 1, 1)).square() / 2)
    labelled = (people.visibility > 0).float()
    heat = blobs[:, :, 1, :, None] * blobs[:, :, 0, None] * labelled[..., None, None]
    return DenseTargets(
        person=masks.amax(0, keepdim=True),
        known=((areas - masks).amax(0, keepdim=True) <= 0).float(),
        sides=sides,
        heat=heat.amax(0),
        labelled=(areas[:, None] * labelled[..., None, None]).amax(0),
    )


def level_loss(output: Tensor, targets: Sequence[DenseTargets]) -> Tensor:
    """Loss of a level, a scalar, for the output (B, 5 + K, s, s) of its head."""
    person, known, sides, heat, labelled = (
        torch.stack([getattr(target, name) for target in targets])
        for name in ('person', 'known', 'sides', 'heat', 'labelled')
    )
    output = output.float()
    covered = _mean(
        _entropy(output[:, :1], person), torch.maximum(person, BACKGROUND_WEIGHT * known)
    )
    distance = _mean((output[:, 1:5] - sides).abs(), (person > 0.9).float().expand_as(sides))
    points = _mean(_entropy(output[:, 5:], heat), labelled)
    return covered + BOX_WEIGHT * distance + points


def _entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, targets, reduction='none')


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1)
