"""Crops of people for the pose model: drawn and augmented as whole batches.

Parameters of a batch are arrays; only the warps run sample by sample. Each crop is one
`cv2.warpAffine` from the image: flip, rotation, scale, shift, and the edge of the image are part of
its matrix and of the view of the image that it reads.

Legend: B crops of W x H px, K keypoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .crops import FLIP, Array, Bools, Pixels, Rng, change_colours, normalize, place_cutout, warp
from .pose_data import KINDS, Kind, People, PlacedMask

W, H = 144, 192
PADDING = 1.25  # of the box, as MMPose's GetBBoxCenterScale
PARTS = np.zeros((3, 17), np.bool_)  # half bodies: upper, head and arms, lower
PARTS[0, :11], PARTS[1, :7], PARTS[2, 11:] = True, True, True
MIN_LABELLED = 3  # keypoints that half bodies and image edges leave


@dataclass(frozen=True)
class Augmentation:
    """Settings of the augmentation; chances are in [0, 1].

    Attributes:
        mixture: relative frequency of the kinds of rows.
        half_body: chance that the box is that of a part of the body.
        edge: chance that the image ends inside the person.
        rotation: chance and standard deviation in degrees.
        shift: standard deviation in sides of the box; of annotated and of detected boxes.
        scale: likewise, relative to the crop.
        paste: chance of a neighbour in front of the person, or behind it.
        max_covered: largest fraction of a person that a neighbour covers.
        mask: chance that the background is dimmed.
        wrong_mask: chance of each way to make a mask worse.
        low_resolution: chance of a crop from fewer px; blur: likewise.
        colour: range of brightness, contrast, and saturation, and the chance of a grey crop.
    """

    mixture: tuple[tuple[Kind, float], ...] = (
        ('person', 0.62), ('detected_pose', 0.2), ('detected_person', 0.06), ('background', 0.12),
    )  # fmt: skip
    half_body: float = 0.25
    edge: float = 0.3
    rotation: tuple[float, float] = (0.5, 25.0)
    shift: tuple[float, float] = (0.08, 0.04)
    scale: tuple[float, float] = (0.16, 0.08)
    paste: float = 0.3
    max_covered: float = 0.7
    mask: float = 0.5
    wrong_mask: float = 0.25
    low_resolution: float = 0.12
    blur: float = 0.08
    colour: tuple[float, float, float, float] = (0.3, 0.3, 0.5, 0.05)


@dataclass(frozen=True, eq=False)
class PoseBatch:
    """Crops and targets.

    Attributes:
        images: (B, 3, H, W), normalized RGB, channels last.
        points: (B, K, 2), keypoints in px of the crop.
        annotated: (B, K), 1 where it is known whether the crop shows the keypoint.
        present: (B, K), 1 where the keypoint lies inside the crop.
        visible: (B, K), 1 where it is labelled visible (v = 2) and not covered.
        area: (B, 1), area of the person in px of the crop squared.
        boxes: (B, 4), box of the person as a fraction of the crop.
        known: (B,), 1 where this box is known.
        judged: (B,), 1 where it is known whether the crop shows a person.
    """

    images: Tensor
    points: Tensor
    annotated: Tensor
    present: Tensor
    visible: Tensor
    area: Tensor
    boxes: Tensor
    known: Tensor
    judged: Tensor


class _Layout(NamedTuple):
    """Where the crops of a batch lie."""

    rows: NDArray[np.int64]
    boxes: Array  # (B, 4) xyxy px, cropped
    limits: NDArray[np.int64]  # (B, 4) xyxy px, part of the image that the crop reads
    keypoints: Array  # (B, K, 3)
    is_cut: Bools  # (B,) the image ends inside the person
    is_gone: Bools  # (B, K) keypoints beyond that edge


def crop_matrices(
    centers: Array, sides: Array, radians: Array | float = 0.0, flip: Bools | None = None
) -> Array:
    """Affine maps (B, 2, 3) from px of the image to px of the crop, as MMPose's UDP crops.

    Args:
        centers: (B, 2), center of the window.
        sides: (B, 2), sides of the window in px of the image.
        radians: (B,), rotation.
        flip: (B,), mirrored crops.
    """
    angle = np.broadcast_to(np.asarray(radians, np.float32), len(centers))
    scale = np.array([W - 1, H - 1], np.float32) / sides
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)
    linear = scale[:, :, None] * rotation
    offset = np.array([W - 1, H - 1], np.float32) / 2 - np.einsum('bij,bj->bi', linear, centers)
    matrices = np.concatenate([linear, offset[..., None]], 2)
    if flip is not None:
        matrices[flip, 0] *= -1
        matrices[flip, 0, 2] += W - 1
    return np.asarray(matrices, np.float32)


def window_sides(boxes: Array) -> Array:
    """Sides (B, 2) of the windows around boxes (B, 4): padded, with the aspect of the crop."""
    sides = (boxes[:, 2:] - boxes[:, :2]) * PADDING
    width = np.maximum(sides[:, 0], sides[:, 1] * (W / H))
    return np.stack([width, width * (H / W)], 1)


def transform_points(points: Array, matrices: Array) -> Array:
    """Points (B, M, 2) from px of the image to px of the crop."""
    moved = np.einsum('bij,bmj->bmi', matrices[:, :, :2], points) + matrices[:, None, :, 2]
    return np.asarray(moved, np.float32)


class PoseSampler:
    """Draws batches of `PoseBatch` from `People`.

    Args:
        people: in memory.
        augmentation: settings.

    Raises:
        ValueError: no row of any kind that the mixture names.
    """

    def __init__(self, people: People, augmentation: Augmentation | None = None) -> None:
        self.people = people
        self.settings = augmentation or Augmentation()
        rows = {kind: np.flatnonzero(people.kind == KINDS.index(kind)) for kind in KINDS}
        mixture = [(rows[kind], weight) for kind, weight in self.settings.mixture]
        self.groups = [(group, weight) for group, weight in mixture if len(group)]
        if not self.groups:
            raise ValueError('no people to crop; check the annotation file and its subset')

    def make_batch(self, rng: Rng, size: int) -> PoseBatch:
        """Draw and augment `size` crops."""
        layout = self._lay_out(self._draw_rows(rng, size), rng)
        matrices, is_turned = self._draw_matrices(layout, rng)
        crops = np.zeros((size, H, W, 3), np.uint8)
        covered = np.zeros((size, H, W), np.bool_)
        person_boxes = self._person_boxes(layout, matrices)
        for i in range(size):
            self._crop(layout, matrices, crops, i, rng)
            covered[i] = self._paste(layout, matrices, crops, i, rng)
        change_colours(crops, self.settings.colour, rng)
        for i in range(size):
            mask = self._true_mask(layout, matrices, i, covered[i])
            if mask is not None and (layout.is_cut[i] or covered[i].any()):
                person_boxes[i] = _box_of_mask(mask)
            self._dim(layout, matrices, crops, covered[i], mask, i, rng)
        targets = self._targets(layout, matrices, covered, person_boxes, is_turned)
        return PoseBatch(normalize(crops), **targets)

    def _draw_rows(self, rng: Rng, size: int) -> NDArray[np.int64]:
        weights = np.array([weight for _, weight in self.groups])
        kinds = rng.choice(len(self.groups), size, p=weights / weights.sum())
        return np.array([rng.choice(self.groups[k][0]) for k in kinds], np.int64)

    def _lay_out(self, rows: NDArray[np.int64], rng: Rng) -> _Layout:
        """Boxes of whole people, half bodies, and people that the edge of the image cuts."""
        people, settings = self.people, self.settings
        boxes, keypoints = people.boxes[rows].copy(), people.keypoints[rows].copy()
        sizes = np.array([people.images[p].shape[1::-1] for p in people.image[rows]])
        limits = np.concatenate([np.zeros_like(sizes), sizes], 1)
        is_person = people.kind[rows] == KINDS.index('person')
        halved = is_person & (rng.random(len(rows)) < settings.half_body)
        half, possible = half_bodies(boxes, keypoints, rng)
        boxes = np.where((halved & possible)[:, None], half, boxes)
        cut = (keypoints[..., 2] > 0).any(1) & (rng.random(len(rows)) < settings.edge)
        is_gone = np.zeros(keypoints.shape[:2], np.bool_)
        for i in np.flatnonzero(cut):
            cut[i] = _cut_by_edge(boxes[i], limits[i], keypoints[i], is_gone[i], rng)
        return _Layout(rows, boxes, limits, keypoints, cut, is_gone)

    def _draw_matrices(self, layout: _Layout, rng: Rng) -> tuple[Array, Bools]:
        """Maps (B, 2, 3) to the crop, and which crops are turned (B,)."""
        settings, count = self.settings, len(layout.rows)
        is_detected = self.people.kind[layout.rows] != KINDS.index('person')
        shift, scale = (np.where(is_detected, s[1], s[0]) for s in (settings.shift, settings.scale))
        sides = layout.boxes[:, 2:] - layout.boxes[:, :2]
        noise = np.clip(rng.normal(size=(count, 2)), -2, 2) * shift[:, None]
        centers = (layout.boxes[:, 2:] + layout.boxes[:, :2]) / 2 + sides * noise
        factors = np.clip(1 + rng.normal(size=count) * scale, 0.65, 1.4)
        is_turned = ~is_detected & (rng.random(count) < settings.rotation[0])
        angles = np.clip(rng.normal(size=count), -2, 2) * np.deg2rad(settings.rotation[1])
        matrices = crop_matrices(
            centers.astype(np.float32), window_sides(layout.boxes) * factors[:, None],
            np.where(is_turned, angles, 0), rng.random(count) < 0.5,
        )  # fmt: skip
        return matrices, is_turned

    def _crop(self, layout: _Layout, matrices: Array, crops: Pixels, i: int, rng: Rng) -> None:
        """Cut one crop, at times from fewer px or blurred."""
        x1, y1, x2, y2 = layout.limits[i].tolist()
        image = self.people.images[self.people.image[layout.rows[i]]][y1:y2, x1:x2]
        if rng.random() < self.settings.low_resolution:
            factor = rng.uniform(0.3, 0.8)
            size = (int(W * factor), int(H * factor))
            small = warp(image, matrices[i] * np.float32(factor), size, origin=(x1, y1))
            cv2.resize(small, (W, H), dst=crops[i], interpolation=cv2.INTER_LINEAR)
        else:
            warp(image, matrices[i], (W, H), origin=(x1, y1), out=crops[i])
        if rng.random() < self.settings.blur:
            crops[i] = cv2.GaussianBlur(crops[i], (0, 0), rng.uniform(0.5, 1.6))

    def _paste(self, layout: _Layout, matrices: Array, crops: Pixels, i: int, rng: Rng) -> Bools:
        """Paste a neighbour into one crop; returns the px (H, W) of the person that it covers."""
        nothing = np.zeros((H, W), np.bool_)
        cutouts = self.people.cutouts
        if layout.is_cut[i] or not cutouts or rng.random() >= self.settings.paste:
            return nothing
        cutout = cutouts[int(rng.integers(len(cutouts)))]
        corners = transform_points(layout.boxes[i].reshape(1, 2, 2), matrices[i : i + 1])[0]
        low, high = corners.min(0), corners.max(0)
        pasted = warp(cutout, place_cutout(cutout, low, high, rng), (W, H))
        shape: Bools = pasted[..., 3] > 127
        region = np.zeros_like(nothing)
        x1, y1, x2, y2 = np.clip([*low, *high], 0, [W, H, W, H]).astype(int)
        region[y1:y2, x1:x2] = True
        mask = self._true_mask(layout, matrices, i, nothing)
        if mask is not None and rng.random() < 0.3:  # behind the person
            shape = shape & ~mask
        person = region if mask is None else mask
        if (shape & person).sum() > self.settings.max_covered * person.sum():
            return nothing
        cv2.copyTo(pasted[..., :3], shape.astype(np.uint8), crops[i])
        return shape

    def _true_mask(self, layout: _Layout, matrices: Array, i: int, covered: Bools) -> Bools | None:
        """Annotated mask (H, W) of what shows of the person in a crop; None where unknown."""
        placed = self.people.true_masks[layout.rows[i]]
        return None if placed is None else _warp_mask(placed, matrices[i], layout, i) & ~covered

    def _dim(
        self, layout: _Layout, matrices: Array, crops: Pixels, covered: Bools, mask: Bools | None,
        i: int, rng: Rng,
    ) -> None:  # fmt: skip
        """Dim the background of one crop by a true, a detected, or a wrong mask."""
        placed = self.people.found_masks[layout.rows[i]]
        if rng.random() >= self.settings.mask or (mask is None and placed is None):
            return
        if placed is not None and (mask is None or rng.random() < 0.5):
            mask = _warp_mask(placed, matrices[i], layout, i)
            if covered.any() and rng.random() < 0.7:  # else the mask includes the neighbour
                mask &= ~covered
        assert mask is not None
        mask = spoil_mask(mask, self.settings.wrong_mask, rng)
        if mask.any():
            alpha = rng.choice([0.25, rng.uniform(0.25, 1.0), 1.0], p=[0.2, 0.4, 0.4])
            dim(crops[i], mask, alpha)

    def _person_boxes(self, layout: _Layout, matrices: Array) -> Array:
        """Boxes (B, 4) of the people in px of the crop; NaN where there is none."""
        boxes = self.people.person_boxes[layout.rows]
        corners = transform_points(boxes.reshape(-1, 2, 2), matrices)
        return np.concatenate([corners.min(1), corners.max(1)], 1)

    def _targets(
        self, layout: _Layout, matrices: Array, covered: Bools, boxes: Array, is_turned: Bools
    ) -> dict[str, Tensor]:
        points = transform_points(layout.keypoints[..., :2], matrices)
        levels, is_gone = layout.keypoints[..., 2].copy(), layout.is_gone
        is_flipped = np.linalg.det(matrices[:, :, :2]) < 0
        for values in (points, levels, is_gone):
            values[is_flipped] = values[is_flipped][:, FLIP]
        is_inside = ((points >= 0) & (points <= [W - 1, H - 1])).all(2)
        x, y = np.rint(np.clip(points, 0, [W - 1, H - 1])).astype(int).transpose(2, 0, 1)
        is_hidden = covered[np.arange(len(points))[:, None], y, x]
        is_person = np.isfinite(boxes).all(1)
        has_mask = np.array([self.people.true_masks[row] is not None for row in layout.rows])
        is_whole = ~layout.is_cut & (covered.mean((1, 2)) < 0.1)
        known = is_person & ~is_turned & (has_mask | is_whole)
        area = self.people.areas[layout.rows] * np.abs(np.linalg.det(matrices[:, :, :2]))
        fractions = np.nan_to_num(boxes / np.tile([W - 1, H - 1], 2))
        table = {
            'points': points, 'annotated': levels > 0, 'present': is_inside & ~is_gone,
            'visible': (levels == 2) & ~is_hidden, 'area': area[:, None], 'boxes': fractions,
            'known': known, 'judged': known | ~is_person,
        }  # fmt: skip
        return {name: torch.from_numpy(v.astype(np.float32)) for name, v in table.items()}


def half_bodies(boxes: Array, keypoints: Array, rng: Rng) -> tuple[Array, Bools]:
    """Boxes (B, 4) around the labelled keypoints of a part of the body, and where there are such.

    Args:
        boxes: (B, 4) of whole people.
        keypoints: (B, K, 3).
        rng: draws the parts.
    """
    labelled = keypoints[..., 2] > 0
    part = PARTS[rng.choice(3, len(boxes), p=[0.45, 0.2, 0.35])] & labelled
    possible = (labelled.sum(1) >= 6) & (part.sum(1) >= MIN_LABELLED)
    points = keypoints[..., :2]
    low = np.where(part[..., None], points, np.inf).min(1)
    high = np.where(part[..., None], points, -np.inf).max(1)
    low[~possible], high[~possible] = 0, 1
    margin = 0.25 * (high - low) + 0.02 * (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True)
    half = np.concatenate([low - margin, high + margin], 1)
    return np.asarray(half, np.float32), possible


def _cut_by_edge(
    box: Array, limits: NDArray[np.int64], keypoints: Array, is_gone: Bools, rng: Rng
) -> bool:
    """End the image inside a person, in place; False if too few keypoints would be left."""
    axis, is_high = [(1, True), (0, False), (0, True), (1, False)][
        rng.choice(4, p=[0.55, 0.17, 0.17, 0.11])
    ]
    low, high = box[axis], box[axis + 2]
    cut_off = rng.uniform(0.1, 0.65 if (axis, is_high) == (1, True) else 0.45)
    line = round(float(high - cut_off * (high - low) if is_high else low + cut_off * (high - low)))
    along, labelled = keypoints[:, axis], keypoints[:, 2] > 0
    beyond = along > line - 1 if is_high else along < line
    sides = (line - low, line - limits[axis]) if is_high else (high - line, limits[axis + 2] - line)
    if (labelled & ~beyond).sum() < MIN_LABELLED or min(sides) < 8:
        return False
    is_gone |= beyond
    limits[axis + 2 if is_high else axis] = line
    box[axis + 2 if is_high else axis] = line
    return True


def _warp_mask(placed: PlacedMask, matrix: Array, layout: _Layout, i: int) -> Bools:
    """A mask of the image as (H, W) of a crop, empty beyond the edge of the image."""
    x1, y1, x2, y2 = layout.limits[i].tolist()
    pixels = placed.pixels
    if layout.is_cut[i]:
        x, y = placed.x, placed.y
        pixels = pixels.copy()
        pixels[max(0, y2 - y) :], pixels[: max(0, y1 - y)] = 0, 0
        pixels[:, max(0, x2 - x) :], pixels[:, : max(0, x1 - x)] = 0, 0
    return np.asarray(warp(pixels, matrix, (W, H), origin=(placed.x, placed.y)) > 127)


def _box_of_mask(mask: Bools) -> Array:
    """Box (4,) xyxy px of a mask (H, W); NaN if it is empty."""
    x, y = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not len(x):
        return np.full(4, np.nan, np.float32)
    return np.array([x[0], y[0], x[-1], y[-1]], np.float32)


def spoil_mask(mask: Bools, chance: float, rng: Rng) -> Bools:
    """Errors of detectors: outline moved, parts lost or added, coarse cells."""
    pixels = mask.astype(np.uint8)
    moved, lost, added, coarse = rng.random(4) < chance
    if moved:
        side = int(rng.integers(1, 8)) * 2 + 1
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        change = cv2.erode if rng.random() < 0.5 else cv2.dilate
        pixels = np.asarray(change(pixels, kernel), np.uint8)
    for wanted, value in ((lost, 0), (added, 1)):
        if wanted:
            center = rng.integers(0, (W, H)).tolist()
            axes = rng.integers(8, 45, 2).tolist()
            cv2.ellipse(pixels, center, axes, rng.uniform(0, 180), 0, 360, value, -1)
    if coarse:
        cells = cv2.resize(pixels * np.uint8(255), (W // 10, H // 10), interpolation=cv2.INTER_AREA)
        smooth = cv2.resize(cells, (W, H), interpolation=cv2.INTER_LINEAR)
        return np.asarray(smooth > rng.uniform(90, 160), np.bool_)
    return pixels > 0


def dim(crop: Pixels, mask: Bools, alpha: float) -> None:
    """Multiply what lies outside a mask (H, W) by 1 - alpha, in place."""
    table = np.rint((1 - alpha) * np.arange(256)).astype(np.uint8)
    cv2.copyTo(cv2.LUT(crop, table), (~mask).view(np.uint8), crop)
