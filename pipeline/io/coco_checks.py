"""Rules of JSON files and of the parts of COCO files, for every reader.

Readers decide what a mistake means: some collect all kinds of a file, others stop at the first one.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from ..keypoints import PERSON
from ..masks import find_rle_error
from ..values import shorten
from .coco import PERSON_NAMES, PERSON_OPTION, find_person_names
from .images import MAX_PIXELS
from .inputs import InputError

Row = dict[str, Any]
ImageId = int | str
Report = Callable[[str, str], None]  # (kind of mistake, text of this one)

MAX_PX = 1e6  # coordinates and sides beyond are no pixels
# What the content of a damaged file raises where it is used as if it were right.
DAMAGE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class AnnotationError(InputError):
    """An invalid annotation file; one line per kind of mistake."""


def read_json(path: str | Path) -> Any:
    """Read a JSON file of the user.

    Raises:
        InputError: The file cannot be read or is not JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error.strerror}); check the path') from error
    except RecursionError:
        raise InputError(f'{path}: not a JSON file of this kind: nested too deeply') from None
    except ValueError as error:
        raise InputError(f'{path}: not a JSON file: {error}') from error


@contextmanager
def errors_in(path: str | Path) -> Iterator[Report]:
    """Name the file in every `AnnotationError` of the block; yields a `Report` that raises."""

    def refuse(kind: str, text: str) -> NoReturn:
        raise AnnotationError(text)

    try:
        yield refuse
    except AnnotationError as error:
        raise AnnotationError(f'{path}: {error}') from error


def read_section(content: Any, key: str) -> list[Row]:
    """Return the list of objects ``key`` of a COCO file.

    Raises:
        AnnotationError: There is no such list.
    """
    rows = content.get(key) if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise AnnotationError(f'not a COCO annotation file: it has no list of objects "{key}"')
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise AnnotationError(
                f'not a COCO annotation file: entry {number} of the list of objects "{key}" is '
                f'{shorten(row)}'
            )
    return rows


