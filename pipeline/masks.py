"""Masks of people, stored as bitmaps of their boxes, never as a dense N x H x W array.

Legend: N masks in one image of H x W pixels; a crop covers the half-open pixel box
[x, x + w) x [y, y + h). The same layout holds soft masks (`LogitMasks`), with the
logit of each pixel: above 0 is person.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from .values import shorten

Bitmap = npt.NDArray[np.bool_]
Crop = npt.NDArray[Any]
Runs = npt.NDArray[np.int64]
_MAX_GROUPS = 7  # of 5 bits: runs of more than 32 bits do not exist


class MaskSource(IntEnum):
    """Source of a person's mask; every source but SAM is a fallback."""

    SAM = 0
    DETECTOR = 1
    BOX = 2


@dataclass(frozen=True, eq=False)
class _Crops:
    """Rows of 2-D crops of one image, each with its offset."""

    height: int
    width: int
    offsets: npt.NDArray[np.int32]  # (N, 2) x, y of the top-left pixel
    crops: tuple[Crop, ...] = field(repr=False)  # N arrays (h, w); (0, 0) when empty

    def __post_init__(self) -> None:
        if len(self.offsets) != len(self.crops):
            raise ValueError(f'{len(self.offsets)} offsets for {len(self.crops)} crops')
        for (x, y), crop in zip(self.offsets.tolist(), self.crops, strict=True):
            h, w = crop.shape
            if x < 0 or y < 0 or x + w > self.width or y + h > self.height:
                raise ValueError(
                    f'crop {w}x{h} at ({x}, {y}) does not fit an image of '
                    f'{self.width}x{self.height}'
                )

    def __len__(self) -> int:
        return len(self.crops)

    @classmethod
    def empty(cls, height: int, width: int, num: int = 0) -> Self:
        """``num`` empty masks of an image of (height, width) px."""
        nothing = np.zeros((0, 0), cls._dtype())
        return cls(height, width, np.zeros((num, 2), np.int32), (nothing,) * num)

    @classmethod
    def from_crops(cls, height: int, width: int, places: Iterable[tuple[int, int, Crop]]) -> Self:
        """Rows from (x, y, crop) triples; crops are not trimmed."""
        rows = list(places)
        offsets = np.array([(x, y) for x, y, _ in rows], np.int32).reshape(-1, 2)
        return cls(height, width, offsets, tuple(np.asarray(c, cls._dtype()) for *_, c in rows))

    @staticmethod
    def _dtype() -> npt.DTypeLike:
        return np.bool_

    def select(self, index: npt.NDArray[Any]) -> Self:
        """Rows at ``index`` (ints or bools), in that order."""
        rows = np.arange(len(self))[index]
        crops = tuple(self.crops[i] for i in rows.tolist())
        return type(self)(self.height, self.width, self.offsets[rows], crops)

    def concat(self, other: Self) -> Self:
        """Rows of ``self``, then rows of ``other``, which must be of the same image size.

        Raises:
            ValueError: the image sizes differ.
        """
        if (self.height, self.width) != (other.height, other.width):
            raise ValueError(
                f'masks of a {self.width}x{self.height} image cannot be joined with masks of a '
                f'{other.width}x{other.height} image'
            )
        offsets = np.concatenate([self.offsets, other.offsets])
        return type(self)(self.height, self.width, offsets, self.crops + other.crops)

    def window(self, i: int) -> tuple[slice, slice]:
        """Rows and columns of the image that crop ``i`` covers."""
        x, y = self.offsets[i].tolist()
        h, w = self.crops[i].shape
        return slice(y, y + h), slice(x, x + w)


