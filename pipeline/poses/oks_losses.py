"""Losses that released configs name and MMPose lacks: `OKSHeatmapLoss`, `L1LogLoss`.

Legend: B crops, K keypoints, heat maps of h x w px.
"""

from __future__ import annotations

from typing import Literal

import torch
from mmpose.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional


def sobel_energy(maps: Tensor) -> Tensor:
    """Squared length of the Sobel gradient at every px, zeros assumed around the map.

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
    """Expected loss of OKS under a predicted map of probabilities, plus a term for smoothness.

    With P the prediction and T the OKS map (`OKSArgMaxHeatmap.encode`), the OKS lost at a px is
    P (1 - T). Per px the loss is (1 - a) P (1 - T) + a |Sobel P|^2, a = `smoothing_weight`.

    Args:
        use_target_weight: multiply by the weights of the keypoints.
        smoothing_weight: a, in [0, 1]; PMPose uses 0.05.
        average: 'pixel': mean over B, K, h and w, as the PMPose head trains with. 'keypoint': mean
            over B and K of (1 - a) sum of P (1 - T) + a max |Sobel P|^2, what the released loss
            returns when it is called on its own.
        loss_weight: factor of the loss.

    Raises:
        ValueError: a setting outside its range.
    """

    def __init__(
        self,
        use_target_weight: bool = True,
        smoothing_weight: float = 0.2,
        average: Literal['pixel', 'keypoint'] = 'pixel',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0.0 <= smoothing_weight <= 1.0:
            raise ValueError(f'smoothing_weight = {smoothing_weight}; it must be in [0, 1]')
        if average not in ('pixel', 'keypoint'):
            raise ValueError(f'average = {average!r}; allowed: pixel, keypoint')
        self.use_target_weight = use_target_weight
        self.smoothing_weight = smoothing_weight
        self.average = average
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
        per = self.per_pixel if self.average == 'pixel' else self.per_keypoint
        return self.loss_weight * per(output, target, target_weights).mean()

    def per_pixel(self, output: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """Loss of every px, shape (B, K, h, w); arguments as in `forward`."""
        risk, energy = output * (1 - target), sobel_energy(output)
        loss = (1 - self.smoothing_weight) * risk + self.smoothing_weight * energy
        return loss * self._weights(output, weights)[..., None, None]

    def per_keypoint(self, output: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """Loss of every keypoint, shape (B, K); arguments as in `forward`."""
        risk = (output * (1 - target)).sum(dim=(2, 3))
        energy = sobel_energy(output).amax(dim=(2, 3))
        loss = (1 - self.smoothing_weight) * risk + self.smoothing_weight * energy
        return loss * self._weights(output, weights)

    def _weights(self, output: Tensor, weights: Tensor | None) -> Tensor:
        if weights is None or not self.use_target_weight:
            return output.new_ones(output.shape[:2])
        return weights


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class L1LogLoss(nn.Module):
    """Smooth L1 loss between log(1 + output) and log(1 + target), the mean over all entries.

    Args:
        use_target_weight: multiply both logarithms by the weights first.
        loss_weight: factor of the loss.
    """

    def __init__(self, use_target_weight: bool = False, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.use_target_weight = use_target_weight
        self.loss_weight = loss_weight

    def forward(
        self, output: Tensor, target: Tensor, target_weight: Tensor | None = None
    ) -> Tensor:
        """Compute the loss.

        Args:
            output: float, any shape, values above -1.
            target: the same shape.
            target_weight: float, the same shape; needed with `use_target_weight`.

        Returns:
            Scalar.
        """
        output, target = output.log1p(), target.log1p()
        if self.use_target_weight and target_weight is not None:
            output, target = output * target_weight, target * target_weight
        return self.loss_weight * functional.smooth_l1_loss(output, target)
