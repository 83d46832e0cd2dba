"""Simulated prompts for one training step: first points or box, then correction clicks.

Legend: n people of a canvas, N prompted objects of a batch, P points per object, S canvas side px,
h = w = S / 4 the side of the decoder's masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.segmenters.sam2_forward import POINT_NEGATIVE, POINT_PADDING, POINT_POSITIVE
from pipeline.training.sam_data import Canvas

MAX_POSITIVE, MAX_NEGATIVE = 6, 2


@dataclass(frozen=True)
class PromptConfig:
    """Shares in [0, 1].

    Attributes:
        box_only_prob: Objects prompted by a box alone.
        box_prob: Objects prompted by a box and points.
        keypoint_prob: Objects whose points are keypoints, where they have any; else mask pixels.
        negative_prob: Objects with one or two points on other people as negatives.
        absent_prob: On canvases with a person-free rest, objects that are not there.
        jitter: Standard deviation of points and box sides, as a share of the person's box side.
    """

    box_only_prob: float = 0.2
    box_prob: float = 0.15
    keypoint_prob: float = 0.75
    negative_prob: float = 0.25
    absent_prob: float = 0.1
    jitter: float = 0.015


@dataclass(frozen=True)
class Prompts:
    """First prompts of the objects of one batch.

    Attributes:
        points: (N, P, 2) canvas px, box corners first; P is the same for all objects.
        labels: (N, P) as `decode_prompts` takes them, box corners 2 and 3.
        targets: Visible mask, float (N, 1, S, S).
        present: 1 where the object exists, float (N, 1).
    """

    points: Tensor
    labels: Tensor
    targets: Tensor
    present: Tensor


def sample_prompts(
    rng: np.random.Generator, canvas: Canvas, count: int, config: PromptConfig
) -> Prompts:
    """Draws `count` prompts for people of one canvas, the same person again if it has fewer."""
    people = len(canvas.masks)
    rows = rng.choice(people, count, replace=people < count)
    drawn = [_prompt_person(rng, canvas, int(row), config) for row in rows]
    targets = canvas.masks[rows].astype(np.float32)
    present = np.ones((count, 1), np.float32)
    for index in range(count):
        if canvas.person_free and rng.random() < config.absent_prob:
            drawn[index] = _prompt_nobody(rng, canvas)
            targets[index], present[index] = 0, 0
    return Prompts(
        torch.from_numpy(np.stack([points for points, _ in drawn])),
        torch.from_numpy(np.stack([labels for _, labels in drawn])),
        torch.from_numpy(targets)[:, None],
        torch.from_numpy(present),
    )


def correction_points(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """One click per object, uniform in the wrongly labelled pixels (in the mask if none is wrong).

    Args:
        logits: Mask logits (N, 1, h, w).
        targets: Low-resolution masks in [0, 1], (N, 1, h, w).

    Returns:
        Points (N, 1, 2) in canvas px and labels (N, 1): positive inside the target.
    """
    inside = (targets > 0.5).flatten(1)
    wrong = ((logits > 0) != (targets > 0.5)).flatten(1)
    nothing = ~wrong.any(dim=1, keepdim=True)
    weights = torch.where(nothing, inside, wrong).float() + 1e-9
    picked = torch.multinomial(weights, 1)
    width = logits.shape[-1]
    cell = torch.stack([picked % width, picked // width], dim=-1).float()
    labels = torch.where(inside.gather(1, picked), POINT_POSITIVE, POINT_NEGATIVE)
    return cell * 4 + 1.5, labels


def _prompt_person(
    rng: np.random.Generator, canvas: Canvas, row: int, config: PromptConfig
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    points, labels = _empty_prompt()
    mask = canvas.masks[row]
    ys, xs = np.nonzero(mask)
    box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float32)
    side = np.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    kind = rng.random()
    if kind < config.box_only_prob + config.box_prob:
        points[:2] = box.reshape(2, 2) + rng.normal(0, 2 * config.jitter * side, (2, 2))
        labels[:2] = [2, 3]
    if kind >= config.box_only_prob:
        count = int(rng.choice([1, 2, 3, 4, 5, 6], p=[0.3, 0.15, 0.3, 0.1, 0.05, 0.1]))
        chosen = _points_of(rng, canvas, row, count, config.keypoint_prob)
        chosen += rng.normal(0, config.jitter * side, chosen.shape).astype(np.float32)
        points[2 : 2 + len(chosen)] = chosen.clip(0, mask.shape[0] - 1)
        labels[2 : 2 + len(chosen)] = POINT_POSITIVE
        others = [other for other in range(len(canvas.masks)) if other != row]
        if others and rng.random() < config.negative_prob:
            count = int(rng.integers(1, MAX_NEGATIVE + 1))
            chosen = _points_of(rng, canvas, int(rng.choice(others)), count, config.keypoint_prob)
            points[-MAX_NEGATIVE:][: len(chosen)] = chosen
            labels[-MAX_NEGATIVE:][: len(chosen)] = POINT_NEGATIVE
    return points, labels


def _prompt_nobody(
    rng: np.random.Generator, canvas: Canvas
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """One positive point where nobody is."""
    points, labels = _empty_prompt()
    ys, xs = np.nonzero(~canvas.masks.any(axis=0))
    if len(xs):
        pick = rng.integers(len(xs))
        points[2], labels[2] = (xs[pick], ys[pick]), POINT_POSITIVE
    return points, labels


def _points_of(
    rng: np.random.Generator, canvas: Canvas, row: int, count: int, keypoint_prob: float
) -> NDArray[np.float32]:
    """Up to `count` keypoints of a person or, for those without, as many pixels of its mask."""
    labelled = canvas.keypoints[row][canvas.keypoints[row, :, 2] > 0, :2]
    if len(labelled) and rng.random() < keypoint_prob:
        return np.asarray(rng.permutation(labelled)[:count], np.float32)
    ys, xs = np.nonzero(canvas.masks[row])
    picked = rng.integers(len(xs), size=count)
    return np.stack([xs[picked], ys[picked]], axis=1).astype(np.float32)


def _empty_prompt() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    size = 2 + MAX_POSITIVE + MAX_NEGATIVE
    return np.zeros((size, 2), np.float32), np.full(size, POINT_PADDING, np.int64)
