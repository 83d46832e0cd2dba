"""PoseMaskRefine: simulated clicks for fine-tuning SAM (SAM-pose2seg, arXiv 2601.08982).

The first click is a keypoint. Each later click corrects the current mask, with another keypoint if
one lies in the error region. The exact rules of the paper are unpublished; open choices are
settings.

Regions have the size S x S of the model input, because thin limbs and small people may vanish in
the coarser masks of the decoder. A point (x, y) lies in the pixel (floor x, floor y), consistent
with the scaling of points at inference.

Legend: N people, K keypoints, S side of the square in px, R corrections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.segmenters.prompts import METHODS, Method, select_keypoints
from pipeline.segmenters.sam2_forward import POINT_NEGATIVE, POINT_POSITIVE
from pipeline.values import check_ranges

FIRST_CLICKS = ('most_visible', 'sampled', 'uniform')
CHOICES = ('random', 'most_visible')

# Purpose of the random numbers of one click.
_REGION, _KIND, _WHICH, _PIXEL, _NUM_DRAWS = 0, 1, 2, 3, 4


@dataclass(frozen=True)
class PoseMaskRefine:
    """Rules of the simulated clicks."""

    # 'most_visible': the first keypoint at inference; 'sampled': a usable keypoint, with
    # probability proportional to its visibility; 'uniform': a pixel of the ground-truth mask, as in
    # SAM's training. People without a usable keypoint get 'uniform'.
    first_click: Literal['most_visible', 'sampled', 'uniform'] = 'most_visible'
    num_corrections: int = 7  # R, clicks after the first one
    # Probability that a correction is an unused keypoint in the error region, if there is one; else
    # it is a uniform pixel of the region. 0: SAM's correction clicks.
    keypoint_prob: float = 1.0
    # Keypoint to use if there are several: the first in the order of `method` ('most_visible'), or
    # a random one.
    choice: Literal['random', 'most_visible'] = 'most_visible'
    # Probability that a correction lies in the ground-truth mask instead of the error.
    gt_prob: float = 0.1
    visibility_threshold: float = 0.5  # ignore keypoints with a lower visibility, as at inference
    # Order of the keypoints, as at inference (`select_keypoints`).
    method: Method = 'k_most_visible'

    def __post_init__(self) -> None:
        allowed = {'first_click': FIRST_CLICKS, 'choice': CHOICES, 'method': METHODS}
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(
                    f'clicks.{name} must be one of {values}, got {getattr(self, name)!r}'
                )
        check_ranges(
            self, 'clicks', keypoint_prob='in [0, 1]', gt_prob='in [0, 1]',
            visibility_threshold='in [0, 1]', num_corrections='>= 0',
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class ClickTargets:
    """Ground truth of the people to click on."""

    masks: Tensor  # ground-truth masks, bool (N, S, S); each has a pixel
    keypoints: Tensor  # x, y in px of the square, float (N, K, 2)
    visibility: Tensor  # in [0, 1], 0 for missing keypoints, float (N, K)
    # One per person. Equal seeds give equal random choices, independent of other people.
    seeds: Sequence[int]

    def __len__(self) -> int:
        return len(self.masks)


def keypoint_ranks(keypoints: Tensor, visibility: Tensor, config: PoseMaskRefine) -> Tensor:
    """Rank the keypoints (N, K, 2) in the order of prompts, from 0; K for unusable ones.

    Returns:
        long (N, K), on the device of `keypoints`.
    """
    num_keypoints = keypoints.shape[1]
    ranks = np.full(tuple(visibility.shape), num_keypoints, np.int64)
    pairs = zip(keypoints.cpu().numpy(), visibility.cpu().numpy(), strict=True)
    for row, (points, visible) in enumerate(pairs):
        order = select_keypoints(
            points, visible, visible,
            method=config.method, visibility_threshold=config.visibility_threshold,
        )  # fmt: skip
        ranks[row, order] = np.arange(len(order))
    return torch.from_numpy(ranks).to(keypoints.device)


class ClickSimulator:
    """Simulates clicks for N people, one per call, and tracks the used keypoints."""

    def __init__(self, people: ClickTargets, config: PoseMaskRefine) -> None:
        self.people = people
        self.config = config
        self.ranks = keypoint_ranks(people.keypoints, people.visibility, config)
        self.used = torch.zeros_like(self.ranks, dtype=torch.bool)
        draws = (1 + config.num_corrections, _NUM_DRAWS)
        noise = [np.random.default_rng(seed).random(draws) for seed in people.seeds]
        stacked = np.array(noise, np.float32).reshape(-1, *draws)
        self._noise = torch.from_numpy(stacked).to(people.masks.device)
        self._num_clicks = 0

    @property
    def usable(self) -> Tensor:
        """Usable keypoints without a click, bool (N, K)."""
        return (self.ranks < self.ranks.shape[1]) & ~self.used

    def first(self) -> tuple[Tensor, Tensor]:
        """Return the first clicks: points, float (N, 1, 2) px, and positive labels, long (N, 1)."""
        noise = self._next_noise()
        usable = self.usable
        if self.config.first_click == 'uniform':
            usable = torch.zeros_like(usable)
        if self.config.first_click == 'sampled':
            chosen = _weighted(self.people.visibility * usable, noise[:, _WHICH])
        else:
            chosen = _most_visible(self.ranks, usable)
        points = self._click(chosen, usable.any(1), self.people.masks, noise)
        labels = torch.full((len(points), 1), POINT_POSITIVE, device=points.device)
        return points, labels

    def correct(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the next clicks, in the error of the current masks.

        Without an error, the click lies in the ground-truth mask.

        Args:
            logits: Mask logits at the size of the square, (N, S, S); above 0 is person.

        Returns:
            Points, float (N, 1, 2) px, and labels, long (N, 1): positive inside the ground-truth
            mask.
        """
        noise = self._next_noise()
        masks = self.people.masks
        region = self.region(logits, noise)
        candidates = self.usable & _at(region, self.people.keypoints)
        wanted = noise[:, _KIND] < self.config.keypoint_prob
        if self.config.choice == 'random':
            chosen = _random_one(self.ranks, candidates, noise[:, _WHICH])
        else:
            chosen = _most_visible(self.ranks, candidates)
        points = self._click(chosen, candidates.any(1) & wanted, region, noise)
        labels = torch.where(_at(masks, points), POINT_POSITIVE, POINT_NEGATIVE)
        return points, labels

    def region(self, logits: Tensor, noise: Tensor) -> Tensor:
        """Return the regions of the next clicks, bool (N, S, S)."""
        masks = self.people.masks
        error = self.error(logits)
        from_mask = (noise[:, _REGION] < self.config.gt_prob) | ~error.flatten(1).any(1)
        return torch.where(from_mask[:, None, None], masks, error)

    def error(self, logits: Tensor) -> Tensor:
        """Return the error of the current masks, bool (N, S, S)."""
        return (logits > 0) != self.people.masks

    def _next_noise(self) -> Tensor:
        noise = self._noise[:, self._num_clicks]
        self._num_clicks += 1
        return noise

    def _click(self, chosen: Tensor, use_keypoint: Tensor, region: Tensor, noise: Tensor) -> Tensor:
        """Return chosen keypoints, or pixels of the region without `use_keypoint`; (N, 1, 2)."""
        rows = torch.arange(len(chosen), device=chosen.device)
        keypoints = self.people.keypoints[rows, chosen]
        self.used[rows, chosen] |= use_keypoint
        pixels = draw_uniform_pixels(region, noise[:, _PIXEL])
        return torch.where(use_keypoint[:, None], keypoints, pixels)[:, None]


