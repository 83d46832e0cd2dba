"""CIHP (Crowd Instance-level Human Parsing): maps of person numbers, as COCO boxes and masks.

A folder of CIHP (``Validation``, ``Training``) holds ``Images/<name>.jpg`` and
``Human_ids/<name>.png``, whose pixels are the number of the person (1, 2, ...) or 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..boxes import xyxy_to_xywh
from ..io.coco import PERSON
from ..io.images import ImageReadError
from ..io.progress import Reporter
from ..masks import Masks
from .annotation_rules import Annotation
from .convert import Conversion, ConversionError, Problem, coco_content, numbered, photo_size

PHOTOS, MAPS = 'Images', 'Human_ids'
_ONE_NUMBER_PER_PIXEL = ('L', 'P', 'I', 'I;16', '1')  # modes of Pillow


class MapError(ValueError):
    """A map of person numbers that cannot be used."""


def convert_cihp(folder: str | Path, reporter: Reporter) -> Conversion:
    """Boxes and masks of the people of CIHP; it annotates no keypoints.

    Every photo has every person, so nothing is partial. ``area`` is that of the mask.

    Args:
        folder: ``Validation`` or ``Training``, with ``Images`` and ``Human_ids``.
        reporter: hears about each photo.

    Raises:
        ConversionError: a folder is missing or empty.
    """
    root = Path(folder)
    photos, maps = _by_stem(root / PHOTOS), _by_stem(root / MAPS)
    stems = sorted({*photos, *maps})
    names = {stem: photos[stem].name if stem in photos else f'{stem}.jpg' for stem in stems}
    ids = numbered([names[stem] for stem in stems])
    images: list[dict[str, Any]] = []
    annotations: list[Annotation] = []
    problems: list[Problem] = []
    reporter.start(len(stems))
    for stem in stems:
        name = names[stem]
        try:
            masks = _masks_of(photos.get(stem), maps.get(stem))
        except (MapError, ImageReadError) as error:
            reason = error.reason if isinstance(error, ImageReadError) else str(error)
            problems.append(Problem(name, reason))
            reporter.update(name, reason)
            continue
        size = {'height': masks.height, 'width': masks.width}
        images.append({'id': ids[name], 'file_name': name, **size})
        annotations += _people(masks, ids[name])
        reporter.update(name, f'{len(masks)} people')
    reporter.stop()
    return Conversion(coco_content('CIHP', images, annotations), tuple(problems))


def _masks_of(photo: Path | None, person_map: Path | None) -> Masks:
    if photo is None:
        raise MapError(f'there is no photo of this name in {PHOTOS}')
    if person_map is None:
        raise MapError(f'there is no map of this name in {MAPS}')
    numbers, size = _read_map(person_map), photo_size(photo)
    if numbers.shape != size:
        raise MapError(f'the photo has {size} (H, W) px, its map in {MAPS} {numbers.shape}')
    people = [person for person in np.unique(numbers).tolist() if person > 0]
    return Masks.from_dense((numbers == person for person in people), size)


def _read_map(path: Path) -> npt.NDArray[np.integer[Any]]:
    import PIL.Image

    try:
        with PIL.Image.open(path) as picture:
            picture.load()
            mode, numbers = picture.mode, np.asarray(picture)
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises on damaged PNGs
        raise MapError(f'its map in {MAPS} is damaged ({error})') from error
    if mode not in _ONE_NUMBER_PER_PIXEL:
        raise MapError(
            f'its map is a coloured picture ({mode}); person numbers are in {MAPS}, not in Human'
        )
    return numbers.astype(np.int32)


def _people(masks: Masks, image_id: int) -> list[Annotation]:
    rles, boxes, areas = masks.to_rle(), xyxy_to_xywh(masks.boxes).tolist(), masks.areas.tolist()
    return [
        {
            'image_id': image_id,
            'category_id': PERSON,
            'iscrowd': 0,
            'bbox': boxes[i],
            'area': int(areas[i]),
            'segmentation': rles[i],
        }
        for i in range(len(masks))
    ]


def _by_stem(folder: Path) -> dict[str, Path]:
    files = sorted(f for f in folder.glob('*') if f.is_file() and not f.name.startswith('.'))
    if not files:
        raise ConversionError(
            f'{folder} is missing or empty; a folder of CIHP has {PHOTOS} and {MAPS}'
        )
    return {file.stem: file for file in files}
