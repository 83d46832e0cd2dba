"""User files about images: boxes for the first round, and COCO image ids.

Both refer to images by name: the relative path of an image, or its file name if that is unique.
"""

from __future__ import annotations

import json
import reprlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..boxes import xywh_to_xyxy
from ..structures import Floats
from .inputs import InputError, InputImage

ImageId = int | str


class BoxesError(ValueError):
    """The user's boxes of one image are invalid."""


@dataclass(frozen=True)
class UserBoxes:
    """The user's boxes for round one, before `check_boxes`."""

    by_image: Mapping[str, Any]  # image name -> list of x1, y1, x2, y2
    unknown: tuple[str, ...]  # names in the file without an image


@dataclass(frozen=True)
class ImageIds:
    """Image ids of an annotation file."""

    by_image: Mapping[str, ImageId]  # image name -> id
    unknown: tuple[str, ...]  # images that are not in the file


def load_boxes(
    path: Path, images: Sequence[InputImage], *, image_ids: Mapping[str, ImageId] | None = None
) -> UserBoxes:
    """Load the user's boxes for the images of a run.

    The file is one of three kinds of JSON:

    - ``{"a/1.jpg": [[x1, y1, x2, y2], ...], ...}``;
    - COCO annotations: all persons except crowd regions; a listed image without persons has no
      boxes, so its first round has no detections;
    - COCO results: a list of rows with ``bbox`` and ``image_id`` (or ``file_name``). Ids come
      from ``image_ids``; without it, the id is the number in the file name, such as
      ``000000000139.jpg``. Scores are ignored, so filter the rows beforehand.

    COCO boxes are x, y, width, height.

    Raises:
        InputError: The file cannot be read, has another format or contains an ambiguous name.
    """
    content = load_json(path, 'boxes')
    if isinstance(content, dict) and isinstance(content.get('annotations'), list):
        boxes = _from_annotations(path, content)
    elif isinstance(content, list):
        boxes = _from_results(path, content, images, image_ids)
    elif isinstance(content, dict):
        boxes = content
    else:
        raise InputError(
            f'{path}: content is a {type(content).__name__}; write '
            '{"image.jpg": [[x1, y1, x2, y2]]} '
            'or COCO annotations or results'
        )
    matches = match_images(path, boxes, images)
    by_image = {image: boxes[name] for name, image in matches.items()}
    return UserBoxes(by_image, tuple(name for name in boxes if name not in matches))