class Masks(_Crops):
    """N binary masks; every crop is bool and as tight as the mask it holds."""

    @classmethod
    def from_dense(cls, masks: Iterable[npt.ArrayLike], shape: tuple[int, int]) -> Self:
        """Masks from (N, H, W) arrays of any numeric type; ``shape`` is (H, W).

        Masks are read one at a time, so a generator of (H, W) arrays needs memory for one mask.

        Raises:
            ValueError: a mask is not (H, W).
        """
        return cls.from_places(*shape, ((0, 0, m) for m in masks))

    @classmethod
    def from_places(
        cls, height: int, width: int, places: Iterable[tuple[int, int, npt.ArrayLike]]
    ) -> Self:
        """Masks from (x, y, crop) triples; each crop is trimmed to the mask inside it."""
        return cls.from_crops(height, width, (_trim(x, y, np.asarray(c)) for x, y, c in places))

    @classmethod
    def from_boxes(cls, boxes: npt.NDArray[np.float32], shape: tuple[int, int]) -> Self:
        """Filled boxes (N, 4) xyxy px, clipped to an image of ``shape`` (H, W)."""
        height, width = shape
        lo = np.clip(np.floor(boxes[:, :2]), 0, [width, height]).astype(int)
        hi = np.clip(np.ceil(boxes[:, 2:]), 0, [width, height]).astype(int)
        sizes = np.maximum(hi - lo, 0)
        places = [
            (x, y, np.ones((h, w), bool))
            for (x, y), (w, h) in zip(lo.tolist(), sizes.tolist(), strict=True)
        ]
        return cls.from_places(height, width, places)

    @classmethod
    def from_rle(cls, rles: Sequence[dict[str, Any]], shape: tuple[int, int]) -> Self:
        """Masks from COCO RLE dicts (``size`` [H, W], ``counts`` str, bytes or list)."""
        height, width = shape
        return cls.from_places(
            height, width, (_from_runs(_counts(rle, height, width), height) for rle in rles)
        )

    def to_rle(self) -> list[dict[str, Any]]:
        """COCO RLE of each mask, ``counts`` as str, encoded on the crop (cost of the crop only)."""
        return [self._rle(i) for i in range(len(self))]

    def _rle(self, i: int) -> dict[str, Any]:
        from pycocotools import mask as coco_mask

        size = [self.height, self.width]
        counts = _runs(self.crops[i], *self.offsets[i].tolist(), *size)
        rle = coco_mask.frPyObjects({'size': size, 'counts': counts.tolist()}, *size)
        return {'size': size, 'counts': rle['counts'].decode()}

    def dense(self, i: int) -> Bitmap:
        """Mask ``i`` at image size, (H, W) bool."""
        full = np.zeros((self.height, self.width), bool)
        full[self.window(i)] = self.crops[i]
        return full

    def to_dense(self) -> Bitmap:
        """All masks at image size, (N, H, W) bool; takes N x H x W bytes."""
        full = np.zeros((len(self), self.height, self.width), bool)
        for i, crop in enumerate(self.crops):
            full[i][self.window(i)] = crop
        return full

    def crop(self, i: int, window: tuple[slice, slice]) -> Bitmap:
        """The part of mask ``i`` inside a window (rows, columns with start and stop), bool."""
        result = np.zeros([w.stop - w.start for w in window], bool)
        inner, outer = [], []
        for source, target in zip(self.window(i), window, strict=True):
            start, stop = max(source.start, target.start), min(source.stop, target.stop)
            if start >= stop:
                return result
            inner.append(slice(start - source.start, stop - source.start))
            outer.append(slice(start - target.start, stop - target.start))
        result[tuple(outer)] = self.crops[i][tuple(inner)]
        return result

    def union(self) -> Bitmap:
        """Pixels covered by any mask, (H, W) bool."""
        full = np.zeros((self.height, self.width), bool)
        for i, crop in enumerate(self.crops):
            full[self.window(i)] |= crop
        return full

    @property
    def areas(self) -> npt.NDArray[np.float32]:
        """Pixels in each mask, (N,)."""
        return np.array([c.sum() for c in self.crops], np.float32).reshape(-1)

    @property
    def boxes(self) -> npt.NDArray[np.float32]:
        """Tight boxes (N, 4) xyxy px; all zero for an empty mask."""
        sizes = np.array([c.shape[::-1] for c in self.crops], np.float32).reshape(-1, 2)
        corners = [self.offsets, self.offsets + sizes]
        return np.concatenate(corners, axis=1, dtype=np.float32)

    def covered(self, canvas: Bitmap) -> npt.NDArray[np.float32]:
        """Fraction of each mask that lies on ``canvas`` (H, W) bool; (N,) in [0, 1], 0 if empty."""
        hits = [np.logical_and(canvas[self.window(i)], c).sum() for i, c in enumerate(self.crops)]
        return np.asarray(np.array(hits).reshape(-1) / np.maximum(self.areas, 1), np.float32)


