"""A stock SAM 2 as a model of MMEngine: trained on simulated clicks, evaluated on keypoints.

Legend: B photos, N people of all photos of a batch, S side of the model's square in px, M masks per
person, K keypoints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import Tensor

from pipeline.segmenters.build_sam2 import build_sam2_model
from pipeline.segmenters.sam2_forward import (
    MASK_PROMPT_LIMIT,
    ImageEmbedding,
    decode_prompts,
    embed_images,
)
from pipeline.segmenters.sam2_preprocess import square_image
from pipeline.segmenters.sam2_prior import prompt_prior
from pipeline.weights.checkpoints import find_weights

from .clicks import ClickSimulator, People, PoseMaskRefine
from .losses import LossWeights, mask_iou, prompt_losses
from .prediction import eval_prompts, predict_image

Outputs = tuple[Tensor, Tensor, Tensor]


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
        mask_prompt_from_keypoints: the mask prompt is a drawing of all clicks so far
            (`prompt_prior`), as at inference; the previous mask is not fed back.
        eval_counts: what `predict` prompts with: numbers of keypoints, None (all usable ones),
            'box', or both, as 'box+3'.

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
        mask_prompt_from_keypoints: bool = False,
        eval_counts: Sequence[int | str | None] = (1, 2, 3, 5, None),
    ) -> None:
        self.clicks = read_settings(PoseMaskRefine, clicks, 'clicks')
        self.weights = read_settings(LossWeights, losses, 'losses')
        self.eval_prompts = eval_prompts(eval_counts)
        if multimask_max_points < 0:
            raise ValueError(f'multimask_max_points must be 0 or more, got {multimask_max_points}')
        trained = {
            'image_encoder': not freeze_image_encoder,
            'sam_prompt_encoder': train_prompt_encoder,
            'sam_mask_decoder': train_mask_decoder,
        }
        if not any(trained.values()):
            raise ValueError('nothing is trained: all of image encoder, prompt encoder and mask '
                             'decoder are frozen')  # fmt: skip
        weights = find_weights(checkpoint).path if checkpoint is not None else None
        sam = build_sam2_model(config, weights, 'cpu', image_size=image_size)
        super().__init__(data_preprocessor=PromptedSamPreprocessor(int(sam.image_size)))
        self.sam = sam
        self.multimask_max_points = multimask_max_points
        self.detach_logits = detach_logits
        self.mask_prompt_from_keypoints = mask_prompt_from_keypoints
        self._trained_parts = tuple(name for name, wanted in trained.items() if wanted)
        for name, parameter in self.sam.named_parameters():
            parameter.requires_grad_(name.split('.')[0] in self._trained_parts)

    @property
    def image_size(self) -> int:
        """S."""
        return int(self.sam.image_size)

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
        """Embeds each image once."""
        return embed_images(self.sam, inputs)

    def first_prompts(self, people: People) -> tuple[ClickSimulator, Tensor, Tensor]:
        """A simulator of clicks, and its first points (N, P, 2) and labels (N, P)."""
        simulator = ClickSimulator(people, self.clicks)
        return simulator, *simulator.first()

    def num_corrections(self) -> int:
        """Corrections of the next step."""
        return int(self.clicks.num_corrections)

    def roll_out(
        self, embedding: ImageEmbedding, people: People, image_index: Tensor
    ) -> Iterator[Outputs]:
        """Decodes first prompts and corrections one after the other.

        Yields:
            Mask logits (N, M, S / 4, S / 4), predicted IoU (N, M), object score logits (N, 1).
        """
        simulator, points, labels = self.first_prompts(people)
        previous: Tensor | None = None
        for corrections_left in range(self.num_corrections(), -1, -1):
            outputs = decode_prompts(
                self.sam,
                embedding,
                image_index=image_index,
                point_coords=points,
                point_labels=labels,
                mask_inputs=self._drawn(points, labels)
                if self.mask_prompt_from_keypoints
                else previous,
                multimask_output=points.shape[1] <= self.multimask_max_points,
            )
            yield outputs
            if not corrections_left:
                return
            previous = best_mask(outputs).clamp(-MASK_PROMPT_LIMIT, MASK_PROMPT_LIMIT)
            point, label = simulator.correct(self.to_square(previous.detach())[:, 0])
            if self.detach_logits:
                previous = previous.detach()
            points, labels = torch.cat([points, point], 1), torch.cat([labels, label], 1)

    def loss(self, inputs: Tensor, data_samples: Sequence[BaseDataElement]) -> dict[str, Tensor]:
        """Losses of a batch, summed over all decoder passes as in SAM 2.

        They are sums over people divided by the mean number of people of a process, so several
        processes together take the step of one with all images.
        """
        people, image_index = self._people(data_samples)
        embedding = self.embed(inputs, data_samples)
        total = self.image_losses(embedding, data_samples)
        overlaps = []
        for outputs in self.roll_out(embedding, people, image_index):
            parts, overlap = self.pass_losses(outputs, people)
            overlaps.append(overlap)
            for name, part in parts.items():
                total[f'loss_{name}'] = total.get(f'loss_{name}', 0) + part
        share = len(people) / self._mean_count(len(people), inputs.device)
        dropped = sum(sample.num_dropped for sample in data_samples)
        return {
            **{name: part * share for name, part in total.items()},
            'iou_first': overlaps[0],
            'iou_last': overlaps[-1],
            'people': inputs.new_tensor(float(len(people))),
            'dropped': inputs.new_tensor(float(dropped)),
        }

    def image_losses(
        self, embedding: ImageEmbedding, data_samples: Sequence[BaseDataElement]
    ) -> dict[str, Tensor]:
        """Losses that do not depend on prompts; none here."""
        return {}

    def pass_losses(self, outputs: Outputs, people: People) -> tuple[dict[str, Tensor], Tensor]:
        """Losses of one decoder pass and the mean IoU of its masks."""
        logits, iou, score = outputs
        full = (self.to_square(logits), iou.float(), score.float())
        targets = people.masks.float()[:, None]
        losses = prompt_losses(full, targets, self.weights)
        return losses, mask_iou(best_mask(full).detach(), targets).mean()

    @torch.no_grad()
    def predict(
        self, inputs: Tensor, data_samples: Sequence[BaseDataElement]
    ) -> list[BaseDataElement]:
        """Prompts each person in the ways of `eval_counts`.

        Returns:
            The samples with `predictions` as of `predict_image`.
        """
        embedding = self.embed(inputs, data_samples)
        for index, sample in enumerate(data_samples):
            sample.predictions = predict_image(
                self.sam, embedding, index, sample,
                self.eval_prompts, self.clicks, self.mask_prompt_from_keypoints,
            )  # fmt: skip
        return list(data_samples)

    def _people(self, data_samples: Sequence[BaseDataElement]) -> tuple[People, Tensor]:
        """Everybody of a batch, and the photo that each is in, long (N,)."""
        groups = [sample.gt_instances for sample in data_samples]
        people = self.gather(groups)
        side, device = people.masks.shape[-1], people.masks.device
        if side != self.image_size:
            raise ValueError(
                f'masks have {side} px, the model takes {self.image_size}: set '
                'image_size of PackPromptedPoses to that of the model'
            )
        counts = torch.tensor([len(group) for group in groups], device=device)
        photos = torch.arange(len(groups), device=device)
        return people, photos.repeat_interleave(counts)

    def gather(self, groups: Sequence[Any]) -> People:
        """Everybody of a batch, from the `gt_instances` of its images."""
        return People(
            torch.cat([group.masks for group in groups]),
            torch.cat([group.keypoints for group in groups]),
            torch.cat([group.visibility for group in groups]),
            [int(seed) for group in groups for seed in group.seeds],
        )

    def _drawn(self, points: Tensor, labels: Tensor) -> Tensor:
        return prompt_prior(points, labels, self.image_size)

    def to_square(self, logits: Tensor, stride: int = 1) -> Tensor:
        """Mask logits at 1 / stride of the size of the square, float32 (N, M, s, s)."""
        side = self.image_size // stride
        size = (side, side)
        return F.interpolate(logits.float(), size, mode='bilinear', align_corners=False)

    @staticmethod
    def _mean_count(count: int, device: torch.device) -> float:
        """Mean number of people per process."""
        total = torch.tensor(float(count), device=device)
        all_reduce(total)
        mean: float = total.item() / get_world_size()
        return max(1.0, mean)


def best_mask(outputs: Outputs) -> Tensor:
    """The mask (N, 1, h, w) of the highest predicted IoU."""
    logits, iou, _ = outputs
    rows = torch.arange(len(logits), device=logits.device)
    return logits[rows, iou.argmax(1)][:, None]


def read_settings(kind: Any, values: Mapping[str, Any] | None, name: str) -> Any:
    """A dataclass of settings from a config.

    Raises:
        ValueError: unknown settings, or values that the dataclass refuses.
    """
    known = set(kind.__dataclass_fields__)
    unknown = sorted(set(values or {}) - known)
    if unknown:
        raise ValueError(f'{name} has no {", ".join(unknown)}; known: {", ".join(sorted(known))}')
    return kind(**(values or {}))
