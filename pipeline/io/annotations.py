"""User files about images: boxes for the first round, and COCO image ids.

Both refer to images by name: the relative path of an image, or its file name if that is unique.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..boxes import xywh_to_xyxy
from ..keypoints import PERSON
from ..values import shorten
from .coco import PERSON_OPTION
from .coco_checks import (
    ImageId,
    Report,
    as_flag,
    as_id,
    check_images,
    describe_unknown_id,
    errors_in,
    find_box_error,
    find_person,
    read_json,
    read_section,
)
from .inputs import InputError, InputImage, name_forms


@dataclass(frozen=True)
class UserBoxes:
    """The user's boxes for round one, before `pipeline.boxes.check_boxes`."""

    by_image: Mapping[str, Any]  # image name -> list of x1, y1, x2, y2
    unknown: tuple[str, ...]  # names in the file without an image
    left_out: str = ''  # rows of other categories; '' if there are none


@dataclass(frozen=True)
class ImageIds:
    """Image ids of an annotation file."""

    by_image: Mapping[str, ImageId]  # image name -> id
    unknown: tuple[str, ...]  # images that are not in the file


def load_boxes(
    path: Path,
    images: Sequence[InputImage],
    *,
    image_ids: Mapping[str, ImageId] | None = None,
    person_category: str | None = None,
) -> UserBoxes:
    """Load the user's boxes for the images of a run.

    The file is one of three kinds of JSON:

    - ``{"a/1.jpg": [[x1, y1, x2, y2], ...], ...}``, or with scores
      ``{"a/1.jpg": {"boxes": [[x1, y1, x2, y2], ...], "scores": [...]}, ...}``;
    - COCO annotations: all people except crowd regions; a listed image without people has no
      boxes, so its first round has no detections;
    - COCO results: a list of rows with ``bbox`` and ``image_id`` (or ``file_name``). Ids come
      from ``image_ids``; without it, the id is the number in the file name, such as
      ``000000000139.jpg``. Scores are ignored, so filter the rows beforehand.

    COCO boxes are x, y, width, height.

    Args:
        path: The file.
        images: The images of the run.
        image_ids: Image name -> id, for COCO results.
        person_category: Name or id of the category of people; in COCO results only an id. None:
            found by its name; in COCO results 1.

    Raises:
        InputError: The file cannot be read, has another format, contains an ambiguous name or has
            boxes for none of the images.
    """
    content, left_out = read_json(path), ''
    if isinstance(content, dict) and {'annotations', 'images', 'categories'} & set(content):
        with errors_in(path) as report:
            boxes = _from_annotations(content, person_category, report)
    elif isinstance(content, list):
        with errors_in(path) as report:
            boxes, left_out = _from_results(content, images, image_ids, person_category, report)
    elif isinstance(content, dict):
        boxes = content
    else:
        raise InputError(
            f'{path}: content is a {type(content).__name__}; write '
            '{"image.jpg": [[x1, y1, x2, y2]]} '
            'or COCO annotations or results'
        )
    matches = match_images(path, boxes, [image.name for image in images])
    if images and not matches:
        raise InputError(
            f'{path}: has boxes for none of the {len(images)} images, e.g. {images[0].name}; it '
            f'has {_listed(boxes)}'
        )
    by_image = {image: boxes[name] for name, image in matches.items()}
    return UserBoxes(by_image, tuple(name for name in boxes if name not in matches), left_out)


def load_image_ids(path: Path, images: Sequence[InputImage]) -> ImageIds:
    """Load the ids of the images from a COCO annotation file.

    Raises:
        InputError: The file cannot be read, has no valid ``images``, matches two of its entries to
            one image, or matches no image.
    """
    content = read_json(path)
    with errors_in(path) as report:
        rows = check_images(content, report)
    ids = {row['file_name']: row['id'] for row in rows}
    matches = match_images(path, ids, [image.name for image in images])
    by_image = {image: ids[name] for name, image in matches.items()}
    if images and not by_image:
        raise InputError(
            f'{path}: has none of the {len(images)} images, e.g. {images[0].name}; it has '
            f'{_listed(ids)}'
        )
    return ImageIds(by_image, tuple(i.name for i in images if i.name not in by_image))


