"""`OKSHeatmapLoss`, the heatmap loss of the released configs.

Legend: B crops, K keypoints, heatmaps of h x w px.
"""

from __future__ import annotations

import torch
from mmpose.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional


def sobel_energy(maps: Tensor) -> Tensor:
    """Compute the squared length of the Sobel gradient at every px, with zero padding.

    Args:
        maps: float, shape (B, K, h, w).

    Returns:
        The same shape.
    """
    across = maps.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    filters = torch.stack([across, across.T])[:, None]
    gradients = functional.conv2d(maps.flatten(0, 1)[:, None], filters, padding=1)
    return gradients.square().sum(dim=1).view_as(maps)


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class OKSHeatmapLoss(nn.Module):
    """Expected OKS loss under a predicted probability map, plus a smoothness term.

    With P the prediction and T the OKS map (`OKSArgMaxHeatmap.encode`), the OKS lost at a px is
    P (1 - T). Per px the loss is (1 - a) P (1 - T) + a |Sobel P|^2, a = `smoothing_weight`.

    Args:
        use_target_weight: Multiply by the keypoint weights.
        smoothing_weight: a, in [0, 1]; PMPose uses 0.05.
        loss_weight: factor of the loss.

    Raises:
        ValueError: a setting outside its range.
    """

    def __init__(
        self,
        use_target_weight: bool = True,
        smoothing_weight: float = 0.2,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0.0 <= smoothing_weight <= 1.0:
            raise ValueError(f'smoothing_weight = {smoothing_weight}; it must be in [0, 1]')
        self.use_target_weight = use_target_weight
        self.smoothing_weight = smoothing_weight
        self.loss_weight = loss_weight

    def forward(
        self, output: Tensor, target: Tensor, target_weights: Tensor | None = None
    ) -> Tensor:
        """Compute the loss.

        Args:
            output: float, shape (B, K, h, w), predicted maps.
            target: float, shape (B, K, h, w), OKS maps, in [0, 1].
            target_weights: float, shape (B, K); None: ones.

        Returns:
            Scalar.
        """
        return self.loss_weight * self.per_pixel(output, target, target_weights).mean()

    def per_pixel(self, output: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the loss of every px, shape (B, K, h, w); arguments as in `forward`."""
        risk, energy = output * (1 - target), sobel_energy(output)
        loss = (1 - self.smoothing_weight) * risk + self.smoothing_weight * energy
        return loss * self._weights(output, weights)[..., None, None]

    def _weights(self, output: Tensor, weights: Tensor | None) -> Tensor:
        if weights is None or not self.use_target_weight:
            return output.new_ones(output.shape[:2])
        return weights
