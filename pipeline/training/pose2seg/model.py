"""A stock SAM 2 as a model of MMEngine: trained on simulated clicks, evaluated on keypoints.

Legend: B photos, N people of all photos of a batch, S side of the model's square in px, M masks per
person, K keypoints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from pycocotools import mask as coco_mask
from torch import Tensor

from pipeline.checkpoints import find_weights
from pipeline.segmenters.build_sam2 import build_sam2_model, load_model_config
from pipeline.segmenters.prompts import select_keypoints
from pipeline.segmenters.sam2_forward import (
    MASK_PROMPT_LIMIT,
    POINT_POSITIVE,
    ImageEmbedding,
    decode_prompts,
    embed_images,
)
from pipeline.segmenters.sam2_preprocess import logits_to_image, square_image
from pipeline.segmenters.sam2_prior import prompt_prior
from pipeline.training.sam_losses import LossWeights, mask_iou, prompt_losses

from .clicks import ClickSimulator, People, PoseMaskRefine
from .embedding_cache import EmbeddingCache

Outputs = tuple[Tensor, Tensor, Tensor]
# Sides of the image features are projected by two layers of the mask decoder; stored embeddings
# contain the result.
PROJECTIONS = ('conv_s0', 'conv_s1')
_EVAL_BATCH = 32


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PromptedSamPreprocessor(BaseDataPreprocessor):  # type: ignore[misc,unused-ignore]
    """Moves a batch to the device and scales its photos to the square, exactly as at inference.

    Args:
        image_size: S.
    """

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Gives `inputs` float (B, 3, S, S), normalised, and the `data_samples`."""
        moved = self.cast_data(data)
        photos = [square_image(pixels, self.image_size) for pixels in moved['inputs']]
        return {'inputs': torch.stack(photos), 'data_samples': moved['data_samples']}


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PromptedSam(BaseModel):  # type: ignore[misc,unused-ignore]
    """SAM 2 for training on poses. Its memory modules are never run or trained.

    Args:
        config: architecture: a YAML file or a config name of the `sam2` package.
        checkpoint: weights to start from, a name in the manifest or a file; None: random ones.
        image_size: S; None: that of the config.
        clicks: settings of `PoseMaskRefine`.
        losses: settings of `LossWeights`.
        freeze_image_encoder: the image encoder gets no gradients and stays in evaluation mode.
        train_prompt_encoder: else it is frozen too.
        train_mask_decoder: else it is frozen too.
        multimask_max_points: prompts of up to so many points are answered by three masks, of which
            the best is trained, as in SAM 2 (1); 0: always by the one mask that inference takes.
        detach_logits: no gradients through the masks that are fed back; SAM 2 has them (False).
        draw_prompts: the mask prompt is always a drawing of all clicks so far (`prompt_prior`), as
            the pipeline makes it for models that need one; the mask so far is not fed back.
        cache_embeddings: take image embeddings from the disk (`EmbeddingCacheHook`); freezes the
            two projections of the mask decoder that are part of them.
        eval_counts: numbers of keypoints that `predict` prompts with; None: all usable ones.

    Raises:
        ValueError: settings that are unknown, out of range or contradict each other.
    """

    def __init__(
        self,
        config: str,
        *,
        checkpoint: str | None = None,
        image_size: int | None = None,
        clicks: Mapping[str, Any] | None = None,
        losses: Mapping[str, Any] | None = None,
        freeze_image_encoder: bool = True,
        train_prompt_encoder: bool = True,
        train_mask_decoder: bool = True,
        multimask_max_points: int = 1,
        detach_logits: bool = False,
        draw_prompts: bool = False,
        cache_embeddings: bool = False,
        eval_counts: Sequence[int | None] = (1, 2, 3, 5, None),
    ) -> None:
        self.clicks = _settings(PoseMaskRefine, clicks, 'clicks')
        self.weights = _settings(LossWeights, losses, 'losses')
        _check_counts(multimask_max_points, eval_counts)
        trained = {
            'image_encoder': not freeze_image_encoder,
            'sam_prompt_encoder': train_prompt_encoder,
            'sam_mask_decoder': train_mask_decoder,
        }
        if not any(trained.values()):
            raise ValueError('nothing is trained: all of image encoder, prompt encoder and mask '
                             'decoder are frozen')  # fmt: skip
        if cache_embeddings and not freeze_image_encoder:
            raise ValueError('cache_embeddings needs freeze_image_encoder=True')
        weights = find_weights(checkpoint).path if checkpoint is not None else None
        sam = build_sam2_model(config, weights, 'cpu', image_size=image_size)
        super().__init__(data_preprocessor=PromptedSamPreprocessor(int(sam.image_size)))
        self.sam = sam
        self.encoder_config = str(load_model_config(config).image_encoder)
        self.multimask_max_points = multimask_max_points
        self.detach_logits = detach_logits
        self.draw_prompts = draw_prompts
        self.cache_embeddings = cache_embeddings
        self.eval_counts = tuple(eval_counts)
        self.cache: EmbeddingCache | None = None
        self._trained_parts = tuple(name for name, wanted in trained.items() if wanted)
        for name, parameter in self.sam.named_parameters():
            parameter.requires_grad_(self._is_trained(name))

    @property
    def image_size(self) -> int:
        """S."""
        return int(self.sam.image_size)

    def _is_trained(self, name: str) -> bool:
        part, *rest = name.split('.')
        stored = self.cache_embeddings and rest and rest[0] in PROJECTIONS
        return part in self._trained_parts and not stored

    def train(self, mode: bool = True) -> PromptedSam:
        """Sets the mode of the trained parts; the others stay in evaluation mode."""
        super().train(mode)
        for name, part in self.sam.named_children():
            if name not in self._trained_parts:
                part.eval()
        return self

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[BaseDataElement],
        mode: Literal['loss', 'predict', 'tensor'] = 'tensor',
    ) -> Any:
        """Runs the model on a batch as the preprocessor gives it.

        Args:
            inputs: photos, float (B, 3, S, S), normalised.
            data_samples: as `PackPromptedPoses` makes them.
            mode: 'loss': dict of losses and of what is logged beside them. 'predict': the samples
                with `predictions`, see `predict`. 'tensor': outputs of all decoder passes, each as
                `decode_prompts` returns them.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'tensor':
            people, image_index = self._people(data_samples)
            embedding = self.embed(inputs, data_samples)
            return list(self.roll_out(embedding, people, image_index))
        raise ValueError(f"mode must be 'loss', 'predict' or 'tensor', got {mode!r}")

    def embed(self, inputs: Tensor, data_samples: Sequence[BaseDataElement]) -> ImageEmbedding:
        """Embeds each photo once, or reads what is stored."""
        if not (self.cache_embeddings and self.training):
            return embed_images(self.sam, inputs)
        if self.cache is None:
            raise RuntimeError(
                "cache_embeddings=True needs custom_hooks=[dict(type='EmbeddingCacheHook', ...)]"
            )
        paths = [sample.img_path for sample in data_samples]
        return self.cache.get(paths, inputs, lambda images: embed_images(self.sam, images))

    def roll_out(
        self, embedding: ImageEmbedding, people: People, image_index: Tensor
    ) -> Iterator[Outputs]:
        """Decodes first clicks and corrections one after the other.

        Yields:
            Mask logits (N, M, S / 4, S / 4), predicted IoU (N, M), object score logits (N, 1).
        """
        simulator = ClickSimulator(people, self.clicks)
        points, labels = simulator.first()
        previous: Tensor | None = None
        for corrections_left in range(self.clicks.num_corrections, -1, -1):
            outputs = decode_prompts(
                self.sam,
                embedding,
                image_index=image_index,
                point_coords=points,
                point_labels=labels,
                mask_inputs=self._drawn(points, labels) if self.draw_prompts else previous,
                multimask_output=points.shape[1] <= self.multimask_max_points,
            )
            yield outputs
            if not corrections_left:
                return
            previous = _best(outputs).clamp(-MASK_PROMPT_LIMIT, MASK_PROMPT_LIMIT)
            point, label = simulator.correct(self._to_square(previous.detach())[:, 0])
            if self.detach_logits:
                previous = previous.detach()
            points, labels = torch.cat([points, point], 1), torch.cat([labels, label], 1)

    def loss(self, inputs: Tensor, data_samples: Sequence[BaseDataElement]) -> dict[str, Tensor]:
        """Losses of a batch, summed over all decoder passes as in SAM 2.

        They are sums over people divided by the mean number of people of a process, so several
        processes together take the step of one with all photos.
        """
        people, image_index = self._people(data_samples)
        embedding = self.embed(inputs, data_samples)
        targets = people.masks[:, None].float()
        present = targets.new_ones((len(people), 1))
        total: dict[str, Tensor] = {}
        overlaps = []
        for logits, iou, score in self.roll_out(embedding, people, image_index):
            full = self._to_square(logits)
            outputs = (full, iou.float(), score.float())
            for name, part in prompt_losses(outputs, targets, present, self.weights).items():
                total[f'loss_{name}'] = total.get(f'loss_{name}', 0) + part
            overlaps.append(mask_iou(_best((full, iou, score)).detach(), targets).mean())
        share = len(people) / self._mean_count(len(people), targets.device)
        dropped = sum(sample.num_dropped for sample in data_samples)
        return {
            **{name: part * share for name, part in total.items()},
            'iou_first': overlaps[0],
            'iou_last': overlaps[-1],
            'people': targets.new_tensor(float(len(people))),
            'dropped': targets.new_tensor(float(dropped)),
        }

    @torch.no_grad()
    def predict(
        self, inputs: Tensor, data_samples: Sequence[BaseDataElement]
    ) -> list[BaseDataElement]:
        """Prompts each person with its first k keypoints, for each k of `eval_counts`.

        The order of keypoints and the passes are those of the pipeline (`select_keypoints`,
        `decode_prompts`). People without a usable keypoint get no prediction; who has fewer than k
        is prompted with all.

        Returns:
            The samples with `predictions`, a dict: name of k ('1', ..., 'all') -> list of dicts
            with `ann_id`, `score` (predicted IoU) and `rle` (mask of the photo's size).
        """
        embedding = self.embed(inputs, data_samples)
        for index, sample in enumerate(data_samples):
            orders = self._orders(sample)
            masks = self._predict_photo(embedding, index, sample, orders)
            sample.predictions = {
                count_name(count): [
                    {'ann_id': sample.gt_instances.ann_ids[row], **masks[row, _used(order, count)]}
                    for row, order in enumerate(orders)
                    if len(order)
                ]
                for count in self.eval_counts
            }
        return list(data_samples)

    def _predict_photo(
        self,
        embedding: ImageEmbedding,
        index: int,
        sample: BaseDataElement,
        orders: list[Any],
    ) -> dict[tuple[int, int], dict[str, Any]]:
        """Masks by (person, number of keypoints), equal numbers together, none twice."""
        jobs = {
            (row, _used(order, count))
            for row, order in enumerate(orders)
            for count in self.eval_counts
            if len(order)
        }
        found: dict[tuple[int, int], dict[str, Any]] = {}
        for number in sorted({number for _, number in jobs}):
            rows = sorted(row for row, n in jobs if n == number)
            for start in range(0, len(rows), _EVAL_BATCH):
                batch = rows[start : start + _EVAL_BATCH]
                coords = torch.stack(
                    [sample.gt_instances.keypoints[row][orders[row][:number]] for row in batch]
                )
                logits, scores = self._decode(embedding, index, coords)
                full = logits_to_image(logits, sample.ori_shape)[:, 0] > 0
                for row, mask, score in zip(batch, full.cpu().numpy(), scores, strict=True):
                    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
                    found[row, number] = {'score': float(score), 'rle': rle}
        return found

    def _decode(
        self, embedding: ImageEmbedding, index: int, coords: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Low-resolution logits (n, 1, h, w) and predicted IoU (n,) for positive points."""
        labels = torch.full(coords.shape[:2], POINT_POSITIVE, device=coords.device)
        logits, iou, _ = decode_prompts(
            self.sam,
            embedding,
            image_index=index,
            point_coords=coords,
            point_labels=labels,
            mask_inputs=self._drawn(coords, labels) if self.draw_prompts else None,
        )
        return logits.float(), iou[:, 0]

    def _orders(self, sample: BaseDataElement) -> list[Any]:
        """For each person its usable keypoints, best prompt first."""
        people = sample.gt_instances
        rows = zip(people.keypoints.cpu().numpy(), people.visibility.cpu().numpy(), strict=True)
        return [
            select_keypoints(
                points, visible, visible,
                method=self.clicks.method, visibility_threshold=self.clicks.visibility_threshold,
            )
            for points, visible in rows
        ]  # fmt: skip

    def _people(self, data_samples: Sequence[BaseDataElement]) -> tuple[People, Tensor]:
        """Everybody of a batch, and the photo that each is in, long (N,)."""
        groups = [sample.gt_instances for sample in data_samples]
        masks = torch.cat([group.masks for group in groups])
        if masks.shape[-1] != self.image_size:
            raise ValueError(
                f'masks have {masks.shape[-1]} px, the model takes {self.image_size}: set '
                'image_size of PackPromptedPoses to that of the model'
            )
        people = People(
            masks,
            torch.cat([group.keypoints for group in groups]),
            torch.cat([group.visibility for group in groups]),
            [int(seed) for group in groups for seed in group.seeds],
        )
        counts = torch.tensor([len(group) for group in groups], device=masks.device)
        photos = torch.arange(len(groups), device=masks.device)
        return people, photos.repeat_interleave(counts)

    def _drawn(self, points: Tensor, labels: Tensor) -> Tensor:
        return prompt_prior(points, labels, self.image_size)

    def _to_square(self, logits: Tensor) -> Tensor:
        """Mask logits at the size of the square, float32 (N, M, S, S)."""
        size = (self.image_size, self.image_size)
        return F.interpolate(logits.float(), size, mode='bilinear', align_corners=False)

    @staticmethod
    def _mean_count(count: int, device: torch.device) -> float:
        """Mean number of people per process."""
        total = torch.tensor(float(count), device=device)
        all_reduce(total)
        mean: float = total.item() / get_world_size()
        return max(1.0, mean)


def count_name(count: int | None) -> str:
    """Name of a number of keypoints in scores."""
    return 'all' if count is None else str(count)


def _used(order: Any, count: int | None) -> int:
    return len(order) if count is None else min(count, len(order))


def _best(outputs: Outputs) -> Tensor:
    """The mask (N, 1, h, w) of the highest predicted IoU."""
    logits, iou, _ = outputs
    rows = torch.arange(len(logits), device=logits.device)
    return logits[rows, iou.argmax(1)][:, None]


def _settings(kind: Any, values: Mapping[str, Any] | None, name: str) -> Any:
    """A dataclass of settings from a config.

    Raises:
        ValueError: unknown settings, or values that the dataclass refuses.
    """
    known = set(kind.__dataclass_fields__)
    unknown = sorted(set(values or {}) - known)
    if unknown:
        raise ValueError(f'{name} has no {", ".join(unknown)}; known: {", ".join(sorted(known))}')
    return kind(**(values or {}))


def _check_counts(multimask_max_points: int, eval_counts: Sequence[int | None]) -> None:
    if multimask_max_points < 0:
        raise ValueError(f'multimask_max_points must be 0 or more, got {multimask_max_points}')
    if not eval_counts or any(count is not None and count < 1 for count in eval_counts):
        raise ValueError(f'eval_counts must be numbers from 1 on, or None, got {eval_counts}')
