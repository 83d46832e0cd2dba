"""Files of the user that speak about photos: own boxes, and image ids to be scored against.

Both name photos by file name. A name means the photo of that relative path, else the only photo
whose file name (without folders) is the same; a name that fits several photos is an error.
"""

from __future__ import annotations

import json
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
    """Own boxes of one photo that cannot be used."""


@dataclass(frozen=True)
class OwnBoxes:
    """Boxes of the user for round one, still unchecked."""

    by_image: Mapping[str, Any]  # name of the photo -> list of x1, y1, x2, y2
    unknown: tuple[str, ...]  # names in the file that no photo has


@dataclass(frozen=True)
class ImageIds:
    """Image ids of an annotation file."""

    by_image: Mapping[str, ImageId]  # name of the photo -> id
    unknown: tuple[str, ...]  # photos that the file does not have


def load_boxes(
    path: Path, photos: Sequence[InputImage], *, image_ids: Mapping[str, ImageId] | None = None
) -> OwnBoxes:
    """Own boxes from a file, for the photos of a run.

    Three kinds of JSON are told apart by their structure:

    - ``{"a/1.jpg": [[x1, y1, x2, y2], ...], ...}``;
    - COCO annotations: boxes of all rows that are persons and no crowd regions; a photo that is
      listed without such a row has no boxes, and nobody is looked for in its first round;
    - COCO results: a list of rows with ``bbox`` and ``image_id`` (or ``file_name``). Ids are
      looked up in ``image_ids`` if given, else they must be the number in the file name, as in
      ``000000000139.jpg``. Scores are not used: leave out what is too weak beforehand.

    COCO boxes are x, y, width, height.

    Raises:
        InputError: the file cannot be read, is of no such kind or names a photo ambiguously.
    """
    content = load_json(path, 'boxes')
    if isinstance(content, dict) and isinstance(content.get('annotations'), list):
        boxes = _from_annotations(path, content)
    elif isinstance(content, list):
        boxes = _from_results(path, content, photos, image_ids)
    elif isinstance(content, dict):
        boxes = content
    else:
        raise InputError(
            f'{path}: holds a {type(content).__name__}; write {{"photo.jpg": [[x1, y1, x2, y2]]}} '
            'or COCO annotations or results'
        )
    matches = match_images(path, boxes, photos)
    found = {photo: boxes[name] for name, photo in matches.items()}
    return OwnBoxes(found, tuple(name for name in boxes if name not in matches))


