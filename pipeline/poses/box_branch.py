"""Box refinement: the four sides of a person inside the crop of a pose model.

A small detector places boxes roughly. The crop shows the same person larger and centred, so the
pose model can correct the box, like the second stage of Cascade R-CNN (arXiv 1712.00726). Each side
is the mean of a distribution over the columns or rows of the feature map, as in Generalized Focal
Loss (arXiv 2006.04388).

Boxes are (x1, y1, x2, y2) as fractions of the crop: 0 is the centre of the first pixel, 1 that of
the last one (UDP).

Legend: B crops, C and D channels, h x w = upsampled feature map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.poses.pmpose_head import make_branch

_LINE_CHANNELS = 64


@dataclass(frozen=True, eq=False)
class BoxOutputs:
    """Outputs of `BoxBranch` for B crops."""

    x_logits: Tensor  # float, shape (B, 2, w), left and right side over the columns
    y_logits: Tensor  # float, shape (B, 2, h), top and bottom side over the rows
    score_logits: Tensor  # float, shape (B,); the sigmoid is the expected IoU

    @property
    def boxes(self) -> Tensor:
        """Boxes (B, 4) as fractions of the crop."""
        x, y = _expected_position(self.x_logits), _expected_position(self.y_logits)
        return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], dim=1)


def flip_boxes(boxes: Tensor) -> Tensor:
    """Convert boxes (B, 4) of mirrored crops to boxes of the original crops."""
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack([1 - x2, y1, 1 - x1, y2], dim=1)


class BoxBranch(nn.Module):
    """Predicts the box sides of the person in a crop, and the expected IoU of the box.

    Args:
        in_channels: Channels D of the backbone's feature map.
        upsampled_channels: Channels C of the upsampled feature map.
        channels: Width of the branch.
        pools: (rows, columns) of the max pools that reduce the backbone's map to 1 x 1.
    """

    def __init__(
        self,
        in_channels: int,
        upsampled_channels: int,
        channels: int,
        pools: Sequence[tuple[int, int]],
    ) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            nn.Conv2d(upsampled_channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        # Attention over the rows of a column, and over the columns of a row.
        self.row_weights = nn.Conv2d(channels, 1, 1)
        self.column_weights = nn.Conv2d(channels, 1, 1)
        self.whole = nn.Linear(in_channels, 2 * channels)
        self.x_layers = _line_layers(2 * channels)
        self.y_layers = _line_layers(2 * channels)
        self.score_layers = make_branch(in_channels, 1, channels, pools)

    def forward(self, feature: Tensor, upsampled: Tensor) -> BoxOutputs:
        """Run the branch.

        Args:
            feature: float, shape (B, D, rows, columns), of the backbone.
            upsampled: float, shape (B, C, h, w), the input of the heatmap layer.
        """
        maps = self.reduce(upsampled)
        whole = self.whole(feature.mean(dim=(2, 3)))[..., None]
        rows, columns = self.row_weights(maps).softmax(2), self.column_weights(maps).softmax(3)
        along_x = torch.cat([(maps * rows).sum(2), maps.amax(2)], dim=1) + whole
        along_y = torch.cat([(maps * columns).sum(3), maps.amax(3)], dim=1) + whole
        return BoxOutputs(
            self.x_layers(along_x).float(),
            self.y_layers(along_y).float(),
            self.score_layers(feature).flatten().float(),
        )


def _line_layers(channels: int) -> nn.Sequential:
    """Build two 1D convolutions and a logit per side: (B, channels, n) to (B, 2, n)."""
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Conv1d(channels, _LINE_CHANNELS, 5, 1, 2, bias=False)]
        layers += [nn.BatchNorm1d(_LINE_CHANNELS), nn.ReLU()]
        channels = _LINE_CHANNELS
    return nn.Sequential(*layers, nn.Conv1d(channels, 2, 1))


def _expected_position(logits: Tensor) -> Tensor:
    """Return the mean of distributions over n positions from 0 to 1: (..., n) to (...)."""
    positions = torch.linspace(0, 1, logits.shape[-1], device=logits.device)
    return (logits.softmax(-1) * positions).sum(-1)
