"""A stock SAM 2 as an MMEngine model: trained on simulated clicks, evaluated on keypoints.

Legend: B images, N people of all images of a batch, S side of the model's square in px, M masks per
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
from pipeline.segmenters.sam2_mask_prompt import draw_mask_prompt
from pipeline.segmenters.sam2_preprocess import square_image
from pipeline.weights.checkpoints import find_weights

from .clicks import ClickSimulator, ClickTargets, PoseMaskRefine
from .losses import LossWeights, mask_iou, prompt_losses
from .prediction import parse_eval_prompts, predict_image

Outputs = tuple[Tensor, Tensor, Tensor]


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PromptedSamPreprocessor(BaseDataPreprocessor):  # type: ignore[misc,unused-ignore]
    """Moves a batch to the device and preprocesses its images as at inference.

    Args:
        image_size: S.
    """

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Return `inputs`, float (B, 3, S, S), normalized, and the `data_samples`."""
        moved = self.cast_data(data)
        images = [square_image(pixels, self.image_size) for pixels in moved['inputs']]
        return {'inputs': torch.stack(images), 'data_samples': moved['data_samples']}


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PromptedSam(BaseModel):  # type: ignore[misc,unused-ignore]
    """SAM 2 for training on poses. Its memory modules are never run or trained.

    Args:
        config: Architecture: a YAML file or a config name of the `sam2` package.
        checkpoint: Initial weights, a name in the manifest or a file; None: random.
        image_size: S; None: that of the config.
        clicks: Settings of `PoseMaskRefine`.
        losses: Settings of `LossWeights`.
        freeze_image_encoder: Freeze the image encoder and keep it in evaluation mode.
        train_prompt_encoder: False freezes the prompt encoder.
        train_mask_decoder: False freezes the mask decoder.
        multimask_max_points: Prompts with at most this many points predict three masks, of which
            the best is trained (SAM 2: 1); 0 always predicts one mask, as at inference.
        detach_logits: Stop gradients through the masks that are fed back (SAM 2: False).
        mask_prompt_from_keypoints: Draw all clicks as mask prompt (`draw_mask_prompt`), as at
            inference, instead of feeding the previous mask back.
        eval_counts: Prompts of `predict`: numbers of keypoints, None (all usable ones), 'box', or
            both, such as 'box+3'.

    Raises:
        ValueError: Settings are unknown, out of range or contradictory.
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
        self.eval_prompts = parse_eval_prompts(eval_counts)
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
        """Set the mode of the trained parts; frozen parts stay in evaluation mode."""
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
        """Run the model on a preprocessed batch.

        Args:
            inputs: Images, float (B, 3, S, S), normalized.
            data_samples: Samples of `PackPromptedPoses`.
            mode: 'loss': dict of losses and logged values. 'predict': the samples with
                `predictions`, see `predict`. 'tensor': outputs of all decoder passes, in the format
                of `decode_prompts`.
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
        """Embed the images."""
        return embed_images(self.sam, inputs)

    def first_prompts(self, people: ClickTargets) -> tuple[ClickSimulator, Tensor, Tensor]:
        """Return a click simulator with its first points (N, P, 2) and labels (N, P)."""
        simulator = ClickSimulator(people, self.clicks)
        return simulator, *simulator.first()

    def num_corrections(self) -> int:
        """Return the number of corrections of the next step."""
        return int(self.clicks.num_corrections)

    def roll_out(
        self, embedding: ImageEmbedding, people: ClickTargets, image_index: Tensor
    ) -> Iterator[Outputs]:
        """Decode the first prompts and the corrections in sequence.

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
                mask_inputs=draw_mask_prompt(points, labels, self.image_size)
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
        """Compute the losses of a batch, summed over all decoder passes as in SAM 2.

        Sums over people are divided by the mean number of people per process, so several processes
        take the same step as one process with all images.
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
        scale = len(people) / self._mean_count(len(people), inputs.device)
        dropped = sum(sample.num_dropped for sample in data_samples)
        return {
            **{name: part * scale for name, part in total.items()},
            'iou_first': overlaps[0],
            'iou_last': overlaps[-1],
            'people': inputs.new_tensor(float(len(people))),
            'dropped': inputs.new_tensor(float(dropped)),
        }

    def image_losses(
        self, embedding: ImageEmbedding, data_samples: Sequence[BaseDataElement]
    ) -> dict[str, Tensor]:
        """Return losses that do not depend on prompts; none by default."""
        return {}

    def pass_losses(
        self, outputs: Outputs, people: ClickTargets
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Compute the losses of one decoder pass and the mean IoU of its masks."""
        logits, iou, score = outputs
        full = (self.to_square(logits), iou.float(), score.float())
        targets = people.masks.float()[:, None]
        losses = prompt_losses(full, targets, self.weights)
        return losses, mask_iou(best_mask(full).detach(), targets).mean()

    @torch.no_grad()
    def predict(
        self, inputs: Tensor, data_samples: Sequence[BaseDataElement]
    ) -> list[BaseDataElement]:
        """Prompt each person with every prompt of `eval_counts`.

        Returns:
            The samples with `predictions`, see `predict_image`.
        """
        embedding = self.embed(inputs, data_samples)
        for index, sample in enumerate(data_samples):
            sample.predictions = predict_image(
                self.sam, embedding, index, sample,
                self.eval_prompts, self.clicks, self.mask_prompt_from_keypoints,
            )  # fmt: skip
        return list(data_samples)

    def _people(self, data_samples: Sequence[BaseDataElement]) -> tuple[ClickTargets, Tensor]:
        """Return all people of a batch, and the image index of each, long (N,)."""
        groups = [sample.gt_instances for sample in data_samples]
        people = self.gather(groups)
        side, device = people.masks.shape[-1], people.masks.device
        if side != self.image_size:
            raise ValueError(
                f'masks have {side} px, the model takes {self.image_size}: set '
                'image_size of PackPromptedPoses to that of the model'
            )
        counts = torch.tensor([len(group) for group in groups], device=device)
        images = torch.arange(len(groups), device=device)
        return people, images.repeat_interleave(counts)

    def gather(self, groups: Sequence[Any]) -> ClickTargets:
        """Concatenate the people of a batch from the `gt_instances` of its images."""
        return ClickTargets(
            torch.cat([group.masks for group in groups]),
            torch.cat([group.keypoints for group in groups]),
            torch.cat([group.visibility for group in groups]),
            [int(seed) for group in groups for seed in group.seeds],
        )

    def to_square(self, logits: Tensor, stride: int = 1) -> Tensor:
        """Resize mask logits to 1 / stride of the square, float32 (N, M, s, s)."""
        side = self.image_size // stride
        size = (side, side)
        return F.interpolate(logits.float(), size, mode='bilinear', align_corners=False)

    @staticmethod
    def _mean_count(count: int, device: torch.device) -> float:
        """Return the mean number of people per process."""
        total = torch.tensor(float(count), device=device)
        all_reduce(total)
        mean: float = total.item() / get_world_size()
        return max(1.0, mean)


def best_mask(outputs: Outputs) -> Tensor:
    """Select the mask (N, 1, h, w) with the highest predicted IoU."""
    logits, iou, _ = outputs
    rows = torch.arange(len(logits), device=logits.device)
    return logits[rows, iou.argmax(1)][:, None]


def read_settings(kind: Any, values: Mapping[str, Any] | None, name: str) -> Any:
    """Create a settings dataclass from a config.

    Raises:
        ValueError: A setting is unknown, or the dataclass rejects its value.
    """
    known = set(kind.__dataclass_fields__)
    unknown = sorted(set(values or {}) - known)
    if unknown:
        raise ValueError(f'{name} has no {", ".join(unknown)}; known: {", ".join(sorted(known))}')
    return kind(**(values or {}))