def as_id(value: Any) -> ImageId | None:
    """Return an id as int or text (1.0 is 1); None: it is neither."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < 2**63 else None
    return value if isinstance(value, str) and value else None


def as_side(value: Any) -> int | None:
    """Return a side of an image in px (400.0 is 400); None: it is none."""
    number = as_id(value)
    return number if isinstance(number, int) and 0 < number <= MAX_PX else None


def as_flag(value: Any) -> bool | None:
    """Return the truth of 0, 1, true and false; None: the value is none of these."""
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None


def check_images(content: Any, report: Report, *, sizes: bool = False) -> list[Row]:
    """Return copies of the images of a COCO file, with ids as int or text.

    Ids and names must be unique.

    Args:
        content: The parsed file.
        report: Receives the mistakes; entries without an id are left out afterwards.
        sizes: Whether height and width are needed; those of the copies are int, 0 if wrong.

    Raises:
        AnnotationError: There is no list of images.
    """
    images: list[Row] = []
    ids: set[ImageId] = set()
    names: set[str] = set()
    for number, row in enumerate(read_section(content, 'images')):
        image_id, name = as_id(row.get('id')), row.get('file_name')
        where = f'image number {number}' if image_id is None else f'image {shorten(image_id)}'
        if image_id is None:
            got = shorten(row['id']) if 'id' in row else 'none'
            report('image id', f'{where}: the id must be a number or text, got {got}')
            continue
        if image_id in ids:
            report('image id twice', f'{where}: there are two images of this id')
        if not _is_name(name):
            got = shorten(name) if 'file_name' in row else 'none'
            report('no file_name', f'{where}: there is no file_name (a path as text); got {got}')
        elif name in names:
            report('file_name twice', f'{where}: another image has the file_name {shorten(name)}')
        else:
            names.add(name)
        ids.add(image_id)
        images.append({**row, 'id': image_id, **(_sizes(row, where, report) if sizes else {})})
    return images


def _is_name(value: Any) -> TypeGuard[str]:
    try:
        return isinstance(value, str) and bool(value) and b'\0' not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def as_sizes(row: Mapping[str, Any]) -> dict[str, int] | None:
    """Return height and width of an image as int; None: they are wrong."""
    height, width = as_side(row.get('height')), as_side(row.get('width'))
    if height and width and height * width <= MAX_PIXELS:
        return {'height': height, 'width': width}
    return None


def _sizes(row: Row, where: str, report: Report) -> dict[str, int]:
    sizes = as_sizes(row)
    if sizes is None:
        got = f'{shorten(row.get("height"))} and {shorten(row.get("width"))}'
        report('image size', f'{where}: height and width must be px, got {got}')
    return sizes or {'height': 0, 'width': 0}


def describe_unknown_id(value: Any, known: Collection[Any]) -> str:
    """Describe an image id that is not among those of ``images``."""
    text = f'image_id {shorten(value)} is not among "images"'
    other = str(value) if isinstance(value, int) else _number(value)
    if not isinstance(value, list | dict) and other in known:
        kinds = ('a number', 'text') if isinstance(value, int) else ('text', 'a number')
        text += f': it is {kinds[0]} here and {kinds[1]} there'
    return text


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 20 else None


def find_person(content: Any, chosen: str | None = None) -> Row:
    """Find the person category of a COCO file, whatever its id; names are compared without case.

    Args:
        content: The parsed file; without categories, category 1 is the person.
        chosen: Name or id of the category; None: the one called person, else pedestrian, human or
            people.

    Returns:
        A copy of the category, with an id as int or text.

    Raises:
        AnnotationError: There is no such category, or several, or a category has no valid id.
    """
    absent = isinstance(content, dict) and content.get('categories', []) == []
    rows = [{'id': PERSON, 'name': 'person'}] if absent else read_section(content, 'categories')
    categories = [{**row, 'id': as_id(row.get('id'))} for row in rows]
    ids = [category['id'] for category in categories]
    names = [str(category.get('name')).strip().casefold() for category in categories]
    for number, category_id in enumerate(ids):
        if category_id is None or category_id in ids[:number]:
            raise AnnotationError(
                f'category number {number}: the id must be a unique number or text, got '
                f'{shorten(rows[number].get("id"))}'
            )
    if chosen is not None:
        found = [i for i, n in enumerate(names) if chosen.casefold() == n or chosen == str(ids[i])]
    else:
        found = find_person_names(names)
    if len(found) == 1:
        return categories[found[0]]
    shown = ', '.join(f'{i} ({shorten(c.get("name"))})' for i, c in zip(ids, rows, strict=True))
    wanted = '"person"' if chosen is None else repr(chosen)
    problem, choice = f'no category is called {wanted}, only', 'NAME or ID'
    if found:
        problem, choice = f'{len(found)} categories are people ({wanted}) among', 'ID'
    raise AnnotationError(f'{problem} {shown}; choose one with {PERSON_OPTION} {choice}')


def read_coco(path: str | Path, person_category: str | None = None) -> Any:
    """Read a COCO annotation file; the chosen category of people gets the name ``person``.

    Raises:
        InputError: The file cannot be read, has no list ``images`` or ``annotations``, or there
            is no such category.
    """
    content = read_json(path)
    with errors_in(path):
        for key in ('images', 'annotations'):
            read_section(content, key)
        if person_category is None:
            return content
        chosen = find_person(content, person_category)
    others = [c for c in content.get('categories') or () if as_id(c['id']) != chosen['id']]
    renamed = [{**c, 'name': f'not {c["name"]}'} if 'name' in c else c for c in others]
    return {**content, 'categories': [chosen | {'name': PERSON_NAMES[0]}, *renamed]}


def find_numbers_error(key: str, values: Any, length: int) -> str | None:
    """Describe what is wrong with a list of ``length`` coordinates; None: nothing."""
    if not isinstance(values, list):
        return f'{key} must be a list, got {shorten(values)} ({type(values).__name__})'
    if len(values) != length:
        return f'{key} must hold {length} numbers, got {len(values)}'
    if not are_finite(values):
        return f'{key} holds values that are not finite numbers: {shorten(values)}'
    if values and not -MAX_PX <= min(values) <= max(values) <= MAX_PX:
        return f'{key} holds values beyond {MAX_PX:.0f} px: {shorten(values)}'
    return None


def find_box_error(box: Any) -> str | None:
    """Describe what is wrong with a box x, y, width, height; None: nothing."""
    reason = find_numbers_error('bbox', box, 4)
    if reason is None and min(box[2:]) < 0:
        reason = f'bbox is x, y, width, height; width and height must be >= 0, got {box}'
    return reason


def find_mask_error(mask: Any, height: int, width: int) -> str | None:
    """Describe what is wrong with a segmentation of an image; None: nothing."""
    if isinstance(mask, dict):
        return find_rle_error(mask, height, width)
    if not isinstance(mask, list):
        return f'segmentation must be polygons or RLE, got {type(mask).__name__}'
    reasons = (_find_polygon_error(polygon, max(height, width)) for polygon in mask)
    return next((reason for reason in reasons if reason is not None), None)


def _find_polygon_error(polygon: Any, side: int) -> str | None:
    if not isinstance(polygon, list) or len(polygon) % 2:
        return 'a polygon must be a list of x, y pairs'
    reason = find_numbers_error('a polygon', polygon, len(polygon))
    # The COCO API draws the outline point by point, also outside of the image.
    if reason is None and polygon and not -side <= min(polygon) <= max(polygon) <= 2 * side:
        reason = f'a polygon reaches far out of the image: {shorten(polygon)}'
    return reason


def are_finite(values: Sequence[Any]) -> bool:
    """Whether all values are finite numbers."""
    try:
        return all(map(math.isfinite, values))  # fast: files have millions of numbers
    except (TypeError, OverflowError):
        return False


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and are_finite([value])  # JSON has no others