def check_boxes(rows: Any, shape: tuple[int, int]) -> Floats:
    """Boxes (N, 4) xyxy px from what a boxes file holds for a photo of ``shape`` (H, W).

    Raises:
        BoxesError: not N rows of four finite numbers, or a box without area or beside the photo.
    """
    try:
        boxes = np.array(rows, np.float32)
    except (TypeError, ValueError) as error:
        raise BoxesError(f'own boxes must be rows of four numbers, got {_short(rows)}') from error
    if boxes.size == 0:
        return np.zeros((0, 4), np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise BoxesError(f'own boxes must be rows of four finite numbers, got {_short(rows)}')
    height, width = shape
    flat = (boxes[:, 2:] <= boxes[:, :2]).any(1)
    outside = (boxes[:, 2:] <= 0).any(1) | (boxes[:, :2] >= [width, height]).any(1)
    for wrong, reason in ((flat, 'needs x2 > x1 and y2 > y1'), (outside, 'lies beside the photo')):
        if wrong.any():
            raise BoxesError(
                f'own box {boxes[wrong][0].tolist()} {reason} (photo {width} x {height}); boxes '
                'are x1, y1, x2, y2 in px of the upright photo'
            )
    return boxes


def load_image_ids(path: Path, photos: Sequence[InputImage]) -> ImageIds:
    """Ids of the photos in a COCO annotation file, by file name.

    Raises:
        InputError: the file cannot be read or lacks ``images``, two photos get one id, or no
            photo is in the file.
    """
    content = load_json(path, 'COCO annotations')
    if not isinstance(content, dict) or not isinstance(content.get('images'), list):
        raise InputError(f'{path}: no COCO annotation file, it has no list "images"')
    ids = {
        str(image['file_name']): image['id']
        for image in _rows(path, content['images'], 'file_name', 'id')
    }
    matches = match_images(path, ids, photos)
    found = {photo: ids[name] for name, photo in matches.items()}
    if photos and not found:
        raise InputError(f'{path}: has none of the {len(photos)} photos, e.g. {photos[0].name}')
    return ImageIds(found, tuple(p.name for p in photos if p.name not in found))


def match_images(path: Path, names: Iterable[str], photos: Sequence[InputImage]) -> dict[str, str]:
    """Name in a file -> name of the photo that it means; names of other photos are left out.

    Raises:
        InputError: a name fits several photos, or two names mean the same photo.
    """
    exact = {photo.name for photo in photos}
    by_file_name: dict[str, list[str]] = defaultdict(list)
    for photo in photos:
        by_file_name[photo.path.name].append(photo.name)
    meant: dict[str, str] = {}
    for name in names:
        fits = [name] if name in exact else by_file_name.get(PurePosixPath(name).name, [])
        if len(fits) > 1:
            raise InputError(f'{path}: {name!r} can mean {fits[0]} or {fits[1]}; use these names')
        if fits:
            meant[name] = fits[0]
    _refuse_twins(path, meant)
    return meant


def load_json(path: Path, what: str) -> Any:
    """JSON content of a file of the user.

    Raises:
        InputError: the file cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f'{path}: cannot read the {what} ({error.strerror})') from error
    except ValueError as error:
        raise InputError(f'{path}: the {what} must be JSON ({error})') from error


def load_coco(path: Path) -> dict[str, Any]:
    """Content of a COCO annotation file of the user.

    Raises:
        InputError: the file cannot be read, is no JSON, or lacks `images` or `annotations`.
    """
    content: dict[str, Any] = load_json(path, 'annotation file')
    absent = [name for name in ('images', 'annotations') if name not in content]
    if absent:
        raise InputError(f'{path} is no COCO annotation file: it has no {" and no ".join(absent)}')
    return content


def _refuse_twins(path: Path, meant: Mapping[str, str]) -> None:
    first: dict[str, str] = {}
    for name, photo in meant.items():
        if photo in first:
            raise InputError(f'{path}: {first[photo]!r} and {name!r} both fit the photo {photo}')
        first[photo] = name


def _from_annotations(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    images = _rows(path, content.get('images'), 'file_name', 'id')
    names = {image['id']: str(image['file_name']) for image in images}
    persons = {c['id'] for c in content.get('categories', []) if c.get('name') == 'person'}
    boxes: dict[str, Any] = {name: [] for name in names.values()}
    for row in _rows(path, content['annotations'], 'image_id', 'bbox'):
        if row.get('iscrowd') or (persons and row.get('category_id') not in persons):
            continue
        if row['image_id'] not in names:
            raise InputError(f'{path}: "images" lacks the image_id {row["image_id"]!r} of a box')
        boxes[names[row['image_id']]].append(_xyxy(path, row['bbox']))
    return boxes


def _from_results(
    path: Path,
    rows: list[Any],
    photos: Sequence[InputImage],
    image_ids: Mapping[str, ImageId] | None,
) -> dict[str, Any]:
    names: dict[ImageId, str] = {i: name for name, i in (image_ids or {}).items()}
    if image_ids is None:
        names = {int(p.path.stem): p.name for p in photos if p.path.stem.isdecimal()}
    boxes: dict[str, Any] = defaultdict(list)
    for row in _rows(path, rows, 'bbox'):
        if row.get('category_id', 1) != 1:
            continue
        name = row.get('file_name') or names.get(row.get('image_id', ''))
        boxes[name or f'image_id {row.get("image_id")}'].append(_xyxy(path, row['bbox']))
    return dict(boxes)


def _rows(path: Path, rows: Any, *keys: str) -> list[dict[str, Any]]:
    if not isinstance(rows, list):
        raise InputError(f'{path}: no COCO file, it lacks the list with {", ".join(keys)}')
    for row in rows:
        if not isinstance(row, dict) or any(key not in row for key in keys):
            raise InputError(f'{path}: a row without {", ".join(keys)}: {_short(row)}')
    return rows


def _xyxy(path: Path, box_xywh: Any) -> list[float]:
    try:
        (box,) = xywh_to_xyxy([box_xywh]).tolist()
    except (TypeError, ValueError):
        raise InputError(
            f'{path}: bbox must be x, y, width, height, got {_short(box_xywh)}'
        ) from None
    corners: list[float] = box
    return corners


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f'{text[:77]}...'
