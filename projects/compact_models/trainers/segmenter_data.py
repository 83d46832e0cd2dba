"""Windows around people with prompts and masks, for the segmenter.

A person without a mask teaches what the skeleton and the box tell: bones are the person, px outside
of the box are not, the rest is unknown.

Legend: B windows of S x S px, N = 2 B prompts (keypoints; the box with or without keypoints),
P points of the longest prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from pipeline.segmenters.prompts import Method, select_keypoints
from pipeline.segmenters.sam2_forward import (
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    POINT_PADDING,
    POINT_POSITIVE,
)
from projects.compact_models.segmenter.skeletons import draw_skeleton

from .crops import FLIP, Array, Bools, Pixels, Rng, change_colours, normalize, place_cutout, warp
from .pose_data import KINDS, People, PlacedMask

S = 192
STRIDE = 2  # of the targets
MIN_VISIBLE = 4  # keypoints of a person without a mask
MIN_MASK = 60  # px of the window
HIDDEN_VISIBILITY = 0.5  # of keypoints with v = 1
METHODS: tuple[Method, ...] = ('distance+confidence', 'distance+confidence', 'k_most_visible')


@dataclass(frozen=True)
class SegmenterAugmentation:
    """Settings of the augmentation.

    Attributes:
        masked: fraction of people with a mask; the others have a skeleton.
        margin: smallest and largest side of the window, in longer sides of the box.
        shift: of the window, in sides of the box; stretch: largest change of its aspect.
        paste: chance of one neighbour, and of a second one.
        max_covered: largest fraction of a mask that neighbours cover.
        counts: chances of 1, 2, 3, ... keypoints.
        jitter: largest standard deviation of keypoints, in sides of the box; of boxes, likewise.
        colour: as in the pose model.
    """

    masked: float = 0.65
    margin: tuple[float, float] = (1.05, 2.6)
    shift: float = 0.1
    stretch: float = 1.25
    paste: float = 0.4
    max_covered: float = 0.7
    counts: tuple[float, ...] = (0.1, 0.1, 0.6, 0.12, 0.08)
    jitter: tuple[float, float] = (0.04, 0.1)
    colour: tuple[float, float, float, float] = (0.25, 0.25, 0.3, 0.05)


@dataclass(frozen=True, eq=False)
class SegmenterBatch:
    """Windows, prompts and targets.

    Attributes:
        images: (B, 3, S, S), normalized RGB.
        points: (N, P, 2), px of the window.
        labels: long (N, P), as `decode_prompts` takes them.
        targets: (N, 1, S / 2, S / 2), covered fractions; 0 where unknown.
        known: the same shape, 1 where the target is known.
    """

    images: Tensor
    points: Tensor
    labels: Tensor
    targets: Tensor
    known: Tensor

    @property
    def image_index(self) -> Tensor:
        """Window of each prompt, long (N,)."""
        return torch.arange(len(self.images)).repeat_interleave(2)


class Window(NamedTuple):
    """One person in a window."""

    image: Pixels  # (S, S, 3) BGR
    mask: Bools  # (S, S)
    known: Bools  # (S, S)
    keypoints: Array  # (K, 2) px of the window
    visibility: Array  # (K,), 0 for keypoints that no prompt may use
    box: Array  # (4,) xyxy px of the window


def cut_window(people: People, row: int, corners: Array) -> Window:
    """Cut a window, (4,) xyxy px, at the edges of the image and scale it to the square."""
    pixels = people.images[people.image[row]]
    height, width = pixels.shape[:2]
    x1, y1 = np.floor(corners[:2]).clip(0, [width - 2, height - 2]).astype(int)
    x2, y2 = np.ceil(corners[2:]).clip([x1 + 2, y1 + 2], [width, height]).astype(int)
    scale = S / np.array([x2 - x1, y2 - y1], np.float32)
    smooth = cv2.INTER_AREA if scale.max() < 0.7 else cv2.INTER_LINEAR
    image = cv2.resize(pixels[y1:y2, x1:x2], (S, S), interpolation=smooth)
    origin = np.array([x1, y1], np.float32)
    keypoints = (people.keypoints[row, :, :2] - origin) * scale
    inside = ((keypoints >= 0) & (keypoints < S)).all(1)
    levels = people.keypoints[row, :, 2]
    visibility = np.where(levels == 2, 1.0, HIDDEN_VISIBILITY * (levels == 1)) * inside
    box = ((people.person_boxes[row].reshape(2, 2) - origin) * scale).ravel().clip(0, S)
    mask, known = _window_mask(people.true_masks[row], origin, scale, keypoints, visibility, box)
    return Window(
        np.asarray(image, np.uint8), mask, known, keypoints, visibility.astype(np.float32), box
    )


def _window_mask(
    placed: PlacedMask | None, origin: Array, scale: Array, keypoints: Array,
    visibility: Array, box: Array,
) -> tuple[Bools, Bools]:  # fmt: skip
    """Mask of a window and what is known of it, both (S, S)."""
    if placed is not None:
        shift = (np.array([placed.x, placed.y]) - origin + 0.5) * scale - 0.5
        matrix = np.concatenate([np.diag(scale), shift[:, None]], 1).astype(np.float32)
        return warp(placed.pixels, matrix, (S, S)) > 127, np.ones((S, S), np.bool_)
    side = float(np.sqrt((box[2:] - box[:2]).prod()))
    mask = draw_skeleton(keypoints, visibility == 1, side, (S, S)) > 0
    known = np.ones((S, S), np.bool_)
    x1, y1, x2, y2 = np.rint(box + 0.04 * side * np.array([-1, -1, 1, 1])).clip(0, S).astype(int)
    known[y1:y2, x1:x2] = mask[y1:y2, x1:x2]
    return mask, known


class SegmenterSampler:
    """Draws batches from people with masks or skeletons.

    Raises:
        ValueError: no person has a mask.
    """

    def __init__(self, people: People, settings: SegmenterAugmentation | None = None) -> None:
        self.people = people
        self.settings = settings or SegmenterAugmentation()
        rows = np.flatnonzero(people.kind == KINDS.index('person'))
        has_mask = np.array([people.true_masks[row] is not None for row in rows], np.bool_)
        is_posed = (people.keypoints[rows][..., 2] == 2).sum(1) >= MIN_VISIBLE
        self.masked, self.posed = rows[has_mask], rows[~has_mask & is_posed]
        if not len(self.masked):
            raise ValueError('no person has a mask; check the annotation file and its subset')

    def make_batch(self, rng: Rng, size: int) -> SegmenterBatch:
        """Draw and augment `size // 2` windows with two prompts each."""
        windows = [self._draw_window(rng) for _ in range(size // 2)]
        images = np.stack([window.image for window in windows])
        change_colours(images, self.settings.colour, rng)
        prompts = [
            prompt for window in windows for prompt in self._draw_prompts(window, rng)
        ]  # fmt: skip
        masks = shrink(np.stack([window.mask for window in windows]))
        known = shrink(np.stack([window.known for window in windows])) == 1
        pair = {'repeats': 2, 'dim': 0}
        return SegmenterBatch(
            normalize(images),
            *pad_prompts(prompts),
            (masks * known).repeat_interleave(**pair),
            known.float().repeat_interleave(**pair),
        )

    def _draw_window(self, rng: Rng) -> Window:
        """A window in which enough of the person shows."""
        while True:
            has_mask = not len(self.posed) or rng.random() < self.settings.masked
            row = int(rng.choice(self.masked if has_mask else self.posed))
            window = cut_window(self.people, row, self._draw_corners(row, rng))
            for _ in range(2):
                if rng.random() < self.settings.paste:
                    window = self._paste(window, rng)
            if window.mask.sum() >= MIN_MASK:
                return _mirror(window) if rng.random() < 0.5 else window

    def _draw_corners(self, row: int, rng: Rng) -> Array:
        box = self.people.person_boxes[row]
        sides = box[2:] - box[:2]
        stretch = np.exp(rng.uniform(-1, 1) * np.log(self.settings.stretch) / 2)
        side = sides.max() * rng.uniform(*self.settings.margin) * np.array([stretch, 1 / stretch])
        center = (box[:2] + box[2:]) / 2 + rng.normal(size=2) * self.settings.shift * sides
        corners: Array = np.concatenate([center - side / 2, center + side / 2])
        return corners

    def _paste(self, window: Window, rng: Rng) -> Window:
        """Paste a neighbour in front of the person, unless too little of it would be left."""
        cutouts = self.people.cutouts
        if not cutouts:
            return window
        cutout = cutouts[int(rng.integers(len(cutouts)))]
        matrix = place_cutout(cutout, window.box[:2], window.box[2:], rng)
        pasted = warp(cutout, matrix, (S, S))
        shape = pasted[..., 3] > 127
        if (shape & window.mask).sum() > self.settings.max_covered * window.mask.sum():
            return window
        cv2.copyTo(pasted[..., :3], shape.astype(np.uint8), window.image)
        x, y = np.rint(window.keypoints).astype(int).clip(0, S - 1).T
        visibility = np.where(shape[y, x], 0, window.visibility).astype(np.float32)
        return window._replace(
            mask=window.mask & ~shape, known=window.known | shape, visibility=visibility
        )

    def _draw_prompts(self, window: Window, rng: Rng) -> tuple[Array, Array]:
        """Two prompts, each (P, 3): x, y and label."""
        settings = self.settings
        box = window.box
        if window.known.all():
            x, y = np.flatnonzero(window.mask.any(0)), np.flatnonzero(window.mask.any(1))
            box = np.array([x[0], y[0], x[-1] + 1, y[-1] + 1], np.float32)
        side = float(np.sqrt((box[2:] - box[:2]).prod()))
        counts = np.array(settings.counts)
        count = 1 + int(rng.choice(len(counts), p=counts / counts.sum()))
        points = choose_keypoints(window, METHODS[rng.integers(len(METHODS))])[:count]
        if not len(points):
            rows, columns = window.mask.nonzero()
            chosen = rng.integers(len(rows), size=count)
            points = np.stack([columns[chosen], rows[chosen]], 1).astype(np.float32)
        jitter = rng.uniform(0, settings.jitter[0]) * side
        points = points + rng.normal(size=points.shape) * jitter
        corners = box.reshape(2, 2) + rng.normal(size=(2, 2)) * (
            rng.uniform(0, settings.jitter[1]) * side
        )
        with_points = rng.random() < 0.75
        return (
            make_prompt(points, None),
            make_prompt(points if with_points else points[:0], np.sort(corners, 0)),
        )


def choose_keypoints(window: Window, method: Method) -> Array:
    """Usable keypoints (P, 2) of a window, best first."""
    order = select_keypoints(
        window.keypoints, window.visibility, window.visibility, method=method,
        visibility_threshold=0.5,
    )  # fmt: skip
    return np.asarray(window.keypoints[order], np.float32)


def make_prompt(points: Array, corners: Array | None) -> Array:
    """A prompt (P, 3), x, y and label, of points (P, 2) and the corners (2, 2) of a box."""
    rows = [np.insert(points.clip(0, S - 1), 2, POINT_POSITIVE, axis=1)]
    if corners is not None:
        labels = [[BOX_TOP_LEFT], [BOX_BOTTOM_RIGHT]]
        rows.insert(0, np.concatenate([corners.clip(0, S - 1), labels], 1))
    prompt: Array = np.concatenate(rows)
    return prompt


def pad_prompts(prompts: list[Array]) -> tuple[Tensor, Tensor]:
    """Points (N, P, 2) and labels (N, P) of prompts (P, 3) of any length."""
    table = np.zeros((len(prompts), max(map(len, prompts)), 3), np.float32)
    table[..., 2] = POINT_PADDING
    for row, prompt in zip(table, prompts, strict=True):
        row[: len(prompt)] = prompt
    content = torch.from_numpy(table)
    return content[..., :2], content[..., 2].long()


def shrink(masks: Bools) -> Tensor:
    """Masks (B, S, S) as fractions (B, 1, S / 2, S / 2)."""
    values = torch.from_numpy(masks).float()[:, None]
    return torch.nn.functional.avg_pool2d(values, STRIDE)


def _mirror(window: Window) -> Window:
    x1, y1, x2, y2 = window.box
    return Window(
        np.ascontiguousarray(window.image[:, ::-1]), window.mask[:, ::-1], window.known[:, ::-1],
        (window.keypoints * [-1, 1] + [S, 0])[FLIP].astype(np.float32), window.visibility[FLIP],
        np.array([S - x2, y1, S - x1, y2], np.float32),
    )  # fmt: skip
