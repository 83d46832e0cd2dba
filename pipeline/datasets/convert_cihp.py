"""Convert CIHP (Crowd Instance-level Human Parsing) to COCO boxes and masks.

A folder of CIHP (``Validation``, ``Training``) contains ``Images/<name>.jpg`` and
``Human_ids/<name>.png``, whose pixels are the id of the person (1, 2, ...) or 0.
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
from .convert import (
    Conversion,
    ConversionError,
    Problem,
    assign_image_ids,
    build_coco_content,
    read_image_size,
)

IMAGES, MAPS = 'Images', 'Human_ids'
_SINGLE_CHANNEL = ('L', 'P', 'I', 'I;16', '1')  # modes of Pillow


class MapError(ValueError):
    """An invalid instance map."""


def convert_cihp(folder: str | Path, reporter: Reporter) -> Conversion:
    """Convert the boxes and masks of CIHP, which has no keypoints.

    CIHP annotates all people of an image. ``area`` is the area of the mask.

    Args:
        folder: ``Validation`` or ``Training``, with ``Images`` and ``Human_ids``.
        reporter: receives the progress.

    Raises:
        ConversionError: a folder is missing or empty.
    """
    root = Path(folder)
    files, maps = _by_stem(root / IMAGES), _by_stem(root / MAPS)
    stems = sorted({*files, *maps})
    names = {stem: files[stem].name if stem in files else f'{stem}.jpg' for stem in stems}
    ids = assign_image_ids([names[stem] for stem in stems])
    images: list[dict[str, Any]] = []
    annotations: list[Annotation] = []
    problems: list[Problem] = []
    reporter.start(len(stems))
    for stem in stems:
        name = names[stem]
        try:
            masks = _read_masks(files.get(stem), maps.get(stem))
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
    return Conversion(build_coco_content('CIHP', images, annotations), tuple(problems))


def _read_masks(image_file: Path | None, map_file: Path | None) -> Masks:
    if image_file is None:
        raise MapError(f'there is no image of this name in {IMAGES}')
    if map_file is None:
        raise MapError(f'there is no map of this name in {MAPS}')
    ids, size = _read_map(map_file), read_image_size(image_file)
    if ids.shape != size:
        raise MapError(f'the image has {size} (H, W) px, its map in {MAPS} {ids.shape}')
    people = [person for person in np.unique(ids).tolist() if person > 0]
    return Masks.from_dense((ids == person for person in people), size)


def _read_map(path: Path) -> npt.NDArray[np.integer[Any]]:
    import PIL.Image

    try:
        with PIL.Image.open(path) as image:
            image.load()
            mode, ids = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises these for damaged PNGs
        raise MapError(f'its map in {MAPS} is damaged ({error})') from error
    if mode not in _SINGLE_CHANNEL:
        raise MapError(f'its map is a colour image ({mode}); use the maps of {MAPS}, not of Human')
    return ids.astype(np.int32)


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
            f'{folder} is missing or empty; a folder of CIHP has {IMAGES} and {MAPS}'
        )
    return {file.stem: file for file in files}
