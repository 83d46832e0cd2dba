"""Images in memory and augmented crops for the detector.

Legend: B crops of S x S px, M masked people of the fullest crop, T of the batch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .crops import Array, Bools, Pixels, Rng, change_colours, normalize, warp
from .pose_data import PlacedMask, box_of, find_image, mask_of, read_images

FILL = 114  # grey beside the image
MEAN, STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)  # BGR
CELL = 4  # px per cell of the masks


@dataclass(frozen=True, eq=False)
class Images:
    """Images with the masks of some of their people.

    Attributes:
        pixels: BGR uint8 (H, W, 3).
        boxes: of all people, float32 (M, 4) xyxy px.
        crowds: boxes of groups of people, float32 (C, 4), likewise.
        masks: of people, None where there is none.
        image_ids: of the COCO file.
        are_complete: whether every person of an image has a box.
    """

    pixels: Sequence[Pixels]
    boxes: Sequence[Array]
    crowds: Sequence[Array]
    masks: Sequence[Sequence[PlacedMask | None]]
    image_ids: Sequence[int]
    are_complete: Sequence[bool]

    def __len__(self) -> int:
        return len(self.pixels)


def load_images(
    annotations: Path, subset: str | None = None, max_images: int | None = None,
    backgrounds: Path | None = None,
) -> Images:  # fmt: skip
    """Read the images of a COCO file, and images without people of a list of files."""
    content = json.loads(annotations.read_text())
    images = [i for i in content['images'] if subset is None or i.get('subset') == subset]
    images = images[:max_images]
    people: dict[int, list[Any]] = {image['id']: [] for image in images}
    for annotation in content['annotations']:
        if annotation['image_id'] in people:
            people[annotation['image_id']].append(annotation)
    names = [image['file_name'] for image in images]
    if backgrounds is not None:
        names += [row['file_name'] for row in json.loads(backgrounds.read_text())][:max_images]
    extra = len(names) - len(images)
    annotated = [people[image['id']] for image in images] + [[]] * extra
    rows, crowds = ([[a for a in row if bool(a.get('iscrowd')) == is_crowd] for row in annotated]
                    for is_crowd in (False, True))  # fmt: skip
    sizes = [(image['height'], image['width']) for image in images] + [(0, 0)] * extra
    return Images(
        read_images(find_image(annotations.parent, name) for name in names),
        [_boxes(row) for row in rows],
        [_boxes(row) for row in crowds],
        [[mask_of(a, s) for a in row] for row, s in zip(rows, sizes, strict=True)],
        [image['id'] for image in images] + [-1] * extra,
        [image.get('fully_annotated', True) for image in images] + [False] * extra,
    )


def _boxes(annotations: Sequence[Any]) -> Array:
    return np.array([box_of(a) for a in annotations], np.float32).reshape(-1, 4)


@dataclass(frozen=True, eq=False)
class DetectorBatch:
    """Crops and targets.

    Attributes:
        images: (B, 3, S, S), normalized BGR; some people are painted black.
        teacher_images: the same without painted people.
        painted: (B, P, 4), boxes of the painted people, xyxy px; zeros beside them.
        people: (B, M, 4), boxes of the people with masks.
        is_person: bool (B, M).
        masks: (T, S / 4, S / 4), covered fractions in the order of `is_person.nonzero()`.
    """

    images: Tensor
    teacher_images: Tensor
    painted: Tensor
    people: Tensor
    is_person: Tensor
    masks: Tensor


@dataclass(frozen=True)
class DetectorAugmentation:
    """Settings of the augmentation.

    Attributes:
        crop: S, a multiple of 32.
        side: longer side of an image in px at scale 1.
        scale: smallest and largest scale.
        paint: chance that masked people are painted black, as the loop paints people it found.
        colour: as in the pose model.
    """

    crop: int = 320
    side: int = 448
    scale: tuple[float, float] = (0.5, 1.3)
    paint: float = 0.25
    colour: tuple[float, float, float, float] = (0.3, 0.3, 0.5, 0.05)


class DetectorSampler:
    """Draws batches from images."""

    def __init__(self, images: Images, settings: DetectorAugmentation) -> None:
        self.images = images
        self.settings = settings

    def make_batch(self, rng: Rng, size: int) -> DetectorBatch:
        """Draw and augment `size` crops."""
        side = self.settings.crop
        rows = rng.integers(len(self.images), size=size)
        crops = np.empty((size, side, side, 3), np.uint8)
        extents = np.zeros((size, 2), np.int64)
        layers: list[list[Pixels]] = []
        for i, row in enumerate(rows):
            image = self.images.pixels[row]
            matrix, extents[i] = self._draw_matrix(image, rng)
            warp(image, matrix, (side, side), out=crops[i])
            layers.append(_warp_masks(self.images.masks[row], matrix, side))
        change_colours(crops, self.settings.colour, rng)
        for crop, (width, height) in zip(crops, extents, strict=True):
            crop[height:], crop[:, width:] = FILL, FILL
        bgr: Pixels = crops[..., ::-1]
        clean = normalize(bgr, MEAN, STD)
        kept, painted = self._paint(bgr, layers, rng)
        images = normalize(bgr, MEAN, STD) if painted.any() else clean
        return DetectorBatch(images, clean, painted, *_stack_people(kept, side))

    def _draw_matrix(self, image: Pixels, rng: Rng) -> tuple[Array, Any]:
        """Map (2, 3) from an image to a crop, and width and height of what it covers in px.

        A small image lies at the top left.
        """
        height, width = image.shape[:2]
        settings, side = self.settings, self.settings.crop
        low, high = np.log(settings.scale)
        scale = np.exp(rng.uniform(low, high)) * settings.side / max(height, width)
        free = np.maximum(np.array([width, height]) * scale - side, 0)
        offset = rng.random(2) * free
        # Positions count from the corner of the first px, as in a resize.
        shift = (scale - 1) / 2 - offset
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)
        extent = np.minimum(np.rint(np.array([width, height]) * scale), side).astype(int)
        if rng.random() < 0.5:
            matrix[0] *= -1
            matrix[0, 2] += extent[0] - 1
        return matrix, extent

    def _paint(
        self, crops: Pixels, layers: list[list[Pixels]], rng: Rng
    ) -> tuple[list[list[Pixels]], Tensor]:
        """Paint some people black, in place; returns the masks of the others and painted boxes."""
        kept: list[list[Pixels]] = []
        boxes: list[list[Array]] = []
        for crop, masks in zip(crops, layers, strict=True):
            fraction = 0.7 if rng.random() < self.settings.paint else 0.0
            is_painted = rng.random(len(masks)) < fraction
            hidden = np.zeros(crop.shape[:2], np.bool_)
            for mask, paint in zip(masks, is_painted, strict=True):
                if paint:
                    hidden |= mask > 127
            crop[hidden] = 0
            visible = [m * ~hidden for m, p in zip(masks, is_painted, strict=True) if not p]
            kept.append([m for m in visible if (m > 127).sum() >= CELL**2])
            boxes.append([_box(m > 127) for m, p in zip(masks, is_painted, strict=True) if p])
        return kept, _pad_boxes(boxes)[0]


def _warp_masks(
    masks: Sequence[PlacedMask | None], matrix: NDArray[np.float32], side: int
) -> list[Pixels]:
    """Masks of the people who show in a crop, uint8 (S, S)."""
    found = []
    for placed in masks:
        if placed is None:
            continue
        mask = warp(placed.pixels, matrix, (side, side), origin=(placed.x, placed.y))
        if (mask > 127).sum() >= CELL**2:
            found.append(mask)
    return found


def _box(mask: Bools) -> Array:
    x, y = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return np.array([x[0], y[0], x[-1] + 1, y[-1] + 1], np.float32)


def _pad_boxes(boxes: Sequence[Sequence[Array]]) -> tuple[Tensor, Tensor]:
    """Boxes (B, M, 4) with zeros, and which of them are boxes, bool (B, M)."""
    most = max(1, *(len(row) for row in boxes))
    table = np.zeros((len(boxes), most, 4), np.float32)
    is_box = np.zeros((len(boxes), most), np.bool_)
    for i, row in enumerate(boxes):
        for j, box in enumerate(row):
            table[i, j], is_box[i, j] = box, True
    return torch.from_numpy(table), torch.from_numpy(is_box)


def _stack_people(masks: list[list[Pixels]], side: int) -> tuple[Tensor, Tensor, Tensor]:
    cells = side // CELL
    boxes, is_person = _pad_boxes([[_box(m > 127) for m in row] for row in masks])
    small = [
        cv2.resize(mask, (cells, cells), interpolation=cv2.INTER_AREA)
        for row in masks for mask in row
    ]  # fmt: skip
    stacked = np.array(small, np.float32).reshape(-1, cells, cells) / 255
    return boxes, is_person, torch.from_numpy(stacked)