class LogitMasks(_Crops):
    """N soft masks: float16 logits over the box where they are above 0."""

    @staticmethod
    def _dtype() -> npt.DTypeLike:
        return np.float16

    def binary(self) -> Masks:
        """Pixels with a logit above 0, overlaps kept."""
        places = ((*xy, c > 0) for xy, c in zip(self.offsets.tolist(), self.crops, strict=True))
        return Masks.from_places(self.height, self.width, places)

    @classmethod
    def from_masks(cls, masks: Masks, logit: float) -> Self:
        """The same logit on every pixel of each mask, minus it elsewhere in the crop."""
        crops = tuple(np.where(c, logit, -logit).astype(np.float16) for c in masks.crops)
        return cls(masks.height, masks.width, masks.offsets, crops)


def assign_pixels(
    logits: LogitMasks, weights: npt.NDArray[np.floating[Any]] | None = None
) -> Masks:
    """Give each pixel to the person with the highest logit there; ties to the earlier row.

    Pixels with a logit at or below 0 are background. ``weights`` (N,), above 0, are factors of the
    logits: of equal logits, the one with the higher weight wins.
    """
    return stack_masks(claim_pixels(logits, np.arange(len(logits)), weights))


def claim_pixels(
    logits: LogitMasks,
    order: npt.NDArray[Any],
    weights: npt.NDArray[np.floating[Any]] | None = None,
) -> Masks:
    """Compute the pixels that each person wins against those before it in ``order``.

    The masks are in ``order`` and may overlap. `stack_masks` of the first n equals `assign_pixels`
    of these n people, for every n. The cost is linear in the number of people.
    """
    best = np.zeros((logits.height, logits.width), np.float16)
    owner = _owner_canvas(logits)
    claims = []
    for i in order.tolist():
        window, crop = logits.window(i), logits.crops[i]
        claim = crop if weights is None else crop * np.float16(weights[i])
        wins = (claim > best[window]) | ((claim == best[window]) & (owner[window] > i))
        best[window][wins] = claim[wins]
        owner[window][wins] = i
        claims.append((*logits.offsets[i].tolist(), wins))
    return Masks.from_places(logits.height, logits.width, claims)


def stack_masks(masks: Masks) -> Masks:
    """Give each pixel to the last mask that covers it."""
    owner = _owner_canvas(masks)
    for i, crop in enumerate(masks.crops):
        owner[masks.window(i)][crop] = i
    places = ((*xy, owner[masks.window(i)] == i) for i, xy in enumerate(masks.offsets.tolist()))
    return Masks.from_places(masks.height, masks.width, places)


def _owner_canvas(masks: _Crops) -> npt.NDArray[Any]:
    # Two bytes per pixel are enough for any crowd in one image.
    dtype = np.int16 if len(masks) < 2**15 else np.int32
    return np.full((masks.height, masks.width), -1, dtype)


def _trim(x: int, y: int, crop: Crop) -> tuple[int, int, Bitmap]:
    on = crop.astype(bool)
    rows, cols = np.flatnonzero(on.any(1)), np.flatnonzero(on.any(0))
    if len(rows) == 0:
        return 0, 0, np.zeros((0, 0), bool)
    top, left = int(rows[0]), int(cols[0])
    tight = on[top : rows[-1] + 1, left : cols[-1] + 1]
    # A copy, so that a small mask does not keep the whole array alive.
    return x + left, y + top, tight.copy()


def _runs(crop: Bitmap, x: int, y: int, height: int, width: int) -> Runs:
    """COCO's counts of a crop at (x, y): pixels off, on, off, ... down the columns of the image."""
    w = crop.shape[1]
    columns = np.zeros((w, crop.shape[0] + 2), np.int8)
    columns[:, 1:-1] = crop.T
    steps = np.diff(columns, axis=1)
    starts, stops = (
        (column + x) * height + row + y for column, row in map(np.nonzero, (steps > 0, steps < 0))
    )
    if crop.shape[0] == height and len(starts):  # runs may go on in the next column
        joined = starts[1:] == stops[:-1]
        starts, stops = starts[np.append(True, ~joined)], stops[np.append(~joined, True)]
    edges = np.stack([starts, stops], axis=1).ravel()
    counts = np.diff(np.concatenate([[0], edges, [height * width]]))
    # A mask that ends with the image: COCO writes no empty last run.
    return counts[:-1] if counts[-1] == 0 else counts


