"""Masks of a `PromptedSam` for ground-truth prompts, predicted as in the pipeline.

Legend: n people of an image, k keypoints of a prompt, S side of the model's square in px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from pycocotools import mask as coco_mask
from torch import Tensor

from pipeline.boxes import xywh_to_xyxy
from pipeline.segmenters.prompts import select_keypoints
from pipeline.segmenters.sam2_forward import POINT_POSITIVE, ImageEmbedding, decode_prompts
from pipeline.segmenters.sam2_mask_prompt import draw_mask_prompt
from pipeline.segmenters.sam2_preprocess import boxes_to_square, logits_to_image

from .clicks import PoseMaskRefine

BOX = 'box'
_BATCH = 32


@dataclass(frozen=True)
class EvalPrompt:
    """A kind of prompt for evaluation."""

    count: int | None  # number of keypoints; None: all usable ones
    with_box: bool = False  # also prompt with the box of the ground-truth mask

    @property
    def name(self) -> str:
        """'3', 'all', 'box' or 'box+3'."""
        count = 'all' if self.count is None else str(self.count)
        if not self.with_box:
            return count
        return BOX if self.count == 0 else f'{BOX}+{count}'

    def num_keypoints(self, usable: int) -> int:
        """Return the number of prompt keypoints for a person with `usable` keypoints."""
        return usable if self.count is None else min(self.count, usable)


def parse_eval_prompts(values: Sequence[int | str | None]) -> tuple[EvalPrompt, ...]:
    """Parse prompts of a config: 3, None (all keypoints), 'box', 'box+3'.

    Raises:
        ValueError: The list is empty, or a value has another form.
    """
    prompts = []
    for value in values:
        if value is None or (isinstance(value, int) and value > 0):
            prompts.append(EvalPrompt(value))
            continue
        head, _, count = str(value).partition('+')
        if head != BOX or not (count.isdecimal() or value == BOX):
            raise ValueError(
                "eval_counts must be numbers from 1 on, None (all), 'box' or 'box+3', "
                f'got {value!r}'
            )
        prompts.append(EvalPrompt(int(count or 0), with_box=True))
    if not prompts:
        raise ValueError('eval_counts must not be empty')
    return tuple(prompts)


def predict_image(
    sam: Any,
    embedding: ImageEmbedding,
    index: int,
    sample: BaseDataElement,
    prompts: Sequence[EvalPrompt],
    clicks: PoseMaskRefine,
    draw: bool,
) -> dict[str, list[dict[str, Any]]]:
    """Predict masks of all people of an image with all prompts.

    Order of keypoints and decoder passes are those of the pipeline (`select_keypoints`,
    `decode_prompts`). People without a usable keypoint get no prediction; people with fewer than k
    keypoints are prompted with all.

    Args:
        sam: SAM 2 model.
        embedding: Embedding of the batch.
        index: Index of the image in the batch.
        sample: Sample of `PackPromptedPoses`.
        prompts: Kinds of prompts.
        clicks: `method` and `visibility_threshold` of the keypoints.
        draw: Also draw the points as mask prompt.

    Returns:
        Name of a prompt -> one dict per person with `ann_id`, `score` (predicted IoU) and `rle`
        (mask of the image's size).
    """
    people = sample.gt_instances
    orders = _orders(people, clicks)
    boxes = _boxes(sample, int(sam.image_size)).to(people.keypoints.device)
    found: dict[tuple[int, bool, int], dict[str, Any]] = {}
    jobs = {
        (prompt.num_keypoints(len(order)), prompt.with_box, row)
        for prompt in prompts
        for row, order in enumerate(orders)
        if len(order)
    }
    for number, with_box in sorted({(job[0], job[1]) for job in jobs}):
        rows = sorted(job[2] for job in jobs if job[:2] == (number, with_box))
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            coords = torch.stack([people.keypoints[row][orders[row][:number]] for row in batch])
            chosen = boxes[batch] if with_box else None
            logits, scores = _decode(sam, embedding, index, coords, chosen, draw)
            full = logits_to_image(logits, sample.ori_shape)[:, 0] > 0
            for row, mask, score in zip(batch, full.cpu().numpy(), scores, strict=True):
                rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
                found[number, with_box, row] = {'score': float(score), 'rle': rle}
    return {
        prompt.name: [
            {
                'ann_id': people.ann_ids[row],
                **found[prompt.num_keypoints(len(order)), prompt.with_box, row],
            }
            for row, order in enumerate(orders)
            if len(order)
        ]
        for prompt in prompts
    }


def _decode(
    sam: Any,
    embedding: ImageEmbedding,
    index: int,
    coords: Tensor,
    boxes: Tensor | None,
    draw: bool,
) -> tuple[Tensor, Tensor]:
    """Predict low-resolution logits (n, 1, h, w) and IoU (n,) for positive points."""
    labels = torch.full(coords.shape[:2], POINT_POSITIVE, device=coords.device)
    mask_prompt = draw_mask_prompt(coords, labels, int(sam.image_size), boxes) if draw else None
    logits, iou, _ = decode_prompts(
        sam,
        embedding,
        image_index=index,
        point_coords=coords,
        point_labels=labels,
        boxes=boxes,
        mask_inputs=mask_prompt,
    )
    return logits.float(), iou[:, 0]


def _orders(people: Any, clicks: PoseMaskRefine) -> list[Any]:
    """Return the usable keypoints of each person, best prompt first."""
    rows = zip(people.keypoints.cpu().numpy(), people.visibility.cpu().numpy(), strict=True)
    return [
        select_keypoints(
            points, visible, visible,
            method=clicks.method, visibility_threshold=clicks.visibility_threshold,
        )
        for points, visible in rows
    ]  # fmt: skip


def _boxes(sample: BaseDataElement, size: int) -> Tensor:
    """Return the boxes of the ground-truth masks, (n, 4) xyxy px of the square."""
    boxes = torch.from_numpy(xywh_to_xyxy([coco_mask.toBbox(rle) for rle in sample.rles]))
    return boxes_to_square(boxes, sample.ori_shape, size)