def check_boxes(rows: Any, shape: tuple[int, int]) -> Floats:
    """Convert the user's boxes of an image of ``shape`` (H, W) to an array (N, 4), xyxy px.

    Raises:
        BoxesError: The content is not N rows of four finite numbers, or a box has no area or is
            outside the image.
    """
    try:
        boxes = np.array(rows, np.float32)
    except (TypeError, ValueError) as error:
        raise BoxesError(f'boxes must be rows of four numbers, got {reprlib.repr(rows)}') from error
    if boxes.size == 0:
        return np.zeros((0, 4), np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise BoxesError(f'boxes must be rows of four finite numbers, got {reprlib.repr(rows)}')
    height, width = shape
    flat = (boxes[:, 2:] <= boxes[:, :2]).any(1)
    outside = (boxes[:, 2:] <= 0).any(1) | (boxes[:, :2] >= [width, height]).any(1)
    for wrong, reason in ((flat, 'needs x2 > x1 and y2 > y1'), (outside, 'is outside the image')):
        if wrong.any():
            raise BoxesError(
                f'box {boxes[wrong][0].tolist()} {reason} ({width} x {height}); boxes are '
                'x1, y1, x2, y2 in px of the upright image'
            )
    return boxes


def load_image_ids(path: Path, images: Sequence[InputImage]) -> ImageIds:
    """Load the ids of the images from a COCO annotation file.

    Raises:
        InputError: The file cannot be read, has no ``images``, matches two of its entries to one
            image, or matches no image.
    """
    content = load_json(path, 'COCO annotations')
    if not isinstance(content, dict) or not isinstance(content.get('images'), list):
        raise InputError(f'{path}: not a COCO annotation file, it has no list "images"')
    rows = _rows(path, content['images'], 'file_name', 'id')
    ids = {str(row['file_name']): row['id'] for row in rows}
    by_image = {image: ids[name] for name, image in match_images(path, ids, images).items()}
    if images and not by_image:
        raise InputError(f'{path}: has none of the {len(images)} images, e.g. {images[0].name}')
    return ImageIds(by_image, tuple(i.name for i in images if i.name not in by_image))


def match_images(path: Path, names: Iterable[str], images: Sequence[InputImage]) -> dict[str, str]:
    """Match names in a file to image names; names without an image are left out.

    Raises:
        InputError: A name matches several images, or two names match the same image.
    """
    exact = {image.name for image in images}
    by_file_name: dict[str, list[str]] = defaultdict(list)
    for image in images:
        by_file_name[image.path.name].append(image.name)
    matches: dict[str, str] = {}
    name_of: dict[str, str] = {}
    for name in names:
        fits = [name] if name in exact else by_file_name.get(PurePosixPath(name).name, [])
        if len(fits) > 1:
            raise InputError(f'{path}: {name!r} can mean {fits[0]} or {fits[1]}; use these names')
        for image_name in fits:
            first = name_of.setdefault(image_name, name)
            if first != name:
                raise InputError(f'{path}: {first!r} and {name!r} both match {image_name}')
            matches[name] = image_name
    return matches


def load_json(path: Path, what: str) -> Any:
    """Load a JSON file of the user; ``what`` names its content in messages.

    Raises:
        InputError: The file cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f'{path}: cannot read the {what} ({error.strerror})') from error
    except ValueError as error:
        raise InputError(f'{path}: the {what} must be JSON ({error})') from error


def load_coco(path: Path) -> dict[str, Any]:
    """Load a COCO annotation file of the user.

    Raises:
        InputError: The file cannot be read, is not JSON, or has no `images` or `annotations`.
    """
    content: dict[str, Any] = load_json(path, 'annotation file')
    absent = [name for name in ('images', 'annotations') if name not in content]
    if absent:
        missing = ' and no '.join(absent)
        raise InputError(f'{path} is not a COCO annotation file: it has no {missing}')
    return content


def _from_annotations(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    images = _rows(path, content.get('images'), 'file_name', 'id')
    names = {image['id']: str(image['file_name']) for image in images}
    persons = {c['id'] for c in content.get('categories', []) if c.get('name') == 'person'}
    boxes: dict[str, Any] = {name: [] for name in names.values()}
    for row in _rows(path, content['annotations'], 'image_id', 'bbox'):
        if row.get('iscrowd') or (persons and row.get('category_id') not in persons):
            continue
        if row['image_id'] not in names:
            raise InputError(f'{path}: "images" has no image_id {row["image_id"]!r} of a box')
        boxes[names[row['image_id']]].append(_xyxy(path, row['bbox']))
    return boxes


def _from_results(
    path: Path,
    rows: list[Any],
    images: Sequence[InputImage],
    image_ids: Mapping[str, ImageId] | None,
) -> dict[str, Any]:
    names: dict[ImageId, str] = {i: name for name, i in (image_ids or {}).items()}
    if image_ids is None:
        names = {int(p.path.stem): p.name for p in images if p.path.stem.isdecimal()}
    boxes: dict[str, Any] = defaultdict(list)
    for row in _rows(path, rows, 'bbox'):
        if row.get('category_id', 1) != 1:
            continue
        name = row.get('file_name') or names.get(row.get('image_id', ''))
        boxes[name or f'image_id {row.get("image_id")}'].append(_xyxy(path, row['bbox']))
    return dict(boxes)


def _rows(path: Path, rows: Any, *keys: str) -> list[dict[str, Any]]:
    if not isinstance(rows, list):
        raise InputError(f'{path}: not a COCO file, it has no list with {", ".join(keys)}')
    for row in rows:
        if not isinstance(row, dict) or any(key not in row for key in keys):
            raise InputError(f'{path}: a row without {", ".join(keys)}: {reprlib.repr(row)}')
    return rows


def _xyxy(path: Path, box_xywh: Any) -> list[float]:
    try:
        (box,) = xywh_to_xyxy([box_xywh]).tolist()
    except (TypeError, ValueError):
        raise InputError(
            f'{path}: bbox must be x, y, width, height, got {reprlib.repr(box_xywh)}'
        ) from None
    corners: list[float] = box
    return corners