def match_images(
    path: Path, names: Iterable[str], images: Iterable[str], hint: str = 'use these names'
) -> dict[str, str]:
    """Match names in a file to unique image names; names without an image are left out.

    A name is tried as it is, then with slashes for backslashes, percent-decoded and in Unicode
    form NFC, then as a file name without folders.

    Args:
        path: File with the names, for messages.
        names: Names to match.
        images: Paths of images with slashes.
        hint: What to do about an ambiguous name.

    Raises:
        InputError: A name matches several images, or two names match the same image.
    """
    exact = {image: [image] for image in images}
    by_path: dict[str, list[str]] = defaultdict(list)
    by_file_name: dict[str, list[str]] = defaultdict(list)
    for image in exact:
        by_path[unicodedata.normalize('NFC', image)].append(image)
        by_file_name[unicodedata.normalize('NFC', PurePosixPath(image).name)].append(image)
    matches: dict[str, str] = {}
    name_of: dict[str, str] = {}
    for name in names:
        forms = name_forms(name)
        tried = [exact.get(name), *(by_path.get(form) for form in forms)]
        tried += [by_file_name.get(PurePosixPath(form).name) for form in forms]
        fits = next(filter(None, tried), [])
        if len(fits) > 1:
            raise InputError(f'{path}: {name!r} can mean {fits[0]} or {fits[1]}; {hint}')
        for image in fits:
            first = name_of.setdefault(image, name)
            if first != name:
                raise InputError(f'{path}: {first!r} and {name!r} both match {image}; {hint}')
            matches[name] = image
    return matches


def _from_annotations(
    content: dict[str, Any], person_category: str | None, report: Report
) -> dict[str, Any]:
    names = {image['id']: image['file_name'] for image in check_images(content, report)}
    rows = read_section(content, 'annotations')
    person = find_person(content, person_category)['id']
    boxes: dict[str, Any] = {name: [] for name in names.values()}
    for number, row in enumerate(rows):
        where = f'annotation number {number} (id {shorten(row.get("id"))})'
        image_id = as_id(row.get('image_id'))
        crowd = as_flag(row.get('iscrowd') or 0)
        if crowd is None:
            report('iscrowd', f'{where}: iscrowd must be 0 or 1, got {shorten(row["iscrowd"])}')
        if image_id not in names:
            report('unknown image', f'{where}: {describe_unknown_id(row.get("image_id"), names)}')
        elif not crowd and as_id(row.get('category_id', person)) == person:
            boxes[names[image_id]].append(_xyxy(row.get('bbox'), where, report))
    return boxes


def _from_results(
    rows: list[Any],
    images: Sequence[InputImage],
    image_ids: Mapping[str, ImageId] | None,
    person_category: str | None,
    report: Report,
) -> tuple[dict[str, Any], str]:
    """Return the boxes by image, and a remark about rows of other categories."""
    person, names = person_category or str(PERSON), _names_of_ids(images, image_ids)
    boxes: dict[str, Any] = defaultdict(list)
    others: Counter[str] = Counter()
    for number, row in enumerate(rows):
        where = f'row {number}'
        if not isinstance(row, dict):
            report('row', f'{where} must be an object with image_id and bbox, got {shorten(row)}')
        category = as_id(row.get('category_id', person))
        if str(category) != person:
            others[shorten(row['category_id'])] += 1
            continue
        image_id, name = as_id(row.get('image_id')), row.get('file_name')
        if not isinstance(name, str) and (name is not None or image_id is None):
            report('image', f'{where}: needs image_id or file_name, got {shorten(row)}')
        fits = names.get(image_id, []) if name is None else [name]  # type: ignore[arg-type]
        if len(fits) > 1:
            report('image', f'{where}: image_id {image_id} can mean {fits[0]} or {fits[1]}; rename '
                            'the images, or give their ids with --coco-ids')  # fmt: skip
        if not fits and ': it is' in (text := describe_unknown_id(image_id, names)):
            report('image', f'{where}: {text}')
        box = _xyxy(row.get('bbox'), where, report)
        boxes[fits[0] if fits else f'image_id {image_id}'].append(box)
    counts = ', '.join(f'{count} of category {key}' for key, count in others.items())
    left_out = f'{counts} (people are category {person}; {PERSON_OPTION} chooses another)'
    if others and not boxes:
        report('categories', f'all rows are left out: {left_out}')
    return dict(boxes), left_out if others else ''


def _names_of_ids(
    images: Sequence[InputImage], image_ids: Mapping[str, ImageId] | None
) -> dict[ImageId, list[str]]:
    """Return the names by image id; without ids, the id is the number in the file name."""
    numbers = {i.name: int(i.path.stem) for i in images if i.path.stem.isdecimal()}
    names: dict[ImageId, list[str]] = defaultdict(list)
    for name, image_id in (numbers if image_ids is None else image_ids).items():
        names[image_id].append(name)
    return names


def _xyxy(box_xywh: Any, where: str, report: Report) -> list[float]:
    if error := find_box_error(box_xywh):
        report('bbox', f'{where}: {error}')
    corners: list[float] = xywh_to_xyxy(box_xywh)[0].tolist()
    return corners


def _listed(names: Iterable[str]) -> str:
    shown = [shorten(name) for name in names]
    return ', '.join(shown[:3]) + (', ...' if len(shown) > 3 else '') if shown else 'none'
