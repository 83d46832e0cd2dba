"""The PMPose head: heat maps plus presence, visibility and expected OKS of every key point.

In its default setting it is the released layout: same state-dict keys (`deconv_layers`,
`final_layer`, `probability_layers`, `visibility_layers`, `oks_layers`) and the same computation,
so released PMPose checkpoints load into it. Their fourth branch (`error_layers`) was never
trained; its weights are dropped on loading.

Legend: B crops, C feature channels, K key points, heat maps of h x w px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from mmengine.structures import InstanceData, PixelData
from mmpose.models.heads import HeatmapHead
from mmpose.models.utils.tta import flip_heatmaps
from mmpose.registry import MODELS
from torch import Tensor, nn

from pipeline.keypoints import sigmas_of
from pipeline.poses.pmpose_losses import (
    SpatialCrossEntropyLoss,
    branch_losses,
    collect_targets,
    point_oks,
    sparsemax,
)

# Released setting: sparsemax(logits / 0.5).
TEMPERATURE = 0.5
RELEASED_POOLS = ((4, 3), (2, 2), (2, 2))


@dataclass(frozen=True, eq=False)
class PMPoseOutputs:
    """Outputs of the head for B crops.

    Attributes:
        heatmaps: float, shape (B, K, h, w), in [0, 1] if the head normalises.
        presence: float, shape (B, K), probability that the key point is inside the crop.
        visibility: float, shape (B, K), probability that it is visible.
        oks: float, shape (B, K), expected OKS of its location.
    """

    heatmaps: Tensor
    presence: Tensor
    visibility: Tensor
    oks: Tensor

    def average(self, other: PMPoseOutputs) -> PMPoseOutputs:
        """Mean of two outputs for the same crops."""
        return PMPoseOutputs(
            (self.heatmaps + other.heatmaps) * 0.5,
            (self.presence + other.presence) * 0.5,
            (self.visibility + other.visibility) * 0.5,
            (self.oks + other.oks) * 0.5,
        )

    def unflip(self, flip_indices: Sequence[int], *, shift_heatmap: bool) -> PMPoseOutputs:
        """Turn the outputs for mirrored crops into outputs for the crops themselves."""
        index = list(flip_indices)
        heatmaps = flip_heatmaps(
            self.heatmaps, flip_mode='heatmap', flip_indices=index, shift_heatmap=shift_heatmap
        )
        return PMPoseOutputs(
            heatmaps, self.presence[:, index], self.visibility[:, index], self.oks[:, index]
        )


def make_branch(
    in_channels: int, out_channels: int, channels: int, pools: Sequence[tuple[int, int]]
) -> nn.Sequential:
    """(conv3x3, BN, max pool, ReLU) per pool, then a 1x1 convolution to K channels."""
    layers: list[nn.Module] = []
    for pool in pools:
        layers += [nn.Conv2d(in_channels, channels, 3, 1, 1), nn.BatchNorm2d(channels)]
        layers += [nn.MaxPool2d(kernel_size=tuple(pool), stride=tuple(pool)), nn.ReLU()]
        in_channels = channels
    layers.append(nn.Conv2d(in_channels, out_channels, 1))
    return nn.Sequential(*layers)


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PMPoseHead(HeatmapHead):  # type: ignore[misc,unused-ignore]
    """Heat maps and three scalar branches on one feature map.

    Args:
        in_channels: channels C of the feature map.
        out_channels: key points K.
        deconv_out_channels: channels of the stride-2 deconvolutions (kernel 4).
        activation: what turns a map of logits into a distribution: 'sparsemax' (released; the
            logits are divided by 0.5 first) or 'softmax'.
        normalize: factor of the distribution before it is clamped to [0, 1]; None: the logits
            are the heat map, without activation or clamp.
        branch_channels: width of the scalar branches; None: C, as released.
        branch_pools: (rows, columns) of the three max pools, which must reduce the feature map to
            1 x 1. Released: `RELEASED_POOLS` for 16 x 12.
        keypoint_score: what becomes `keypoint_scores`: 'oks' (released) or 'conf', the peak.
        sigmas: COCO's per-key-point sigmas, for the target of the OKS branch; None: those of the
            convention with K points.
        loss: config of the heat-map loss (an MMPose loss on heat maps, or
            `SpatialCrossEntropyLoss` on logits).
        decoder: config of the MMPose codec.
        init_cfg: MMEngine weight initialisation; None: MMPose's (normal, std 0.001), an empty
            list: PyTorch's, better with few training steps.

    Raises:
        ValueError: an unknown activation or key point score.
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
            loss=loss or {'type': 'KeypointMSELoss', 'use_target_weight': True},
            decoder=decoder,
            init_cfg=init_cfg,
        )
        self.activation = activation
        self.normalize = normalize
        self.keypoint_score = keypoint_score
        self.sigmas = tuple(sigmas_of(out_channels) if sigmas is None else sigmas)
        # These branches read the features but do not shape them.
        self.detached: frozenset[str] = frozenset({'presence', 'visibility', 'oks'})
        width = in_channels if branch_channels is None else branch_channels
        self.probability_layers = make_branch(in_channels, out_channels, width, branch_pools)
        self.visibility_layers = make_branch(in_channels, out_channels, width, branch_pools)
        self.oks_layers = make_branch(in_channels, out_channels, width, branch_pools)

    def forward(self, feats: tuple[Tensor, ...]) -> PMPoseOutputs:
        """Run the network.

        Args:
            feats: feature maps; the last one, (B, C, rows, columns), is used.
        """
        heatmaps = self._normalize(self._logits(feats[-1]))
        return PMPoseOutputs(heatmaps=heatmaps, **self._branches(feats[-1]))

    def _branches(self, feature: Tensor) -> dict[str, Tensor]:
        """Presence, visibility and expected OKS (B, K)."""
        return {k: v.sigmoid() for k, v in self._branch_logits(feature).items()}

    def _logits(self, feature: Tensor) -> Tensor:
        logits: Tensor = self.final_layer(self.deconv_layers(feature))
        return logits

    def _branch_logits(self, feature: Tensor) -> dict[str, Tensor]:
        """Logits (B, K) of the scalar branches, in float32."""
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
        """Decode key points in input px and attach the scalars.

        Args:
            feats: feature maps, or [feature maps, those of the mirrored crops] with `flip_test`.
            batch_data_samples: B `PoseDataSample`s; `flip_indices` is read from the first.
            test_cfg: `flip_test`, `shift_heatmap`, `output_heatmaps`.

        Returns:
            B `InstanceData`: keypoints (1, K, 2), and (1, K) each of keypoint_scores,
            keypoints_conf (peak of the heat map), keypoints_probs (presence), keypoints_visible
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
        """What `predict` attaches to the key points, a row per crop."""
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
            decoded key points (for the log).
        """
        return self._pose_losses(feats[-1], self._logits(feats[-1]), batch_data_samples)

    def _pose_losses(self, feature: Tensor, logits: Tensor, samples: Any) -> dict[str, Tensor]:
        """As `loss`, from the feature map and the logits of the heat maps."""
        target = torch.stack([s.gt_fields.heatmaps for s in samples])
        weights = torch.cat([s.gt_instance_labels.keypoint_weights for s in samples])
        on_logits = isinstance(self.loss_module, SpatialCrossEntropyLoss)
        maps = logits if on_logits else self._normalize(logits)
        losses = {'loss_kpt': self.loss_module(maps, target, weights)}
        targets = collect_targets(samples, logits.device)
        sigmas = torch.tensor(self.sigmas, device=logits.device)
        reached = point_oks(self._peaks(logits.detach(), samples), targets, sigmas)
        losses.update(branch_losses(self._branch_logits(feature), reached, targets))
        losses['oks'] = (reached * targets.seen).sum() / targets.seen.sum().clamp(min=1)
        return losses

    @staticmethod
    def _peaks(logits: Tensor, samples: Any) -> Tensor:
        """Place of the maximum of every map, shape (B, K, 2), x, y in input px (UDP scaling)."""
        height, width = logits.shape[-2:]
        index = logits.flatten(2).argmax(dim=-1)
        xy = torch.stack([index % width, index // width], dim=-1).float()
        input_size = np.array(samples[0].metainfo['input_size'], dtype=np.float32)
        scale = (input_size - 1) / np.array([width - 1, height - 1], dtype=np.float32)
        return xy * torch.as_tensor(scale, device=logits.device)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # The error branch of released checkpoints is random: frozen in every released config.
        for key in [k for k in state_dict if k.startswith(f'{prefix}error_layers.')]:
            del state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args)
