"""Mean IoU of a promptable segmenter on whole photos, prompted by ground truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from pipeline.segmenters.sam2_forward import POINT_POSITIVE, decode_prompts, embed_images
from pipeline.segmenters.sam2_preprocess import (
    boxes_to_square,
    logits_to_image,
    points_to_square,
    preprocess_images,
)
from pipeline.segmenters.sam2_prior import prompt_prior
from pipeline.training.sam_data import FloatArray, Person, read_mask, read_photo

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

PROMPT_KINDS = ('1 keypoint', '3 keypoints', 'box')


def spread_keypoints(keypoints: FloatArray, count: int) -> FloatArray:
    """Up to `count` labelled keypoints, (P, 2): the most central first, then the farthest from it.

    Visible ones (v = 2) are preferred to hidden ones (v = 1), and of nose and eyes one is kept.
    """
    best = keypoints[:, 2] == max(keypoints[:, 2].max(), 1)
    face = np.flatnonzero(best[:3])
    best[face[1:]] = False
    points = keypoints[best, :2]
    chosen: list[int] = []
    while len(chosen) < min(count, len(points)):
        if not chosen:
            distance = -np.linalg.norm(points - points.mean(axis=0), axis=1)
        else:
            distance = np.linalg.norm(points[:, None] - points[chosen], axis=2).min(axis=1)
        chosen.append(int(distance.argmax()))
    return points[chosen].astype(np.float32)


@torch.no_grad()
def evaluate_prompts(
    model: SAM2Base, photos: list[list[Person]], draw_prompts: bool
) -> dict[str, float]:
    """Mean IoU in [0, 1] per kind of `PROMPT_KINDS`, at photo resolution.

    Args:
        model: The segmenter; left in evaluation mode.
        photos: People grouped by photo; those without keypoints count for 'box' alone.
        draw_prompts: Give each prompt as a drawn mask too (`prompt_prior`).

    Returns:
        One mean per kind of prompt; NaN where nobody can be prompted so.
    """
    model.eval()
    size = int(model.image_size)
    scores: dict[str, list[float]] = {kind: [] for kind in PROMPT_KINDS}
    for group in photos:
        photo = read_photo(group[0].photo)
        hw = (photo.shape[0], photo.shape[1])
        embedding = embed_images(model, preprocess_images([photo], size, str(model.device)))
        for person in group:
            target = torch.from_numpy(read_mask(person) > 0).to(model.device)
            for kind in PROMPT_KINDS:
                count = 0 if kind == 'box' else int(kind[0])
                points = torch.from_numpy(spread_keypoints(person.keypoints, count))
                if kind != 'box' and not len(points):
                    continue
                coords = points_to_square(points[None], hw, size).to(model.device)
                labels = torch.full((1, len(points)), POINT_POSITIVE, device=model.device)
                box = None
                if kind == 'box':
                    box = boxes_to_square(torch.from_numpy(person.box)[None], hw, size)
                    box = box.to(model.device)
                prior = prompt_prior(coords, labels, size, box) if draw_prompts else None
                logits, _, _ = decode_prompts(
                    model,
                    embedding,
                    image_index=0,
                    point_coords=coords,
                    point_labels=labels,
                    boxes=box,
                    mask_inputs=prior,
                )
                mask = logits_to_image(logits, hw)[0, 0] > 0
                union = (mask | target).sum().clamp(min=1)
                scores[kind].append(float((mask & target).sum() / union))
    return {kind: float(np.mean(values or [np.nan])) for kind, values in scores.items()}
