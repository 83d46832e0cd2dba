"""Endless batches of augmented crops, made on the device from packed images.

Legend: B crops of a batch, M entries (people and ignored regions) of the fullest one, T people with
a known mask in the batch, S side of the images' frame.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import DATASETS
from torch import Generator, Tensor
from torch.utils.data import IterableDataset, get_worker_info

from .colour import ColourJitter
from .file import CELL
from .images import FILL, ImagesOnDevice
from .windows import Windows, sample

_ORDER, _BATCH = 0, 1  # what random numbers are for
_MIN_LEFT = 0.1  # people with a smaller visible fraction become ignored regions


@dataclass(frozen=True, eq=False)
class PackedTargets:
    """What the crops of a batch show. The entries of a crop that are neither have zero boxes.

    Attributes:
        boxes: float32 (B, M, 4), xyxy px of the crop, inside it.
        is_person: bool (B, M).
        is_ignored: bool (B, M), regions that teach nothing.
        has_mask: bool (B, M), people whose mask is known.
        masks: float32 (T, crop / 4, crop / 4), fraction covered in [0, 1]; the rows are those of
            `has_mask.nonzero()`.
        painted: bool (B,), crops with painted people.
    """

    boxes: Tensor
    is_person: Tensor
    is_ignored: Tensor
    has_mask: Tensor
    masks: Tensor
    painted: Tensor


@dataclass(frozen=True, eq=False)
class _Entries:
    """People and ignored regions of a batch; the (B, M) tensors of `PackedTargets`."""

    boxes: Tensor
    is_person: Tensor
    is_ignored: Tensor
    mask_rows: Tensor


@DATASETS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PackedCrops(IterableDataset[dict[str, Any]]):
    """Batches of crops with targets, all tensors on the device.

    An item is a whole batch: `inputs` float32 (B, 3, crop, crop), BGR in [0, 255], and
    `data_samples`, a `PackedTargets`. Every image comes once per epoch, in another order each time.
    Each pass over the data set gives the same batches, from number `first` on: a training that goes
    on sets it to the number of steps done.

    Needs a loader without processes and batches of its own; in a config of MMEngine:
    `dict(dataset=..., sampler=None, batch_size=None, num_workers=0,
    collate_fn=dict(type='torch.utils.data.default_convert'))`. One process, one GPU: the batches of
    several would be the same.

    The loop hides the people it has found by painting them black; a detector must learn that a
    black figure is no person, see `RemoveRandomInstances`. Here painted people are gone from the
    targets, and at least one person of the crop is not painted. Of a person behind them only the
    part that still shows is left in the mask; if that is under a tenth, an ignored region.

    Args:
        paths: packed files (`pack_images.py`), or a pattern such as 'data/packed/*.pt'.
        batch_size: B.
        crop: side of the crops in px, a multiple of 32.
        scale: smallest and largest scale of a packed image, uniform in its logarithm.
        flip: chance that a crop is mirrored.
        brightness: see `ColourJitter`; also contrast, saturation and hue.
        contrast: see there.
        saturation: see there.
        hue: see there.
        remove_prob: chance that a crop with two people or more has some of those with known masks
            painted.
        min_side: px of the crop; boxes with a smaller side are dropped.
        device: where the images lie and the batches are made.
        seed: of all random numbers, 0 or more; the same seed gives the same batches.
        max_people: see `ImagesOnDevice.load`.

    Raises:
        ValueError: a setting is out of range, there is no such device, or no file.
    """

    metainfo = {'classes': ('person',)}  # noqa: RUF012 (MMEngine's name)

    def __init__(
        self,
        paths: str | Sequence[str | Path],
        *,
        batch_size: int,
        crop: int,
        scale: Sequence[float] = (0.5, 1.3),
        flip: float = 0.5,
        brightness: float = 0.3,
        contrast: float = 0.3,
        saturation: float = 0.5,
        hue: float = 0.03,
        remove_prob: float = 0.2,
        min_side: float = 3.0,
        device: str = 'cuda',
        seed: int = 0,
        max_people: int = 40,
    ) -> None:
        _require(batch_size >= 1, 'batch_size', batch_size, '1 or more')
        _require(crop >= 32 and crop % 32 == 0, 'crop', crop, 'a positive multiple of 32 px')
        is_range = len(scale) == 2 and 0 < scale[0] <= scale[1]
        _require(is_range, 'scale', scale, '(smallest, largest), both above 0')
        for name, chance in (('flip', flip), ('remove_prob', remove_prob)):
            _require(0 <= chance <= 1, name, chance, 'a value in [0, 1]')
        _require(min_side >= 0, 'min_side', min_side, '0 px or more')
        self.colour = ColourJitter(brightness, contrast, saturation, hue)
        self.batch_size = batch_size
        self.crop = crop
        self.scale = tuple(scale)
        self.flip = flip
        self.remove_prob = remove_prob
        self.min_side = min_side
        _require(seed >= 0, 'seed', seed, '0 or more')
        self.seed = seed
        self.first = 0
        self.device = _device(device)
        self.images = ImagesOnDevice.load(_files(paths), self.device, max_people=max_people)

    def __len__(self) -> int:
        """Batches until each image has come once."""
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Endless batches, from number `first` on.

        Raises:
            RuntimeError: in a process of a data loader, which the device's tensors cannot reach.
        """
        if get_worker_info() is not None:
            raise RuntimeError('PackedCrops makes batches on the device; give num_workers = 0')
        for number in itertools.count(self.first):
            yield self.batch(self._drawn(number), self._generator(_BATCH, number))

    def _drawn(self, number: int) -> Tensor:
        """Images of a batch, int64 (B,): each image once per epoch, in another order each time."""
        start, total = number * self.batch_size, len(self.images)
        last = (start + self.batch_size - 1) // total
        orders = [
            torch.randperm(total, generator=self._generator(_ORDER, epoch), device=self.device)
            for epoch in range(start // total, last + 1)
        ]
        start %= total
        return torch.cat(orders)[start : start + self.batch_size]

    def _generator(self, use: int, number: int) -> Generator:
        """Random numbers that depend on nothing that came before, so that a run can go on."""
        words = np.random.SeedSequence((self.seed, use, number)).generate_state(1, np.uint64)
        return Generator(self.device).manual_seed(int(words[0] >> np.uint64(1)))

    @torch.no_grad()
    def batch(self, rows: Tensor, generator: Generator) -> dict[str, Any]:
        """Crops of the given images.

        Args:
            rows: int64 (B,), images.
            generator: on the device.

        Returns:
            As an item of the data set.
        """
        images = self.images
        windows = Windows.draw(
            images.sizes[rows], self.crop, scale=self.scale, flip=self.flip, generator=generator
        )
        entries = self._entries(rows, windows)
        theta = windows.theta(images.side)
        pixels = sample(images.pixels[rows], theta, self.crop, edge='border')
        pixels = self.colour(pixels, generator)
        targets, hidden = self._paint(entries, theta, generator)
        # Painted and padded last: black and grey are what the detector sees, whatever the colours.
        pixels.masked_fill_(sample(hidden, theta, self.crop) > 0.5, 0)
        pixels.masked_fill_(windows.outside()[:, None], FILL)
        return {'inputs': pixels, 'data_samples': targets}

    def _entries(self, rows: Tensor, windows: Windows) -> _Entries:
        """People and ignored regions inside the windows, those of a crop first in its row."""
        images = self.images
        whole = windows.boxes(images.boxes[rows])
        boxes = whole.clamp(0, self.crop)
        sides = boxes[..., 2:] - boxes[..., :2]
        left = sides.prod(-1) / (whole[..., 2:] - whole[..., :2]).prod(-1).clamp(min=1e-6)
        is_seen = ((sides >= self.min_side) & (sides > 0)).all(-1)
        was_person = images.is_person[rows] & is_seen
        is_person = was_person & (left >= _MIN_LEFT)
        is_ignored = (images.is_ignored[rows] & is_seen) | (was_person & ~is_person)
        is_entry = is_person | is_ignored
        most = max(1, int(is_entry.sum(1).max().item()))
        order = (~is_entry).int().argsort(dim=1, stable=True)[:, :most]
        is_entry = is_entry.gather(1, order)
        boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4))
        return _Entries(
            boxes=boxes * is_entry[..., None],
            is_person=is_person.gather(1, order),
            is_ignored=is_ignored.gather(1, order),
            mask_rows=images.mask_rows[rows].gather(1, order),
        )

    def _paint(
        self, entries: _Entries, theta: Tensor, generator: Generator
    ) -> tuple[PackedTargets, Tensor]:
        """Targets without painted people, and painted fractions (B, 1, S / 4, S / 4) in [0, 1]."""
        has_mask = entries.is_person & (entries.mask_rows >= 0)
        removed = choose_removed(entries.is_person, has_mask, self.remove_prob, generator)
        crop_of, slot = has_mask.nonzero(as_tuple=True)
        masks = self.images.masks[entries.mask_rows[crop_of, slot]].float()
        is_removed = removed[crop_of, slot]
        # Sums of whole numbers do not depend on the order in which a GPU adds.
        hidden = masks.new_zeros(len(theta), *masks.shape[1:])
        hidden.index_add_(0, crop_of, masks * is_removed[:, None, None])
        hidden, masks = hidden.clamp(max=255) / 255, masks / 255

        # The others keep the part that is not painted over; neighbours may share a cell.
        visible = torch.minimum(masks, 1 - hidden[crop_of])
        fraction = visible.sum((1, 2)) / masks.sum((1, 2)).clamp(min=1e-6)
        is_covered = ~is_removed & (fraction < _MIN_LEFT)
        stays = ~is_removed & ~is_covered
        covered = torch.zeros_like(has_mask)
        covered[crop_of, slot] = is_covered
        is_person = entries.is_person & ~removed & ~covered
        fractions = sample(visible[stays, None], theta[crop_of[stays]], self.crop // CELL)
        targets = PackedTargets(
            boxes=entries.boxes.masked_fill(removed[..., None], 0),
            is_person=is_person,
            is_ignored=entries.is_ignored | covered,
            has_mask=has_mask & is_person,
            masks=fractions[:, 0],
            painted=removed.any(1),
        )
        return targets, hidden[:, None]


def choose_removed(
    is_person: Tensor, has_mask: Tensor, prob: float, generator: Generator
) -> Tensor:
    """Draw the painted people, bool (B, M): some with a mask, never all people of a crop.

    The number of the painted is uniform from 1 to the most that are possible.

    Args:
        is_person: bool (B, M).
        has_mask: bool (B, M), people with a known mask.
        prob: chance of a crop with two people or more, in [0, 1].
        generator: on the same device.
    """
    numbers = torch.rand((2, len(is_person)), generator=generator, device=is_person.device)
    order = torch.rand(is_person.shape, generator=generator, device=is_person.device)
    most = torch.minimum(has_mask.sum(1), is_person.sum(1) - 1).clamp(min=0)
    count = ((numbers[0] * most).long() + 1).minimum(most) * (numbers[1] < prob)
    rank = order.masked_fill(~has_mask, 2.0).argsort(1).argsort(1)
    return rank < count[:, None]


def _require(is_right: bool, name: str, value: object, allowed: str) -> None:
    if not is_right:
        raise ValueError(f'PackedCrops: {name} = {value!r}; give {allowed}')


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f'PackedCrops: device = {name!r} cannot be used ({error})') from error
    return device


def _files(paths: str | Sequence[str | Path]) -> list[Path]:
    found = sorted(glob(paths)) if isinstance(paths, str) else paths
    _require(
        len(found) > 0,
        'paths',
        paths,
        'files written by pack_images.py',
    )
    return [Path(path) for path in found]
