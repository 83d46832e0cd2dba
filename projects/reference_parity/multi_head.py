"""The PMPose head under its released name, with the released settings and training losses.

The network is that of `PMPoseHead`. What differs is how it is trained:

| | released, `MultiHead` | ours, `PMPoseHead` |
|---|---|---|
| presence | BCE, mean over all B K entries | BCE on logits, mean over labelled points |
| visibility | BCE; weights even out the classes; points outside the crop take part | BCE on \
logits, mean over labelled points inside the crop |
| predicted OKS | distance in input px, area 0.53 of the *heat map*: about 16 times stricter than \
COCO's OKS, so scores are low | COCO's OKS, area of the person |
| place of a keypoint | as decoded from its target map | as labelled |
| error branch | random and frozen | absent |

Legend: B crops, K keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmpose.evaluation.functional import pose_pck_accuracy
from mmpose.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional

from pipeline.keypoints import AREA_OF_BOX
from pipeline.poses.oks_losses import OKSHeatmapLoss, sobel_energy
from pipeline.poses.pmpose_head import PMPoseHead

BCE = {'type': 'BCELoss', 'use_target_weight': True, 'use_sigmoid': True}
MSE = {'type': 'MSELoss', 'use_target_weight': True}
OKS_RISK = {'type': OKSHeatmapLoss, 'use_target_weight': True, 'smoothing_weight': 0.05}


def balanced_weights(target: Tensor, annotated: Tensor) -> Tensor:
    """Weights that give both classes the same sum, the smaller weight being 1.

    Args:
        target: 0 or 1, shape (B, K).
        annotated: 1 where an entry counts, shape (B, K).

    Returns:
        Float, shape (B, K); 0 where an entry does not count.
    """
    classes = torch.stack([annotated * target, annotated * (1 - target)])
    counts = classes.sum(dim=(1, 2), keepdim=True)
    weights = (classes / counts.clamp(min=1)).sum(dim=0)
    positive = weights[weights > 0]
    return weights / positive.min() if len(positive) else weights


def heatmap_oks(
    points: Tensor, ground_truth: Tensor, sigmas: Tensor, heatmap_area: float
) -> Tensor:
    """exp(-d^2 / (2 (2 sigma)^2 0.53 h w)): distances in input px, area in heat-map px.

    Args:
        points: float, shape (B, K, 2), input px.
        ground_truth: the same shape.
        sigmas: float, shape (K,).
        heatmap_area: h w.

    Returns:
        Float, shape (B, K), in [0, 1].
    """
    squared = (points - ground_truth).square().sum(dim=-1)
    return torch.exp(-squared / (2 * (2 * sigmas).square() * AREA_OF_BOX * heatmap_area))


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class MultiHead(PMPoseHead):
    """PMPose head that takes the `head` of a released config as it is.

    Args:
        in_channels: channels of the feature map.
        out_channels: keypoints K.
        deconv_out_channels: channels of the stride-2 deconvolutions.
        deconv_kernel_sizes: 4 each; no other is known.
        keypoint_loss: loss on heat maps.
        probability_loss: loss of presence; like the next two called on values in [0, 1].
        visibility_loss: loss of visibility.
        oks_loss: loss of predicted OKS.
        error_loss: accepted and ignored: the error branch is frozen in every released config.
        normalize: see `PMPoseHead`.
        detach_probability: presence does not shape the features.
        detach_visibility: visibility does not shape the features.
        freeze_error: must be True.
        freeze_oks: do not train predicted OKS and score keypoints by the peak of the heat map.
        sigmas: COCO sigmas; None: those of the convention with K points.
        decoder: config of the codec.
        init_cfg: MMEngine weight initialisation.

    Raises:
        ValueError: another kernel size, or an error branch to be trained.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        deconv_out_channels: Sequence[int] = (256, 256),
        deconv_kernel_sizes: Sequence[int] = (4, 4),
        keypoint_loss: dict[str, Any] | None = None,
        probability_loss: dict[str, Any] | None = None,
        visibility_loss: dict[str, Any] | None = None,
        oks_loss: dict[str, Any] | None = None,
        error_loss: dict[str, Any] | None = None,
        normalize: float | None = 1.0,
        detach_probability: bool = True,
        detach_visibility: bool = True,
        freeze_error: bool = True,
        freeze_oks: bool = False,
        sigmas: Sequence[float] | None = None,
        decoder: dict[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        if set(deconv_kernel_sizes) - {4}:
            raise ValueError(f'deconv_kernel_sizes = {deconv_kernel_sizes}; allowed: 4')
        if not freeze_error:
            raise ValueError('freeze_error = False: this head has no error branch to train')
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            deconv_out_channels=deconv_out_channels,
            normalize=normalize,
            keypoint_score='conf' if freeze_oks else 'oks',
            sigmas=sigmas,
            loss=keypoint_loss or OKS_RISK,
            decoder=decoder,
            init_cfg=init_cfg,
        )
        detached = {'presence': detach_probability, 'visibility': detach_visibility, 'oks': True}
        self.detached = frozenset(name for name, on in detached.items() if on)
        self.freeze_oks = freeze_oks
        self.probability_loss = MODELS.build(probability_loss or BCE)
        self.visibility_loss = MODELS.build(visibility_loss or BCE)
        self.oks_loss = MODELS.build(oks_loss or MSE)

    def loss(
        self, feats: tuple[Tensor, ...], batch_data_samples: Any, train_cfg: Any = None
    ) -> dict[str, Tensor]:
        """Compute the released losses of a batch.

        Args:
            feats: feature maps; the last one is used.
            batch_data_samples: B `PoseDataSample`s with the targets of `OKSArgMaxHeatmap`.
            train_cfg: unused; part of MMPose's interface.

        Returns:
            loss_kpt, loss_probability, loss_visibility, loss_oks (absent with `freeze_oks`), and
            for the log acc_pose (PCK of the peaks) and mae_oks (error of predicted OKS).
        """
        samples = batch_data_samples
        target = torch.stack([s.gt_fields.heatmaps for s in samples])
        weights, annotated, inside, visible = (
            torch.cat([s.gt_instance_labels.get(name) for s in samples]).float()
            for name in (
                'keypoint_weights', 'keypoints_annotated', 'keypoints_in_image',
                'keypoints_visibility',
            )
        )  # fmt: skip
        outputs = self.forward(feats)
        seen = annotated * inside
        reached = self.oks_targets(target, outputs.heatmaps, seen)
        balanced = balanced_weights(visible, annotated)
        losses = {
            'loss_kpt': self.heatmap_loss(outputs.heatmaps, target, weights),
            'loss_probability': self.probability_loss(outputs.presence, inside, annotated),
            'loss_visibility': self.visibility_loss(outputs.visibility, visible, balanced),
            'mae_oks': ((outputs.oks - reached).abs() * seen).sum() / seen.sum().clamp(min=1),
            'acc_pose': self._accuracy(outputs.heatmaps, target, weights),
        }
        if not self.freeze_oks:
            losses['loss_oks'] = self.oks_loss(outputs.oks, reached, seen)
        return losses

    def oks_targets(self, ground_truth: Tensor, heatmaps: Tensor, weights: Tensor) -> Tensor:
        """What the OKS branch is to predict: `heatmap_oks` of the decoded heat maps.

        Args:
            ground_truth: target maps, shape (B, K, h, w).
            heatmaps: predicted maps, the same shape.
            weights: 1 where a keypoint counts, shape (B, K).

        Returns:
            Float, shape (B, K), without gradient; 0 where a keypoint does not count.
        """
        points, wanted = self._decoded(heatmaps), self._decoded(ground_truth)
        sigmas = torch.tensor(self.sigmas, device=heatmaps.device)
        area = float(heatmaps.shape[-2] * heatmaps.shape[-1])
        return heatmap_oks(points, wanted, sigmas, area) * weights

    def _decoded(self, heatmaps: Tensor) -> Tensor:
        found = self.decode(heatmaps.detach())
        points = np.concatenate([row.keypoints for row in found]).astype(np.float32)
        return torch.from_numpy(points).to(heatmaps.device)

    @staticmethod
    def _accuracy(heatmaps: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        arrays = [t.detach().float().cpu().numpy() for t in (heatmaps, target, weights)]
        _, accuracy, _ = pose_pck_accuracy(arrays[0], arrays[1], mask=arrays[2] > 0)
        return torch.tensor(float(accuracy), device=heatmaps.device)


class OKSLossPerKeypoint(OKSHeatmapLoss):
    """The released loss when it is called on its own: a mean over the keypoints.

    Per keypoint the loss is (1 - a) sum of P (1 - T) + a max |Sobel P|^2.
    """

    def forward(
        self, output: Tensor, target: Tensor, target_weights: Tensor | None = None
    ) -> Tensor:
        """Compute the loss; arguments as in `OKSHeatmapLoss`."""
        return self.loss_weight * self.per_keypoint(output, target, target_weights).mean()

    def per_keypoint(self, output: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """Loss of every keypoint, shape (B, K); arguments as in `forward`."""
        risk = (output * (1 - target)).sum(dim=(2, 3))
        energy = sobel_energy(output).amax(dim=(2, 3))
        loss = (1 - self.smoothing_weight) * risk + self.smoothing_weight * energy
        return loss * self._weights(output, weights)


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
