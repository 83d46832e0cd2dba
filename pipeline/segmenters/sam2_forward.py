"""The two passes of a stock SAM 2 image model: embed images once, decode prompts many times.

The stock `SAM2ImagePredictor` hard-codes the feature sizes of a 1024 px input and disables
gradients. These two functions compute the same numbers at any `model.image_size`, for training and
inference.

Legend: B images, S `model.image_size`, C `model.hidden_dim`, N prompted objects (one mask each),
P points per object, M masks per object (3 with `multimask_output`, else 1), low-res side S / 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

POINT_NEGATIVE, POINT_POSITIVE, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT = 0, 1, 2, 3
POINT_PADDING = -1
MASK_PROMPT_LIMIT = 32.0
"""Logits fed back as `mask_inputs` are clamped to +- this value, as in the stock predictor."""


@dataclass(frozen=True)
class ImageEmbedding:
    """Features from the image encoder for the mask decoder."""

    image_embed: Tensor  # features at stride 16, (B, C, S / 16, S / 16), `no_mem_embed` added
    # Features at strides 4 and 8, (B, C / 8, S / 4, S / 4) and (B, C / 4, S / 8, S / 8); empty for
    # a model without high-resolution features.
    high_res_feats: tuple[Tensor, ...]


def embed_images(model: SAM2Base, images: Tensor) -> ImageEmbedding:
    """Run the image encoder.

    Args:
        model: A stock SAM 2 model.
        images: Normalised RGB images resized to the square, float (B, 3, S, S).

    Raises:
        ValueError: `images` has another shape.
    """
    side = int(model.image_size)
    if images.ndim != 4 or tuple(images.shape[1:]) != (3, side, side):
        raise ValueError(
            f'images has shape {tuple(images.shape)}, but this model takes (B, 3, {side}, {side}); '
            'resize with pipeline.segmenters.sam2_preprocess.preprocess_images'
        )
    _, features, _, sizes = model._prepare_backbone_features(model.forward_image(images))
    if model.directly_add_no_mem_embed:
        features[-1] = features[-1] + model.no_mem_embed
    maps = [
        feature.permute(1, 2, 0).reshape(images.shape[0], -1, *size)
        for feature, size in zip(features, sizes, strict=True)
    ]
    return ImageEmbedding(maps[-1], tuple(maps[:-1]))


def decode_prompts(
    model: SAM2Base,
    embedding: ImageEmbedding,
    *,
    image_index: int | Tensor,
    point_coords: Tensor,
    point_labels: Tensor,
    boxes: Tensor | None = None,
    mask_inputs: Tensor | None = None,
    multimask_output: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Predict the masks of N prompted objects.

    In evaluation mode, with `multimask_output=False` and a model built with dynamic multi-mask, an
    unstable single mask is replaced by the best of the three others, as in the stock predictor.

    Args:
        model: The model that computed `embedding`.
        embedding: Result of `embed_images`.
        image_index: Image of all objects, or one index per object, long (N,).
        point_coords: (x, y) in pixels of the S x S square, float (N, P, 2); P may be 0.
        point_labels: `POINT_POSITIVE`, `POINT_NEGATIVE` or `POINT_PADDING`, int (N, P). Use
            padding for objects with fewer points. Box corners among the points have the labels
            `BOX_TOP_LEFT` and `BOX_BOTTOM_RIGHT`.
        boxes: xyxy in pixels of the S x S square, float (N, 4).
        mask_inputs: Logits of an earlier pass, clamped to +- `MASK_PROMPT_LIMIT`,
            float (N, 1, S / 4, S / 4).
        multimask_output: Return three masks for an ambiguous prompt instead of one.

    Returns:
        Mask logits (N, M, S / 4, S / 4), not clamped; predicted IoU (N, M); object score logits
        (N, 1), above 0 if there is an object.

    Raises:
        ValueError: Shapes disagree, or there is no prompt.
    """
    num_objects = point_coords.shape[0]
    _check_prompts(model, point_coords, point_labels, boxes, mask_inputs)
    if num_objects == 0:
        side = embedding.image_embed.shape[-1] * 4
        num_masks = 3 if multimask_output else 1
        empty = embedding.image_embed.new_zeros
        return empty((0, num_masks, side, side)), empty((0, num_masks)), empty((0, 1))

    points = with_corners(point_coords, point_labels, boxes)
    sparse, dense = model.sam_prompt_encoder(
        points=points if points[0].shape[1] else None, boxes=None, masks=mask_inputs
    )
    rows = slice(image_index, image_index + 1) if isinstance(image_index, int) else image_index
    logits, iou, _, object_score = model.sam_mask_decoder(
        image_embeddings=embedding.image_embed[rows],
        image_pe=model.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask_output,
        repeat_image=isinstance(image_index, int) and num_objects > 1,
        high_res_features=[level[rows] for level in embedding.high_res_feats] or None,
    )
    return logits, iou, object_score


def with_corners(coords: Tensor, labels: Tensor, boxes: Tensor | None) -> tuple[Tensor, Tensor]:
    """Prepend the corners of boxes (N, 4) to points (N, P, 2) with labels (N, P), as SAM does."""
    if boxes is None:
        return coords, labels
    corner_labels = torch.tensor(
        [[BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]], dtype=labels.dtype, device=labels.device
    )
    return (
        torch.cat([boxes.reshape(-1, 2, 2), coords], dim=1),
        torch.cat([corner_labels.expand(len(boxes), 2), labels], dim=1),
    )


def _check_prompts(
    model: SAM2Base,
    coords: Tensor,
    labels: Tensor,
    boxes: Tensor | None,
    mask_inputs: Tensor | None,
) -> None:
    """Raise ValueError if shapes disagree or there is no prompt."""
    num_objects = coords.shape[0]
    if coords.ndim != 3 or coords.shape[2] != 2 or labels.shape != coords.shape[:2]:
        raise ValueError(
            'expected point_coords (N, P, 2) and point_labels (N, P), got '
            f'{tuple(coords.shape)} and {tuple(labels.shape)}'
        )
    if boxes is not None and tuple(boxes.shape) != (num_objects, 4):
        raise ValueError(f'expected boxes ({num_objects}, 4), got {tuple(boxes.shape)}')
    if mask_inputs is not None:
        expected = (num_objects, 1, *model.sam_prompt_encoder.mask_input_size)
        if tuple(mask_inputs.shape) != expected:
            raise ValueError(f'expected mask_inputs {expected}, got {tuple(mask_inputs.shape)}')
    if num_objects and not coords.shape[1] and boxes is None and mask_inputs is None:
        raise ValueError('no prompt: give at least one point, a box or a mask per object')