def draw_uniform_pixels(region: Tensor, noise: Tensor) -> Tensor:
    """Draw a uniform pixel of each region.

    Args:
        region: bool (N, S, S); each has a pixel.
        noise: Uniform in [0, 1), (N,).

    Returns:
        x, y of the pixels, float (N, 2).
    """
    side = region.shape[-1]
    upto = region.flatten(1).cumsum(1, dtype=torch.int32)
    count = upto[:, -1:]
    # In float32 the product may round up to the count itself.
    number = (noise[:, None] * count).to(torch.int32).clamp(max=count - 1) + 1
    index = torch.searchsorted(upto, number)[:, 0].clamp(max=side * side - 1)
    return torch.stack([index % side, index // side], dim=1).float()


def _at(masks: Tensor, points: Tensor) -> Tensor:
    """Sample masks (N, S, S) at points (N, P, 2): bool (N, P), False outside."""
    side = masks.shape[-1]
    x, y = points.floor().long().unbind(-1)
    inside = (x >= 0) & (y >= 0) & (x < side) & (y < side)
    index = y.clamp(0, side - 1) * side + x.clamp(0, side - 1)
    return masks.flatten(1).gather(1, index) & inside


def _most_visible(ranks: Tensor, candidates: Tensor) -> Tensor:
    return ranks.masked_fill(~candidates, ranks.shape[1] + 1).argmin(1)


def _random_one(ranks: Tensor, candidates: Tensor, noise: Tensor) -> Tensor:
    """Draw a uniform candidate, (N,), from the candidates in the order of prompts."""
    last = ranks.shape[1] + 1
    order = ranks.masked_fill(~candidates, last).argsort(dim=1, stable=True)
    count = candidates.sum(1)
    number = (noise * count).long().clamp(max=(count - 1).clamp(min=0))
    return order.gather(1, number[:, None])[:, 0]


def _weighted(weights: Tensor, noise: Tensor) -> Tensor:
    """Draw a column (N,) with probability proportional to its weight, never one of weight 0."""
    upto = weights.cumsum(1)
    number = (noise[:, None] * upto[:, -1:]).clamp(max=upto[:, -1:] * (1 - 1e-6))
    return torch.searchsorted(upto, number, right=True)[:, 0].clamp(max=weights.shape[1] - 1)
