"""A promptable SAM 2 for training from random weights, or from the encoder of a detector.

Legend: B images, N people of all images of a batch, S side of the model's square in px, s side at
which losses are computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import Tensor

from pipeline.segmenters.build_sam2 import load_model_config
from pipeline.segmenters.sam2_forward import ImageEmbedding, embed_images
from pipeline.training.pose2seg.clicks import ClickSimulator, ClickTargets
from pipeline.training.pose2seg.losses import mask_iou
from pipeline.training.pose2seg.model import Outputs, PromptedSam, best_mask, read_settings
from pipeline.weights.checkpoints import find_weights

from .alignment import align_attention
from .clicks import PartialClickSimulator, PartialPeople
from .dense import DenseHeads
from .detector_trunk import load_detector_trunk
from .embedding_cache import EmbeddingCache
from .first_prompts import FirstPrompts, draw_first
from .losses import PartialLossWeights, partial_prompt_losses

# Sides of the image features are projected by two layers of the mask decoder; stored embeddings
# contain the result.
PROJECTIONS = ('sam_mask_decoder.conv_s0', 'sam_mask_decoder.conv_s1')


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class CompactSam(PromptedSam):
    """`PromptedSam` that learns from little: other first prompts, dense losses, partial masks.

    Args:
        config: architecture, as of `PromptedSam`.
        checkpoint: weights to start from; None: random ones.
        trunk_checkpoint: weights of an RTMDet from which a `CSPNeXtTrunk` starts, in the same form;
            None: as `checkpoint` says.
        align: random weights are changed so that prompts count from the start (`align_attention`).
        prompts: settings of `FirstPrompts`, which then come in place of the first click; None: off.
        correction_prob: chance that a step has the corrections of `clicks`; else it ends after the
            first prompts.
        dense_weight: weight of the image encoder's dense supervision (`DenseHeads`); None: off.
        loss_stride: losses are computed at 1 / `loss_stride` of the square's side: 1, 2 or 4.
        losses: settings of `PartialLossWeights`.
        cache_embeddings: take image embeddings from the disk (`EmbeddingCacheHook`); freezes the
            two projections of the mask decoder that are part of them.
        freeze_image_encoder: as of `PromptedSam`.
        **kwargs: further settings of `PromptedSam`.

    Raises:
        ValueError: settings that are unknown, out of range or contradict each other.
    """

    def __init__(
        self,
        config: str,
        *,
        checkpoint: str | None = None,
        trunk_checkpoint: str | None = None,
        align: bool = False,
        prompts: Mapping[str, Any] | None = None,
        correction_prob: float = 1.0,
        dense_weight: float | None = None,
        loss_stride: int = 1,
        losses: Mapping[str, Any] | None = None,
        cache_embeddings: bool = False,
        freeze_image_encoder: bool = True,
        **kwargs: Any,
    ) -> None:
        first_prompts = None if prompts is None else read_settings(FirstPrompts, prompts, 'prompts')
        weights = read_settings(PartialLossWeights, losses, 'losses')
        _check_ranges(correction_prob, loss_stride)
        if align and checkpoint is not None:
            raise ValueError('align=True is for random weights: it would spoil those of checkpoint')
        if cache_embeddings and not freeze_image_encoder:
            raise ValueError('cache_embeddings needs freeze_image_encoder=True')
        if dense_weight is not None and freeze_image_encoder:
            raise ValueError('dense_weight trains the image encoder: freeze_image_encoder=False')
        super().__init__(
            config, checkpoint=checkpoint, freeze_image_encoder=freeze_image_encoder, **kwargs
        )
        self.weights = weights
        if trunk_checkpoint is not None:
            trunk_weights = find_weights(trunk_checkpoint).path
            load_detector_trunk(self.sam.image_encoder.trunk, trunk_weights)
        if align:
            align_attention(self.sam)
        self.prompts = first_prompts
        self.dense = None
        if dense_weight is not None:
            self.dense = DenseHeads(int(self.sam.hidden_dim), dense_weight)
        self.correction_prob = correction_prob
        self.loss_stride = loss_stride
        self.cache_embeddings = cache_embeddings
        self.cache: EmbeddingCache | None = None
        self.encoder_config = str(load_model_config(config).image_encoder)
        for name, parameter in self.sam.named_parameters():
            if cache_embeddings and name.startswith(PROJECTIONS):
                parameter.requires_grad_(False)

    def embed(self, inputs: Tensor, data_samples: Sequence[BaseDataElement]) -> ImageEmbedding:
        """Embeds each image once, or reads what is stored."""
        if not (self.cache_embeddings and self.training):
            return super().embed(inputs, data_samples)
        if self.cache is None:
            raise RuntimeError(
                "cache_embeddings=True needs custom_hooks=[dict(type='EmbeddingCacheHook', ...)]"
            )
        paths = [sample.img_path for sample in data_samples]
        return self.cache.get(paths, inputs, lambda images: embed_images(self.sam, images))

    def gather(self, groups: Sequence[Any]) -> PartialPeople:
        """Everybody of a batch, from the `gt_instances` of its images."""
        unknown = torch.cat([group.unknown for group in groups])
        return PartialPeople(**vars(super().gather(groups)), unknown=unknown)

    def first_prompts(self, people: ClickTargets) -> tuple[ClickSimulator, Tensor, Tensor]:
        """A simulator of clicks, and its first points (N, P, 2) and labels (N, P)."""
        assert isinstance(people, PartialPeople)
        simulator = PartialClickSimulator(people, self.clicks)
        if self.prompts is None:
            return simulator, *simulator.first()
        return simulator, *draw_first(simulator, self.prompts)

    def num_corrections(self) -> int:
        """Corrections of the next step: those of `clicks`, or none by chance."""
        is_corrected = self.correction_prob == 1 or float(torch.rand(())) < self.correction_prob
        return self.clicks.num_corrections if is_corrected else 0

    def image_losses(
        self, embedding: ImageEmbedding, data_samples: Sequence[BaseDataElement]
    ) -> dict[str, Tensor]:
        """Loss of the dense heads."""
        if self.dense is None:
            return {}
        groups = [sample.gt_instances for sample in data_samples]
        return {'loss_dense': self.dense(embedding, groups)}

    def pass_losses(
        self, outputs: Outputs, people: ClickTargets
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Losses of one decoder pass and the mean IoU of people whose whole mask is known."""
        assert isinstance(people, PartialPeople)
        logits, iou, score = outputs
        full = (self.to_square(logits, self.loss_stride), iou.float(), score.float())
        targets, known = self._targets(people)
        is_whole = known.flatten(1).amin(1) == 1
        partly = None if bool(is_whole.all()) else known
        losses = partial_prompt_losses(full, targets, self.weights, partly)
        found = mask_iou(best_mask(full).detach(), targets)[is_whole]
        return losses, found.sum() / is_whole.sum().clamp(min=1)

    def _targets(self, people: PartialPeople) -> tuple[Tensor, Tensor]:
        """True masks in [0, 1] and what is known of them (1 or 0), both (N, 1, s, s)."""
        both = torch.stack([people.masks, people.unknown]).float()
        if self.loss_stride > 1:
            both = F.avg_pool2d(both, self.loss_stride)
        targets, unknown = both[:, :, None]
        known = (unknown == 0).float()
        return targets * known, known


def _check_ranges(correction_prob: float, loss_stride: int) -> None:
    if not 0 <= correction_prob <= 1:
        raise ValueError(f'correction_prob must be in [0, 1], got {correction_prob}')
    if loss_stride not in (1, 2, 4):
        raise ValueError(f'loss_stride must be 1, 2 or 4, got {loss_stride}')
