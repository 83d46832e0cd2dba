"""The PMPose head: heatmaps plus presence, visibility and expected OKS of every keypoint.

With default settings, released PMPose checkpoints load into it: the state-dict keys
(`deconv_layers`, `final_layer`, `probability_layers`, `visibility_layers`, `oks_layers`) and the
computation are the same. Their fourth branch (`error_layers`) was never trained; loading drops it.

Legend: B crops, C feature channels, K keypoints, heatmaps of h x w px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from importlib import import_module
from typing import Any, Literal

import numpy as np
import torch
from mmengine.structures import InstanceData, PixelData
from mmpose.models.heads import HeatmapHead
from mmpose.models.utils.tta import flip_heatmaps
from mmpose.registry import MODELS
from torch import Tensor, nn
from typing_extensions import Self

from pipeline.keypoints import COCO_SIGMAS, NUM_COCO

# Released setting: sparsemax(logits / 0.5).
TEMPERATURE = 0.5
RELEASED_POOLS = ((4, 3), (2, 2), (2, 2))


@dataclass(frozen=True, eq=False)
class PMPoseOutputs:
    """Outputs of the head for B crops."""

    heatmaps: Tensor  # float, shape (B, K, h, w), in [0, 1] if the head normalizes
    presence: Tensor  # float, shape (B, K), probability that the keypoint is inside the crop
    visibility: Tensor  # float, shape (B, K), probability that it is visible
    oks: Tensor  # float, shape (B, K), expected OKS of the keypoint

    def average(self, other: Self) -> Self:
        """Average two outputs for the same crops."""
        columns = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return type(self)(*((a + b) * 0.5 for a, b in columns))

    def unflip(self, flip_indices: Sequence[int], *, shift_heatmap: bool) -> Self:
        """Convert the outputs of mirrored crops to outputs of the original crops."""
        index = list(flip_indices)
        heatmaps = flip_heatmaps(
            self.heatmaps, flip_mode='heatmap', flip_indices=index, shift_heatmap=shift_heatmap
        )
        return replace(
            self,
            heatmaps=heatmaps,
            presence=self.presence[:, index],
            visibility=self.visibility[:, index],
            oks=self.oks[:, index],
        )


def sparsemax(logits: Tensor) -> Tensor:
    """Project onto the probability simplex along the last axis (Martins & Astudillo, 2016).

    Closed form: with logits sorted in falling order, k is the largest index with
    1 + k z_k > sum of the first k, tau = (that sum - 1) / k, and the result max(z - tau, 0).

    Args:
        logits: float, shape (..., M).

    Returns:
        Shape (..., M), each row >= 0 and summing to 1; most entries are exactly 0.
    """
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    ordered = shifted.sort(dim=-1, descending=True).values
    rank = torch.arange(1, logits.shape[-1] + 1, dtype=logits.dtype, device=logits.device)
    sums = ordered.cumsum(dim=-1) - 1
    support = (rank * ordered > sums).sum(dim=-1, keepdim=True)
    threshold = sums.gather(-1, support - 1) / support.to(logits.dtype)
    return (shifted - threshold).clamp(min=0)


def make_branch(
    in_channels: int, out_channels: int, channels: int, pools: Sequence[tuple[int, int]]
) -> nn.Sequential:
    """Build (conv3x3, BN, max pool, ReLU) per pool, then a 1x1 convolution to K channels."""
    layers: list[nn.Module] = []
    for pool in pools:
        layers += [nn.Conv2d(in_channels, channels, 3, 1, 1), nn.BatchNorm2d(channels)]
        layers += [nn.MaxPool2d(kernel_size=tuple(pool), stride=tuple(pool)), nn.ReLU()]
        in_channels = channels
    layers.append(nn.Conv2d(in_channels, out_channels, 1))
    return nn.Sequential(*layers)


def default_sigmas(num_keypoints: int) -> tuple[float, ...]:
    """Return the OKS sigmas of the model set with ``num_keypoints``."""
    if num_keypoints == NUM_COCO:
        return tuple(COCO_SIGMAS.tolist())
    from pipeline.keypoint_sets import sigmas_of  # models with more keypoints than COCO

    return sigmas_of(num_keypoints)


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PMPoseHead(HeatmapHead):  # type: ignore[misc,unused-ignore]
    """Heatmaps and three scalar branches on one feature map.

    Args:
        in_channels: channels C of the feature map.
        out_channels: keypoints K.
        deconv_out_channels: channels of the stride-2 deconvolutions (kernel 4).
        activation: Converts logits to a distribution: 'sparsemax' (released; of logits / 0.5) or
            'softmax'.
        normalize: Factor of the distribution before clamping to [0, 1]; None returns the logits
            without activation or clamp.
        branch_channels: Width of the scalar branches; None: C, as released.
        branch_pools: (rows, columns) of the three max pools, which must reduce the feature map to
            1 x 1. Released: `RELEASED_POOLS` for 16 x 12.
        keypoint_score: Source of `keypoint_scores`: 'oks' (released) or 'conf', the heatmap peak.
        sigmas: COCO sigmas for the target of the OKS branch; None: those of the convention with K
            keypoints.
        loss: Config of the heatmap loss (an MMPose loss on heatmaps, or
            `SpatialCrossEntropyLoss` on logits).
        decoder: Config of the MMPose codec.
        init_cfg: MMEngine weight initialization. None: MMPose's (normal, std 0.001). Empty list:
            PyTorch's, better with few training steps.

    Raises:
        ValueError: an unknown activation or keypoint score.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        deconv_out_channels: Sequence[int] = (256, 256),
        activation: Literal['sparsemax', 'softmax'] = 'sparsemax',
        normalize: float | None = 1.0,
        branch_channels: int | None = None,
        branch_pools: Sequence[tuple[int, int]] = RELEASED_POOLS,
        keypoint_score: Literal['oks', 'conf'] = 'oks',
        sigmas: Sequence[float] | None = None,
        loss: dict[str, Any] | None = None,
        decoder: dict[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        if activation not in ('sparsemax', 'softmax'):
            raise ValueError(f'activation = {activation!r}; allowed: sparsemax, softmax')
        if keypoint_score not in ('oks', 'conf'):
            raise ValueError(f'keypoint_score = {keypoint_score!r}; allowed: oks, conf')
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            deconv_out_channels=tuple(deconv_out_channels),
            deconv_kernel_sizes=(4,) * len(deconv_out_channels),
            decoder=decoder,
            init_cfg=init_cfg,
        )
        del self.loss_module  # in its place: `heatmap_loss`
        self.loss_config = loss or {'type': 'KeypointMSELoss', 'use_target_weight': True}
        self.activation = activation
        self.normalize = normalize
        self.keypoint_score = keypoint_score
        self.sigmas = tuple(default_sigmas(out_channels) if sigmas is None else sigmas)
        # These branches send no gradients to the features.
        self.detached: frozenset[str] = frozenset({'presence', 'visibility', 'oks'})
        width = in_channels if branch_channels is None else branch_channels
        self.probability_layers = make_branch(in_channels, out_channels, width, branch_pools)
        self.visibility_layers = make_branch(in_channels, out_channels, width, branch_pools)
        self.oks_layers = make_branch(in_channels, out_channels, width, branch_pools)

    @cached_property
    def heatmap_loss(self) -> nn.Module:
        """Loss of the heatmaps, built on first use: inference does not need it."""
        import_module('pipeline.poses.pmpose_losses')  # registers `SpatialCrossEntropyLoss`
        module: nn.Module = MODELS.build(self.loss_config)
        return module

    def forward(self, feats: tuple[Tensor, ...]) -> PMPoseOutputs:
        """Run the network.

        Args:
            feats: feature maps; the last one, (B, C, rows, columns), is used.
        """
        heatmaps = self._normalize(self._logits(feats[-1]))
        return PMPoseOutputs(heatmaps=heatmaps, **self._branches(feats[-1]))

    def _branches(self, feature: Tensor) -> dict[str, Tensor]:
        """Return presence, visibility and expected OKS, each (B, K)."""
        return {k: v.sigmoid() for k, v in self._branch_logits(feature).items()}

    def _logits(self, feature: Tensor) -> Tensor:
        logits: Tensor = self.final_layer(self.deconv_layers(feature))
        return logits

    def _branch_logits(self, feature: Tensor) -> dict[str, Tensor]:
        """Return the logits (B, K) of the scalar branches, in float32."""
        branches = {
            'presence': self.probability_layers,
            'visibility': self.visibility_layers,
            'oks': self.oks_layers,
        }
        return {
            name: layers(feature.detach() if name in self.detached else feature).flatten(1).float()
            for name, layers in branches.items()
        }

    def _normalize(self, logits: Tensor) -> Tensor:
        if self.normalize is None:
            return logits
        flat = logits.float().flatten(2)
        if self.activation == 'sparsemax':
            distribution = sparsemax(flat / TEMPERATURE)
        else:
            distribution = flat.softmax(dim=-1)
        return (distribution * self.normalize).clamp(0, 1).view(logits.shape)

    def predict(self, feats: Any, batch_data_samples: Any, test_cfg: Any = None) -> Any:
        """Decode keypoints in input px and attach the scalar outputs.

        Args:
            feats: feature maps, or [feature maps, those of the mirrored crops] with `flip_test`.
            batch_data_samples: B `PoseDataSample`s; `flip_indices` is read from the first.
            test_cfg: `flip_test`, `shift_heatmap`, `output_heatmaps`.

        Returns:
            B `InstanceData`: keypoints (1, K, 2), and (1, K) each of keypoint_scores,
            keypoints_conf (peak of the heatmap), keypoints_probs (presence), keypoints_visible
            and keypoints_oks. With `output_heatmaps` a pair with B `PixelData` after it.
        """
        test_cfg = test_cfg or {}
        with torch.no_grad():
            outputs = self._forward_test(feats, batch_data_samples, test_cfg)
        predictions = self.decode(outputs.heatmaps)
        rows = self._rows(outputs, batch_data_samples)
        arrays = {k: v.float().cpu().numpy().astype(np.float32) for k, v in rows.items()}
        for i, prediction in enumerate(predictions):
            self._attach(prediction, {name: array[i : i + 1] for name, array in arrays.items()})
        if test_cfg.get('output_heatmaps', False):
            return predictions, [PixelData(heatmaps=h) for h in outputs.heatmaps]
        return predictions

    def _rows(self, outputs: PMPoseOutputs, samples: Any) -> dict[str, Tensor]:
        """Return the fields that `predict` adds, one row per crop."""
        return {
            'keypoints_probs': outputs.presence,
            'keypoints_visible': outputs.visibility,
            'keypoints_oks': outputs.oks,
        }

    def _forward_test(self, feats: Any, samples: Any, test_cfg: Any) -> PMPoseOutputs:
        if not test_cfg.get('flip_test', False):
            return self.forward(feats)
        flipped = self.forward(feats[1]).unflip(
            samples[0].metainfo['flip_indices'],
            shift_heatmap=test_cfg.get('shift_heatmap', False),
        )
        return self.forward(feats[0]).average(flipped)

    def _attach(self, prediction: InstanceData, scalars: dict[str, Any]) -> None:
        prediction.keypoints_conf = prediction.keypoint_scores
        for name, row in scalars.items():
            prediction.set_field(row, name)
        if self.keypoint_score == 'oks':
            prediction.keypoint_scores = scalars['keypoints_oks'].copy()

    def loss(
        self, feats: tuple[Tensor, ...], batch_data_samples: Any, train_cfg: Any = None
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            feats: feature maps; the last one is used.
            batch_data_samples: B `PoseDataSample`s with `gt_fields.heatmaps`,
                `gt_instance_labels.keypoint_weights` and what `collect_targets` reads.
            train_cfg: unused; part of MMPose's interface.

        Returns:
            loss_kpt, loss_presence, loss_visibility, loss_oks, and oks: the mean OKS of the
            decoded keypoints (for the log).
        """
        from pipeline.poses.pmpose_losses import pose_losses  # only training needs them

        return pose_losses(self, feats[-1], self._logits(feats[-1]), batch_data_samples)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # The error branch of released checkpoints is untrained: every released config freezes it.
        for key in [k for k in state_dict if k.startswith(f'{prefix}error_layers.')]:
            del state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args)
