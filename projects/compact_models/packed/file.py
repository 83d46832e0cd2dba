"""Images with people, shrunk and joined in one file of tensors.

Legend: P images, Q people and ignored regions. `*_ends` are running sums of lengths: item i of the
joined bytes or rows is [ends[i - 1], ends[i]), with 0 before the first. px are px of the re-encoded
image, whose longest side is at most `side`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor
from typing_extensions import Self

from pipeline.boxes import xywh_to_xyxy
from pipeline.io.atomic import atomic_file
from pipeline.io.images import read_image
from pipeline.rle import polygons, rle_of
from pipeline.weights.loading import read_checkpoint
from pipeline.weights.manifest import CheckpointError

# Masks are kept as averages of cells of so many px, see `images.py`.
CELL = 4
MAX_SIDE = 4096  # px; a batch of such frames still fits into the memory
# Key -> type, shape of one row, and the key with the same number of rows.
_LAYOUT: Mapping[str, tuple[torch.dtype, tuple[int, ...], str]] = {
    'encoded': (torch.uint8, (), 'encoded'),
    'encoded_ends': (torch.int64, (), 'encoded_ends'),
    'sizes': (torch.int32, (2,), 'encoded_ends'),
    'ids': (torch.int64, (), 'encoded_ends'),
    'person_ends': (torch.int64, (), 'encoded_ends'),
    'boxes': (torch.float32, (4,), 'boxes'),
    'ignored': (torch.bool, (), 'boxes'),
    'rle': (torch.uint8, (), 'rle'),
    'rle_ends': (torch.int64, (), 'boxes'),
}
_ENDS = {'encoded_ends': 'encoded', 'person_ends': 'boxes', 'rle_ends': 'rle'}
QUALITY_FLAGS: Mapping[str, int] = {
    '.jpg': cv2.IMWRITE_JPEG_QUALITY,
    '.webp': cv2.IMWRITE_WEBP_QUALITY,
}
_FILE_OVERHEAD = 16 * 1024  # bytes that torch.save adds to those of the tensors, at most

Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Packed:
    """Images and their people in joined tensors; see the legend of this module.

    Attributes:
        side: px, longest side that an image may have, a multiple of 4.
        encoded: uint8 (bytes,), the images as JPEG or WebP files.
        encoded_ends: int64 (P,).
        sizes: int32 (P, 2), height and width in px.
        ids: int64 (P,), image ids of the COCO file.
        person_ends: int64 (P,), ends of an image's rows in `boxes`, `ignored` and `rle_ends`.
        boxes: float32 (Q, 4), xyxy px, inside the image.
        ignored: bool (Q,), regions that teach nothing (COCO's iscrowd).
        rle: uint8 (bytes,), `counts` of compressed COCO RLE masks of the size of the image.
        rle_ends: int64 (Q,); an end equal to the one before: no mask is known.
    """

    side: int
    encoded: Tensor
    encoded_ends: Tensor
    sizes: Tensor
    ids: Tensor
    person_ends: Tensor
    boxes: Tensor
    ignored: Tensor
    rle: Tensor
    rle_ends: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(getattr(self, key).nbytes for key in _LAYOUT)

    def save(self, path: Path) -> None:
        """Writes a file of tensors that takes its name when it is whole."""
        content = {key: getattr(self, key).contiguous() for key in _LAYOUT}
        with atomic_file(path) as stream:
            torch.save({**content, 'side': torch.tensor(self.side)}, stream)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads and checks a file.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is no packed file or a key is missing or wrong.
        """
        try:
            content = read_checkpoint(path)
        except CheckpointError as error:
            raise ValueError(f'{path}: no file of tensors ({error})') from error
        if not isinstance(content, dict):
            raise ValueError(f'{path}: holds a {type(content).__name__}, not tensors by name')
        _check_side(path, content.get('side'))
        for key in _LAYOUT:
            _check_tensor(path, key, content.get(key))
        _check_lengths(path, content)
        return cls(int(content['side']), **{key: content[key] for key in _LAYOUT})

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """One from several, images in the same order.

        Raises:
            ValueError: there is none, or their longest sides differ.
        """
        sides = sorted({part.side for part in parts})
        if len(sides) != 1:
            raise ValueError(f'packed images must have one longest side, these have {sides}')
        joined = {}
        for key in (field.name for field in fields(cls) if field.name != 'side'):
            tensors = [getattr(part, key) for part in parts]
            if key in _ENDS:
                lengths = [len(getattr(part, _ENDS[key])) for part in parts]
                starts = np.cumsum([0, *lengths[:-1]]).tolist()
                tensors = [ends + start for ends, start in zip(tensors, starts, strict=True)]
            joined[key] = torch.cat(tensors)
        return cls(sides[0], **joined)


def _check_side(path: Path, side: object) -> None:
    if not isinstance(side, Tensor) or side.dtype != torch.int64 or side.ndim != 0:
        raise ValueError(f"{path}: 'side' must be an int64 scalar")
    if not CELL <= side <= MAX_SIDE or side % CELL:
        raise ValueError(
            f"{path}: 'side' = {int(side)} must be a positive multiple of {CELL} up to {MAX_SIDE}"
        )


def _check_tensor(path: Path, key: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(f'{path}: lacks the tensor {key!r}; write it with pack_images.py')
    dtype, row, _ = _LAYOUT[key]
    if value.dtype != dtype or value.ndim != 1 + len(row) or tuple(value.shape[1:]) != row:
        raise ValueError(
            f'{path}: {key!r} must be {dtype} rows of shape {row}, is {value.dtype} '
            f'{tuple(value.shape)}'
        )


def _check_lengths(path: Path, content: Mapping[str, Tensor]) -> None:
    for key, (_, _, other) in _LAYOUT.items():
        rows, expected = len(content[key]), len(content[other])
        if rows != expected:
            raise ValueError(f'{path}: {key!r} has {rows} rows, {other!r} {expected}')
    for key, joined in _ENDS.items():
        ends = content[key]
        last = int(ends[-1]) if len(ends) else 0
        if last != len(content[joined]) or (ends.diff(prepend=ends.new_zeros(1)) < 0).any():
            raise ValueError(
                f'{path}: {key!r} must rise to {len(content[joined])}, the length of {joined!r}'
            )
    sizes = content['sizes']
    if (sizes < 1).any() or (sizes > content['side']).any():
        raise ValueError(f"{path}: 'sizes' must be in [1, {int(content['side'])}] px ('side')")


def pack_images(
    coco: Mapping[str, Any], root: Path, side: int, quality: int, suffix: str = '.jpg'
) -> Packed:
    """Shrinks the images of a COCO file and joins them.

    Args:
        coco: `images` with `id`, `file_name`, `height`, `width`; `annotations` with `bbox` (xywh,
            px), `segmentation` (polygons or RLE; nothing or zero area: mask unknown), `iscrowd`.
            Where `categories` has one named person, others are left out.
        root: folder that the file names start from.
        side: px, a multiple of 4: longest side of a shrunk image; smaller images stay as they are.
        quality: of the encoded images, in [1, 100].
        suffix: '.jpg', or '.webp', which takes a third less and 30 times as long.

    Raises:
        ValueError: a setting is out of range, there is no image, or the size of an image or mask
            differs from that in the file.
        OSError: an image is missing.
    """
    return Packed.join(list(each_packed(coco, root, side, quality, suffix)))


def each_packed(
    coco: Mapping[str, Any], root: Path, side: int, quality: int, suffix: str = '.jpg'
) -> Iterator[Packed]:
    """The images of `pack_images` one by one, so that not all need be in memory."""
    if not CELL <= side <= MAX_SIDE or side % CELL:
        raise ValueError(f'side = {side} must be a positive multiple of {CELL} px up to {MAX_SIDE}')
    if not 1 <= quality <= 100:
        raise ValueError(f'quality = {quality} must be in [1, 100]')
    if suffix not in QUALITY_FLAGS:
        raise ValueError(f'suffix = {suffix!r} must be one of {sorted(QUALITY_FLAGS)}')
    if not coco['images']:
        raise ValueError('the COCO file has no images')
    persons = {c['id'] for c in coco.get('categories', ()) if c.get('name') == 'person'}
    people: dict[Any, list[Record]] = defaultdict(list)
    for annotation in coco['annotations']:
        if not persons or annotation['category_id'] in persons:
            people[annotation['image_id']].append(annotation)
    for image in coco['images']:
        path = root / image['file_name']
        yield _pack_one(image, people[image['id']], path, side, (suffix, quality))


def parts_below(images: Iterable[Packed], max_bytes: int) -> Iterator[Packed]:
    """Joins images to parts whose files are at most so large.

    Raises:
        ValueError: a single image is larger.
    """
    waiting: list[Packed] = []
    size = _FILE_OVERHEAD
    for image in images:
        if _FILE_OVERHEAD + image.nbytes > max_bytes:
            raise ValueError(f'image {int(image.ids[0])} alone is larger than {max_bytes} bytes')
        if waiting and size + image.nbytes > max_bytes:
            yield Packed.join(waiting)
            waiting, size = [], _FILE_OVERHEAD
        waiting.append(image)
        size += image.nbytes
    if waiting:
        yield Packed.join(waiting)


def _pack_one(
    image: Record, people: Iterable[Record], path: Path, side: int, encoding: tuple[str, int]
) -> Packed:
    pixels = read_image(path)
    old = pixels.shape[:2]
    if old != (image['height'], image['width']):
        raise ValueError(
            f'{path} is {old[1]} x {old[0]} px, the annotation file says '
            f'{image["width"]} x {image["height"]}'
        )
    scale = min(1.0, side / max(old))
    new = (max(1, round(old[0] * scale)), max(1, round(old[1] * scale)))
    if new != old:
        pixels = cv2.resize(pixels, new[::-1], interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    suffix, quality = encoding
    is_written, encoded = cv2.imencode(
        suffix, np.ascontiguousarray(pixels[..., ::-1]), [QUALITY_FLAGS[suffix], quality]
    )
    if not is_written:
        raise ValueError(f'{path}: OpenCV cannot write it as {suffix}')
    boxes, ignored, counts = _people_at(people, old, new, path)
    return Packed(
        side=side,
        encoded=torch.from_numpy(encoded.reshape(-1).astype(np.uint8)),
        encoded_ends=torch.tensor([encoded.size]),
        sizes=torch.tensor([new], dtype=torch.int32),
        ids=torch.tensor([int(image['id'])]),
        person_ends=torch.tensor([len(boxes)]),
        boxes=torch.from_numpy(boxes),
        ignored=torch.tensor(ignored, dtype=torch.bool),
        rle=torch.from_numpy(np.frombuffer(b''.join(counts), np.uint8).copy()),
        rle_ends=torch.from_numpy(np.cumsum([len(c) for c in counts], dtype=np.int64)),
    )


def _people_at(
    people: Iterable[Record], old: tuple[int, int], new: tuple[int, int], path: Path
) -> tuple[NDArray[np.float32], list[bool], list[bytes]]:
    """Boxes (Q, 4), ignored flags and RLE counts (b'': unknown) at a new size.

    A box without area inside the image is left out.

    Args:
        people: annotations of one image.
        old: height and width of the image.
        new: height and width of the shrunk image.
        path: of the image, for messages.
    """
    boxes, ignored, counts = [], [], []
    factor = np.array([new[1] / old[1], new[0] / old[0]] * 2)
    for person in people:
        box = np.clip(xywh_to_xyxy([person['bbox']])[0] * factor, 0, [new[1], new[0]] * 2)
        if (box[2:] <= box[:2]).any():
            continue
        boxes.append(box)
        ignored.append(bool(person.get('iscrowd', 0)))
        counts.append(_counts_at(person.get('segmentation'), old, new, path))
    return np.array(boxes, np.float32).reshape(-1, 4), ignored, counts


def _counts_at(segmentation: Any, old: tuple[int, int], new: tuple[int, int], path: Path) -> bytes:
    """Counts of a segmentation's compressed RLE at a new size; b'' where nothing is known."""
    if isinstance(segmentation, list):
        # Scaled outlines are exacter than scaled bitmaps.
        factor = np.array([new[1] / old[1], new[0] / old[0]])
        scaled = [
            (np.reshape(outline, (-1, 2)) * factor).ravel().tolist()
            for outline in polygons(segmentation)
        ]
        rle = rle_of(scaled, *new)
    else:
        rle = rle_of(segmentation, *old)
        if rle is not None and tuple(rle['size']) != old:
            raise ValueError(f'{path}: a mask has the size {rle["size"]}, the image {list(old)}')
        if rle is not None and new != old:
            bitmap = cv2.resize(
                coco_mask.decode(rle) * np.uint8(255), new[::-1], interpolation=cv2.INTER_AREA
            )
            rle = coco_mask.encode(np.asfortranarray(bitmap > 127, dtype=np.uint8))
    if rle is None or not coco_mask.area(rle):
        return b''
    counts: bytes | str = rle['counts']
    return counts.encode() if isinstance(counts, str) else counts
