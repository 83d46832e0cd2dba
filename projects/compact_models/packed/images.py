"""Packed images, decoded and wholly on the device.

Legend: P images, M entries (people and ignored regions) of the fullest image, K known masks, S the
longest side in px (`Packed.side`). An image lies at the top left of its S x S frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor
from typing_extensions import Self

from pipeline.masks import find_rle_error

from .file import CELL, Packed

FILL = 114  # the grey that MMDetection's YOLOX and RTMDet pad with
_CHUNK = 256  # images or masks that are decoded before they go to the device


@dataclass(frozen=True, eq=False)
class ImagesOnDevice:
    """Pixels and targets of many images, all on one device.

    Attributes:
        pixels: uint8 (P, 3, S, S), BGR; 114 beside the image.
        sizes: int32 (P, 2), height and width of the images in px.
        boxes: float32 (P, M, 4), xyxy px; zeros where an image has fewer entries.
        is_person: bool (P, M).
        is_ignored: bool (P, M), regions that teach nothing.
        mask_rows: int64 (P, M), rows of `masks`; -1: no mask is known, or there is no person.
        masks: uint8 (K, S / 4, S / 4), covered fraction of each cell of 4 x 4 px, 255 = all.
    """

    pixels: Tensor
    sizes: Tensor
    boxes: Tensor
    is_person: Tensor
    is_ignored: Tensor
    mask_rows: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def side(self) -> int:
        """S, px."""
        return self.pixels.shape[-1]

    @classmethod
    def load(
        cls,
        paths: Iterable[Path],
        device: torch.device | str,
        *,
        threads: int = 8,
        max_people: int = 40,
    ) -> Self:
        """Reads packed files and decodes everything.

        Args:
            paths: files of `Packed.save` with the same longest side.
            device: where the tensors go.
            threads: that decode, 1 or more.
            max_people: of an image with more people the smallest boxes become ignored regions.

        Raises:
            ValueError: a file is no packed file or cannot be decoded, the longest sides differ, or
                a setting is below 1.
        """
        for name, value in (('threads', threads), ('max_people', max_people)):
            if value < 1:
                raise ValueError(f'{name} = {value} must be 1 or more')
        packed = Packed.join([Packed.load(path) for path in paths])
        image, slot, is_person = _entries(packed, max_people)
        masked = is_person & (np.diff(packed.rle_ends.numpy(), prepend=0) > 0)
        with ThreadPoolExecutor(threads) as pool:
            pixels = _decode_images(packed, pool, torch.device(device))
            rows = np.flatnonzero(masked)
            masks = _decode_masks(packed, rows, image[rows], pool, torch.device(device))
        shape = (len(packed), max(1, int(slot.max(initial=0)) + 1))

        def padded(values: NDArray[np.generic], empty: int) -> Tensor:
            full = np.full((*shape, *values.shape[1:]), empty, values.dtype)
            full[image, slot] = values
            return torch.from_numpy(full).to(device)

        return cls(
            pixels=pixels,
            sizes=packed.sizes.to(device),
            boxes=padded(packed.boxes.numpy(), 0),
            is_person=padded(is_person, 0),
            is_ignored=padded(~is_person, 0),
            mask_rows=padded(np.where(masked, np.cumsum(masked) - 1, -1).astype(np.int64), -1),
            masks=masks,
        )


def _entries(
    packed: Packed, max_people: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Image, place in the image and whether a person, of each of the Q rows; (Q,) each."""
    ends = packed.person_ends.numpy()
    counts = np.diff(ends, prepend=0)
    image = np.repeat(np.arange(len(packed)), counts)
    slot = np.arange(len(image)) - (ends - counts)[image]
    boxes, ignored = packed.boxes.numpy(), packed.ignored.numpy()
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    # Within an image people come first, the largest before the others.
    order = np.lexsort((-areas, ignored, image))
    rank = np.empty_like(slot)
    rank[order] = slot
    return image, slot, ~ignored & (rank < max_people)


def _decode_images(packed: Packed, pool: ThreadPoolExecutor, device: torch.device) -> Tensor:
    side, ends = packed.side, packed.encoded_ends.tolist()
    starts = [0, *ends[:-1]]
    data, sizes = packed.encoded.numpy(), packed.sizes.tolist()

    def decode(row: int) -> NDArray[np.uint8]:
        image = cv2.imdecode(data[starts[row] : ends[row]], cv2.IMREAD_COLOR)
        if image is None or list(image.shape[:2]) != sizes[row]:
            raise ValueError(f'image {int(packed.ids[row])} of the packed file is damaged')
        frame = np.full((3, side, side), FILL, np.uint8)
        frame[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
        return frame

    pixels = torch.empty((len(packed), 3, side, side), dtype=torch.uint8, device=device)
    for start in range(0, len(packed), _CHUNK):
        rows = range(start, min(start + _CHUNK, len(packed)))
        pixels[start : rows.stop] = torch.from_numpy(np.stack(list(pool.map(decode, rows))))
    return pixels


def _decode_masks(
    packed: Packed,
    rows: NDArray[np.intp],
    images: NDArray[np.int64],
    pool: ThreadPoolExecutor,
    device: torch.device,
) -> Tensor:
    """Cells of the masks of K rows, whose images are (K,)."""
    side, ends = packed.side, packed.rle_ends.tolist()
    starts = [0, *ends[:-1]]
    data, sizes = packed.rle.numpy(), packed.sizes.tolist()
    cells = side // CELL

    def decode(row: int, image: int) -> NDArray[np.uint8]:
        height, width = sizes[image]
        counts = data[starts[row] : ends[row]].tobytes()
        text = {'size': [height, width], 'counts': counts.decode('latin-1')}
        if reason := find_rle_error(text, height, width):
            raise ValueError(f'a mask of image {int(packed.ids[image])} is damaged: {reason}')
        frame = np.zeros((side, side), np.uint8)
        frame[:height, :width] = coco_mask.decode({**text, 'counts': counts})
        fractions = cv2.resize(frame * np.uint8(255), (cells, cells), interpolation=cv2.INTER_AREA)
        return fractions.astype(np.uint8, copy=False)

    masks = torch.empty((len(rows), cells, cells), dtype=torch.uint8, device=device)
    for start in range(0, len(rows), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        decoded = list(pool.map(decode, rows[chunk].tolist(), images[chunk].tolist()))
        masks[chunk] = torch.from_numpy(np.stack(decoded))
    return masks
