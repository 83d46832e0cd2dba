"""First prompts of all kinds, for a model that is to answer keypoints, boxes, and both.

Legend: N people, K keypoints, P points of the longest prompt, S side of the square in px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.segmenters.prompts import METHODS, Method, select_keypoints
from pipeline.segmenters.sam2_forward import (
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    POINT_PADDING,
    POINT_POSITIVE,
)
from pipeline.segmenters.sam2_preprocess import boxes_of

from .clicks import PartialClickSimulator

RANDOM = 'random'
# Whether a kind of prompt has keypoints, and whether it has a box; as `FirstPrompts.kinds`.
_PARTS = ((True, False), (True, True), (False, True))
Points = NDArray[np.float32]


@dataclass(frozen=True)
class FirstPrompts:
    """How people are prompted before the first correction; drawn for each person anew.

    Attributes:
        keypoints: chance of a prompt of keypoints, relative to the other two.
        keypoints_and_box: chance of keypoints and the corners of the box.
        box: chance of the box alone.
        counts: relative chances of 1, 2, 3, ... keypoints; a person with fewer
            gets all, a person without any gets as many pixels of the mask.
        orders: which keypoints come first, each entry with the same chance: the orders of
            inference (`select_keypoints`) or 'random'.
        jitter: standard deviation of keypoints as a fraction of the side of the person's box.
        box_jitter: that of the sides of boxes is drawn between 0 and this for each box, so that
            both annotated boxes and those of a detector look familiar; None: always twice `jitter`.
    """

    keypoints: float = 1.0
    keypoints_and_box: float = 0.0
    box: float = 0.0
    counts: Sequence[float] = (0.0, 0.0, 1.0)
    orders: Sequence[str] = ('k_most_visible',)
    jitter: float = 0.0
    box_jitter: float | None = None

    def __post_init__(self) -> None:
        for name, values in (('kinds', self.kinds), ('counts', self.counts)):
            if not sum(values) > 0 or min(values) < 0:
                raise ValueError(
                    f'prompts: chances of {name} are {tuple(values)}; give numbers from 0 on, '
                    'one of them above'
                )
        wrong = [order for order in self.orders if order not in (*METHODS, RANDOM)]
        if wrong or not self.orders:
            raise ValueError(
                f'prompts.orders has {wrong or "nothing"}; known: {(*METHODS, RANDOM)}'
            )
        for name, width in (('jitter', self.jitter), ('box_jitter', self.box_jitter)):
            if width is not None and not 0 <= width <= 1:
                raise ValueError(f'prompts.{name} must be in [0, 1], got {width}')

    @property
    def kinds(self) -> tuple[float, float, float]:
        """Chances of keypoints, keypoints and box, box."""
        return (self.keypoints, self.keypoints_and_box, self.box)


def draw_first(simulator: PartialClickSimulator, config: FirstPrompts) -> tuple[Tensor, Tensor]:
    """First prompts of all people; `simulator` learns which keypoints were used.

    Returns:
        Points, float (N, P, 2) px of the square, corners of boxes first, and labels, long (N, P),
        as `decode_prompts` takes them.
    """
    people = simulator.people
    boxes = boxes_of(people.masks | people.unknown).cpu().numpy()
    prompts = []
    for row, seed in enumerate(people.seeds):
        rng = np.random.default_rng([int(seed), 1])
        chances = np.asarray(config.counts, np.float64)
        count = 1 + int(rng.choice(len(chances), p=chances / chances.sum()))
        chosen = _choose(simulator, row, rng, config)[:count]
        simulator.used[row, torch.from_numpy(chosen)] = True
        points = people.keypoints[row].cpu().numpy()[chosen]
        if not len(chosen):
            points = _random_pixels(people.masks[row], count, rng)
        prompts.append(_prompt(points, boxes[row], rng, config))
    side = people.masks.shape[-1]
    points, labels = _pad(prompts)
    device = people.masks.device
    return (
        torch.from_numpy(points.clip(0, side - 1)).to(device),
        torch.from_numpy(labels).to(device),
    )


def _choose(
    simulator: PartialClickSimulator, row: int, rng: np.random.Generator, config: FirstPrompts
) -> NDArray[np.int64]:
    """Usable keypoints of a person in some order, (P,)."""
    people = simulator.people
    order = config.orders[int(rng.integers(len(config.orders)))]
    visibility = people.visibility[row].cpu().numpy()
    threshold = simulator.config.visibility_threshold
    if order == RANDOM:
        usable: NDArray[Any] = rng.permutation(np.flatnonzero(visibility >= threshold))
    else:
        usable = select_keypoints(
            people.keypoints[row].cpu().numpy(), visibility, visibility,
            method=cast(Method, order), visibility_threshold=threshold,
        )  # fmt: skip
    return np.asarray(usable, np.int64)


def _prompt(
    points: Points, box: Points, rng: np.random.Generator, config: FirstPrompts
) -> tuple[Points, NDArray[np.int64]]:
    """Points (P, 2) and labels (P,) of a person."""
    kinds = np.asarray(config.kinds)
    with_points, with_box = _PARTS[int(rng.choice(len(kinds), p=kinds / kinds.sum()))]
    side = float(np.sqrt(np.prod(box[2:] - box[:2])))
    sigma = config.jitter * side
    widest = config.box_jitter
    box_sigma = 2 * sigma if widest is None else rng.uniform(0, widest) * side
    corners = box.reshape(2, 2) + rng.normal(0, 1, (2, 2)) * box_sigma
    corners = np.sort(corners, axis=0)
    rows = np.concatenate(
        [
            corners[: 2 * with_box],
            (points + rng.normal(0, 1, points.shape) * sigma)[: len(points) * with_points],
        ]
    )
    labels = np.full(len(rows), POINT_POSITIVE, np.int64)
    labels[: 2 * with_box] = [BOX_TOP_LEFT, BOX_BOTTOM_RIGHT][: 2 * with_box]
    return rows.astype(np.float32), labels


def _random_pixels(mask: Tensor, count: int, rng: np.random.Generator) -> Points:
    """x, y of pixels of a mask, (count, 2)."""
    rows, columns = mask.cpu().numpy().nonzero()
    chosen = rng.integers(len(rows), size=count)
    return np.stack([columns[chosen], rows[chosen]], 1).astype(np.float32)


def _pad(prompts: Sequence[tuple[Points, NDArray[np.int64]]]) -> tuple[Points, NDArray[np.int64]]:
    """Equal lengths (N, P, 2) and (N, P)."""
    length = max(len(labels) for _, labels in prompts)
    points = np.zeros((len(prompts), length, 2), np.float32)
    labels = np.full((len(prompts), length), POINT_PADDING, np.int64)
    for row, (some_points, some_labels) in enumerate(prompts):
        points[row, : len(some_labels)] = some_points
        labels[row, : len(some_labels)] = some_labels
    return points, labels
