"""PoseMaskRefine: the clicks that SAM is fine-tuned with (SAM-pose2seg, arXiv 2601.08982).

The first click is a keypoint; each later one corrects the mask so far, with another keypoint if
one lies in the error. The paper's exact rules are unpublished; what had to be chosen is a setting.

Regions live in the S x S square that the model sees, not in the decoder's coarser masks: there a
thin limb or a tiny person may have no cell of its own, and a click on it could not be placed.
A point (x, y) lies in the pixel (floor x, floor y), as the scaling of points at inference has it.

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

FIRST_CLICKS = ('most_visible', 'sampled', 'uniform')
CHOICES = ('random', 'most_visible')

# What the random numbers of one click decide.
_REGION, _KIND, _WHICH, _PIXEL, _NUM_DRAWS = 0, 1, 2, 3, 4


@dataclass(frozen=True)
class PoseMaskRefine:
    """Rules of the simulated clicks.

    Attributes:
        first_click: 'most_visible': the keypoint that inference would use first; 'sampled': a
            usable keypoint with a chance proportional to its visibility; 'uniform': a pixel of the
            true mask, as SAM itself is trained. People without a usable keypoint get 'uniform'.
        num_corrections: R, clicks after the first one.
        keypoint_prob: chance that a correction is an unused keypoint in the error region, if one
            is there; else it is a uniform pixel of the region. 0: SAM's own correction clicks.
        choice: of several such keypoints the first in the order of `method` ('most_visible'), or a
            random one.
        gt_prob: chance that the region of a correction is the true mask instead of the error.
        visibility_threshold: keypoints less visible are not used, as at inference.
        method: order of the keypoints, as at inference (`select_keypoints`).
    """

    first_click: Literal['most_visible', 'sampled', 'uniform'] = 'most_visible'
    num_corrections: int = 7
    keypoint_prob: float = 1.0
    choice: Literal['random', 'most_visible'] = 'most_visible'
    gt_prob: float = 0.1
    visibility_threshold: float = 0.5
    method: Method = 'k_most_visible'

    def __post_init__(self) -> None:
        allowed = {'first_click': FIRST_CLICKS, 'choice': CHOICES, 'method': METHODS}
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(
                    f'clicks.{name} must be one of {values}, got {getattr(self, name)!r}'
                )
        for name in ('keypoint_prob', 'gt_prob', 'visibility_threshold'):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f'clicks.{name} must be in [0, 1], got {getattr(self, name)}')
        if self.num_corrections < 0:
            raise ValueError(
                f'clicks.num_corrections must be 0 or more, got {self.num_corrections}'
            )


@dataclass(frozen=True, eq=False)
class People:
    """Who is clicked on.

    Attributes:
        masks: True masks, bool (N, S, S); each has a pixel.
        keypoints: x, y in px of the square, float (N, K, 2).
        visibility: In [0, 1], 0 for keypoints that are not there, float (N, K).
        seeds: One per person; equal seeds make equal random choices, whoever else is there.
    """

    masks: Tensor
    keypoints: Tensor
    visibility: Tensor
    seeds: Sequence[int]

    def __len__(self) -> int:
        return len(self.masks)


def keypoint_ranks(keypoints: Tensor, visibility: Tensor, config: PoseMaskRefine) -> Tensor:
    """Place of each keypoint in the order of prompts, from 0; K for those that are not usable.

    Args:
        keypoints: (N, K, 2) px.
        visibility: (N, K).
        config: `method` and `visibility_threshold` are used.

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
    """Clicks for N people, one call per click; remembers which keypoints were used."""

    def __init__(self, people: People, config: PoseMaskRefine) -> None:
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
        """Keypoints that may still be clicked, bool (N, K)."""
        return (self.ranks < self.ranks.shape[1]) & ~self.used

    def first(self) -> tuple[Tensor, Tensor]:
        """First clicks: points, float (N, 1, 2) px, and labels, long (N, 1), all positive."""
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
        """Next clicks, in the error of the masks so far.

        Where nothing is wrong the region is the true mask.

        Args:
            logits: Mask logits at the size of the square, (N, S, S); above 0 is person.

        Returns:
            Points, float (N, 1, 2) px, and labels, long (N, 1): positive inside the true mask.
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
        """Where the next clicks may lie, bool (N, S, S)."""
        masks = self.people.masks
        error = self.error(logits)
        from_mask = (noise[:, _REGION] < self.config.gt_prob) | ~error.flatten(1).any(1)
        return torch.where(from_mask[:, None, None], masks, error)

    def error(self, logits: Tensor) -> Tensor:
        """Pixels where the masks so far are wrong, bool (N, S, S)."""
        return (logits > 0) != self.people.masks

    def _next_noise(self) -> Tensor:
        noise = self._noise[:, self._num_clicks]
        self._num_clicks += 1
        return noise

    def _click(self, chosen: Tensor, takes: Tensor, region: Tensor, noise: Tensor) -> Tensor:
        """The chosen keypoint where `takes`, else a pixel of the region; (N, 1, 2)."""
        rows = torch.arange(len(chosen), device=chosen.device)
        keypoints = self.people.keypoints[rows, chosen]
        self.used[rows, chosen] |= takes
        pixels = uniform_pixels(region, noise[:, _PIXEL])
        return torch.where(takes[:, None], keypoints, pixels)[:, None]


def uniform_pixels(region: Tensor, noise: Tensor) -> Tensor:
    """One uniformly drawn pixel of each region.

    Args:
        region: bool (N, S, S); each has a pixel.
        noise: Uniform in [0, 1), (N,); decides which pixel.

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
    """Values (N, P) of masks (N, S, S) at points (N, P, 2); False outside."""
    side = masks.shape[-1]
    x, y = points.floor().long().unbind(-1)
    inside = (x >= 0) & (y >= 0) & (x < side) & (y < side)
    index = y.clamp(0, side - 1) * side + x.clamp(0, side - 1)
    return masks.flatten(1).gather(1, index) & inside


def _most_visible(ranks: Tensor, candidates: Tensor) -> Tensor:
    return ranks.masked_fill(~candidates, ranks.shape[1] + 1).argmin(1)


def _random_one(ranks: Tensor, candidates: Tensor, noise: Tensor) -> Tensor:
    """Each candidate with the same chance, (N,); they are numbered in the order of prompts."""
    last = ranks.shape[1] + 1
    order = ranks.masked_fill(~candidates, last).argsort(dim=1, stable=True)
    count = candidates.sum(1)
    number = (noise * count).long().clamp(max=(count - 1).clamp(min=0))
    return order.gather(1, number[:, None])[:, 0]


def _weighted(weights: Tensor, noise: Tensor) -> Tensor:
    """A column (N,) with a chance proportional to its weight, never one of weight 0."""
    upto = weights.cumsum(1)
    number = (noise[:, None] * upto[:, -1:]).clamp(max=upto[:, -1:] * (1 - 1e-6))
    return torch.searchsorted(upto, number, right=True)[:, 0].clamp(max=weights.shape[1] - 1)