def _from_runs(counts: Runs, height: int) -> tuple[int, int, Bitmap]:
    """Left, top and crop of the mask with these counts, in an image of ``height`` px."""
    edges = np.cumsum(counts)
    starts, stops = edges[:-1:2], edges[1::2]
    starts, stops = starts[stops > starts], stops[stops > starts]
    if len(starts) == 0:
        return 0, 0, np.zeros((0, 0), bool)
    left, right = int(starts[0]) // height, -(-int(stops[-1]) // height)
    steps = np.zeros((right - left) * height + 1, np.int8)
    np.add.at(steps, starts - left * height, 1)
    np.add.at(steps, stops - left * height, -1)
    columns = np.cumsum(steps[:-1], dtype=np.int8).reshape(right - left, height)
    return left, 0, columns.T.astype(bool)


def _counts(rle: dict[str, Any], height: int, width: int) -> Runs:
    """Counts of a COCO RLE dict, decompressed.

    Raises:
        ValueError: it is damaged or of another size; see `find_rle_error`.
    """
    if (error := find_rle_error(rle, height, width)) is not None:
        raise ValueError(error)
    counts = rle['counts']
    return np.array(counts, np.int64) if isinstance(counts, list) else decode_counts(counts)


def find_rle_error(rle: Any, height: int, width: int) -> str | None:
    """Describe what is wrong with a COCO RLE of an image; None: nothing.

    The COCO API checks nothing: it reads past the end of damaged counts.
    """
    if not isinstance(rle, dict) or not {'size', 'counts'} <= set(rle):
        return 'a mask as RLE needs size and counts'
    size, counts = rle['size'], rle['counts']
    if not isinstance(size, list | tuple) or list(size) != [height, width]:
        return f'RLE of size {shorten(size)} for an image of [{height}, {width}] (H, W)'
    if not isinstance(counts, list | str | bytes):
        return f'counts of an RLE must be whole numbers or text, got {type(counts).__name__}'
    try:
        runs = np.asarray(counts) if isinstance(counts, list) else decode_counts(counts)
    except (ValueError, OverflowError) as error:
        return f'counts of an RLE: {error}'
    if runs.ndim != 1 or (runs.size and runs.dtype.kind not in 'iu'):
        return f'counts of an RLE must be whole numbers or text, got {shorten(counts)}'
    if not runs.size or runs.min() < 0 or runs.max() > height * width:
        return f'counts of an RLE must be runs in [0, {height * width}], got {shorten(counts)}'
    if runs.sum() != height * width:
        return f'the runs of the RLE cover {runs.sum()} of {height * width} px'
    return None


def decode_counts(counts: str | bytes) -> Runs:
    """Decode the run lengths of a compressed RLE (`rleFrString` of the COCO API).

    A run is a number in groups of 5 bits, lowest first, stored as characters from 48 on. The 6th
    bit marks that more groups follow; the 5th bit of the last group is the sign. From the fourth
    run on, a number is the difference to the run before the last.

    Raises:
        ValueError: the text is no such counts, or ends within a number.
    """
    text = counts.encode(errors='replace') if isinstance(counts, str) else counts
    if text[:2] in (b"b'", b'b"'):
        raise ValueError(f"{shorten(text)} is printed Python bytes; write counts.decode('ascii')")
    groups = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if len(groups) == 0:
        return np.zeros(0, np.int64)
    ends = np.flatnonzero((groups & 32) == 0)
    if groups.min() < 0 or groups.max() > 63 or len(ends) == 0 or ends[-1] + 1 != len(groups):
        raise ValueError(f'{shorten(counts)} has other characters than an RLE, or its end is cut')
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MAX_GROUPS:
        raise ValueError(f'{shorten(counts)} has a run longer than any image')
    shifts = 5 * (np.arange(len(groups)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((groups & 31) << shifts, starts)
    runs -= ((groups[ends] & 16) > 0) * (1 << 5 * lengths)
    runs[1::2], runs[2::2] = np.cumsum(runs[1::2]), np.cumsum(runs[2::2])
    return np.asarray(runs, np.int64)
