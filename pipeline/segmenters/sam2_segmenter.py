"""Segmentation stage: SAM 2.1 prompted by poses."""

from __future__ import annotations

from copy import copy
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..logit_crops import logit_crop
from ..masks import LogitMasks
from ..runtime.batches import AdaptiveBatcher
from ..runtime.options import ON_CPU, RuntimeOptions
from ..runtime.precision import optimize_modules
from ..structures import Image, Ints, MaskSource, Poses, Segments, size_of
from .build_sam2 import at_image_size, build_sam2_model
from .cleanup import clean_logits
from .crop_segmentation import (
    CropSegmentationConfig,
    boxes_of_places,
    first_windows,
    windows_around,
)
from .lean_encoder import lean_encoder
from .prompts import PromptConfig, Prompts, make_prompts
from .sam2_forward import ImageEmbedding, decode_prompts, embed_images
from .sam2_mask_prompt import draw_mask_prompt
from .sam2_preprocess import boxes_of, boxes_to_square, points_to_square, preprocess_images

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

_DECODER = 'sam_mask_decoder'
PARTS = ('image_encoder', _DECODER, f'{_DECODER}.conv_s0', f'{_DECODER}.conv_s1')


@dataclass(eq=False)
class Sam2Segmenter:
    """Turns poses into masks with a stock SAM 2 model."""

    model: SAM2Base  # in evaluation mode, on its device
    prompt: PromptConfig
    _: KW_ONLY
    batch_size: int = 16  # people per decoder call
    channel_order: Literal['rgb', 'bgr'] = 'rgb'  # 'bgr' as the reference does (its B2)
    min_component_area: int = 0  # px; smaller connected components of a mask are removed
    min_component_fraction: float = 0.0  # components below this fraction of the mask, too
    max_hole_area: int = 0  # px; smaller holes are filled
    # Also draw the point prompts as SAM's mask prompt, for models trained that way.
    mask_prompt_from_keypoints: bool = False
    # Without a box prompt, SAM runs a second time with the bounding box of the first mask, and the
    # two logit maps are averaged.
    prompt_with_mask_box: bool = False
    # Crop each person and embed the crops one by one: around the box or, without a box prompt,
    # around the points and then around the first mask.
    crops: CropSegmentationConfig | None = None
    crop_model: SAM2Base | None = None  # the model at the image size of the crops

    def __post_init__(self) -> None:
        self.batcher = AdaptiveBatcher(self.batch_size, 'segmenter.batch_size')
        self.crop_segmenter: Sam2Segmenter | None = None
        if self.crops is not None:
            crop_model = self.crop_model or at_image_size(self.model, self.crops.image_size)
            self.crop_segmenter = copy(self)
            self.crop_segmenter.model = crop_model

    def predict_masks(
        self,
        embedding: ImageEmbedding,
        points: Tensor,
        labels: Tensor,
        boxes: Tensor | None,
        image_index: int | Tensor = 0,
    ) -> tuple[Tensor, Tensor]:
        """Predict the masks of n people, with prompts in pixels of the square input.

        Args:
            embedding: Embedding of the image, or of one crop per person.
            points: float (n, P, 2).
            labels: int (n, P).
            boxes: xyxy, float (n, 4), or None.
            image_index: Row of `embedding` for all people, or one row per person, long (n,).

        Returns:
            Low-resolution logits (n, h, w) and predicted IoU (n,).
        """
        side = int(self.model.image_size)
        logits, quality, _ = decode_prompts(
            self.model,
            embedding,
            image_index=image_index,
            point_coords=points,
            point_labels=labels,
            boxes=boxes,
            mask_inputs=self._mask_prompt(points, labels, boxes),
        )
        low_res = logits[:, 0].float()
        if not self.prompt_with_mask_box or boxes is not None:
            return low_res, quality[:, 0]
        found = (low_res > 0).flatten(1).any(1)
        if found.any():
            mask_boxes = boxes_of(low_res[found] > 0) * (side / low_res.shape[-1])
            index = image_index if isinstance(image_index, int) else image_index[found]
            second, second_quality = self.predict_masks(
                embedding, points[found], labels[found], mask_boxes, index
            )
            low_res[found] = (low_res[found] + second) / 2
            quality[found, 0] = (quality[found, 0] + second_quality) / 2
        return low_res, quality[:, 0]

    def _mask_prompt(self, points: Tensor, labels: Tensor, boxes: Tensor | None) -> Tensor | None:
        if not self.mask_prompt_from_keypoints:
            return None
        return draw_mask_prompt(points, labels, int(self.model.image_size), boxes)

    def clean(self, logits: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
        """Remove small components and holes of a soft mask (h, w)."""
        return clean_logits(
            logits, self.min_component_area, self.max_hole_area, self.min_component_fraction
        )

    def __call__(self, image: Image) -> ImageSegmenter:
        """Return a segmenter of an RGB uint8 image (H, W, 3); it embeds the image on first use."""
        return ImageSegmenter(self, image)


class ImageSegmenter:
    """Segments people of one image."""

    def __init__(self, segmenter: Sam2Segmenter, image: Image) -> None:
        self.segmenter = segmenter
        self.image = image
        self.shape = size_of(image)

    @cached_property
    def embedding(self) -> ImageEmbedding:
        """Features of the image, computed on first use."""
        model = self.segmenter.model
        pixels = preprocess_images([self.pixels], int(model.image_size), model.device)
        return embed_images(model, pixels)

    @property
    def pixels(self) -> Image:
        """The image (H, W, 3) in the channel order of the model input."""
        is_bgr = self.segmenter.channel_order == 'bgr'
        return np.ascontiguousarray(self.image[..., ::-1]) if is_bgr else self.image

    def with_prompt(self, prompt: PromptConfig) -> ImageSegmenter:
        """Copy with another prompt config and the same embedding."""
        other = copy(self)
        other.segmenter = copy(self.segmenter)
        other.segmenter.prompt = prompt
        if self.segmenter.crops is None:
            other.embedding = self.embedding
        return other

    def __call__(self, poses: Poses, others: Poses) -> Segments:
        """Segment every pose; without a usable prompt, the mask is empty and its score 0."""
        prompts = make_prompts(poses, others, self.segmenter.prompt)
        height, width = self.shape
        places: list[Any] = [(0, 0, np.zeros((0, 0), np.float16))] * len(poses)
        scores = np.zeros(len(poses), np.float32)
        with torch.inference_mode():
            for group in _group_by_kind(prompts):
                parts = self.segmenter.batcher.run(group, lambda rows: self._decode(prompts, rows))
                for rows, (logits, quality, windows) in parts:
                    scores[rows] = quality.float().cpu().numpy()
                    for row, low_res, window in zip(rows.tolist(), logits, windows, strict=True):
                        places[row] = self._crop(low_res, window)
        masks = LogitMasks.from_crops(height, width, places)
        sources = np.full(len(poses), MaskSource.SAM, np.int32)
        return Segments(masks, scores, sources, prompts.keypoints)

    def _decode(self, prompts: Prompts, rows: Any) -> tuple[Tensor, Tensor, Ints]:
        """Predict soft masks of people with the same kind of prompt.

        Returns:
            Low-resolution logits (n, h, w), predicted IoU (n,), and the windows (n, 4) that the
            logits cover, xyxy image px.
        """
        device = self.segmenter.model.device
        count = int(prompts.num_points[rows[0]])
        points = torch.from_numpy(prompts.points[rows, :count]).to(device)
        labels = torch.from_numpy(prompts.labels[rows, :count]).to(device)
        boxes = torch.from_numpy(prompts.boxes[rows]).to(device)
        box_prompts = boxes if prompts.has_box[rows[0]] else None
        crops, crop_segmenter = self.segmenter.crops, self.segmenter.crop_segmenter
        if crops is None or crop_segmenter is None:
            whole = np.array([[0, 0, *self.shape[::-1]]], np.int32)
            return *self._from_image(points, labels, box_prompts), whole.repeat(len(rows), 0)
        around, clicks = prompts.boxes[rows], prompts.points[rows, :count]
        if box_prompts is None:
            windows = first_windows(clicks, self.shape, crops)
            masks, _ = self._from_windows(crop_segmenter, windows, points, labels, None)
            places = [self._crop(*mask) for mask in zip(masks, windows, strict=True)]
            around = boxes_of_places(places, windows)
        windows = windows_around(around, clicks, self.shape, crops.margin)
        return *self._from_windows(crop_segmenter, windows, points, labels, box_prompts), windows

    def _from_windows(
        self,
        crop_segmenter: Sam2Segmenter,
        windows: Ints,
        points: Tensor,
        labels: Tensor,
        boxes: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Run `predict_masks` on one window per person, with prompts in image px."""
        side = int(crop_segmenter.model.image_size)
        pixels = self.pixels
        images = [pixels[y1:y2, x1:x2] for x1, y1, x2, y2 in windows.tolist()]
        embedding = embed_images(
            crop_segmenter.model, preprocess_images(images, side, crop_segmenter.model.device)
        )
        corner = torch.from_numpy(windows[:, None, :2]).to(points)
        scale = side / torch.from_numpy(windows[:, None, 2:] - windows[:, None, :2]).to(points)
        points = (points - corner) * scale
        if boxes is not None:
            boxes = ((boxes.reshape(-1, 2, 2) - corner) * scale).reshape(-1, 4)
        index = torch.arange(len(windows), device=points.device)
        return crop_segmenter.predict_masks(embedding, points, labels, boxes, index)

    def _from_image(
        self, points: Tensor, labels: Tensor, boxes: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Run `predict_masks` on the image, with prompts in image px."""
        side = int(self.segmenter.model.image_size)
        points = points_to_square(points, self.shape, side)
        boxes = None if boxes is None else boxes_to_square(boxes, self.shape, side)
        return self.segmenter.predict_masks(self.embedding, points, labels, boxes)

    def _crop(self, low_res: Tensor, window: Ints) -> tuple[int, int, Any]:
        left, top, right, bottom = window.tolist()
        x, y, crop = logit_crop(low_res, (bottom - top, right - left))
        logits = crop.to(torch.float16).cpu().numpy()
        return left + x, top + y, self.segmenter.clean(logits)


def _group_by_kind(prompts: Prompts) -> list[npt.NDArray[Any]]:
    """Group the rows by kind of prompt; rows without a prompt are omitted.

    Only prompts of equal length share a batch, because in SAM both a repeated point and an extra
    padding token change the logits.
    """
    kinds = prompts.num_points * 2 + prompts.has_box
    return [np.flatnonzero(kinds == kind) for kind in np.unique(kinds[kinds > 0])]


def build_sam2_segmenter(
    config: str,
    checkpoint: Path | None,
    prompt: PromptConfig,
    runtime: RuntimeOptions = ON_CPU,
    *,
    ignorable: tuple[str, ...] = (),
    lean: bool = True,
    crops: CropSegmentationConfig | None = None,
    **options: Any,
) -> Sam2Segmenter:
    """Build a segmenter from a config (file, or name in the ``sam2`` package) and weights.

    ``lean`` applies `lean_encoder` to the image encoder.
    """
    model = build_sam2_model(config, checkpoint, runtime.device, ignorable=ignorable)
    if lean:
        # `torch.compile` would split a grouped encoder into many graphs.
        lean_encoder(model, grouped=runtime.compile is None and runtime.on_cpu)
    crop_model = None if crops is None else at_image_size(model, crops.image_size)
    for part in (model, crop_model):
        if part is not None:
            optimize_modules(part, PARTS, runtime)
    return Sam2Segmenter(model, prompt, crop_model=crop_model, crops=crops, **options)
