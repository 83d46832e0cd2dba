"""Lossless conversion between the people of an image and JSON.

A run writes one record per image; every other output can be computed from it. Numbers are the
shortest decimals that round to the same float32, masks are COCO RLE.

K is the number of keypoints; boxes are x1, y1, x2, y2 in px of the upright image.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..masks import Masks
from ..structures import Floats, MaskSource, People

FORMAT = 'bbox-mask-pose/1'

# Key of a person in the record -> float32 column of `People`.
_FLOATS = {
    'box': 'boxes',
    'score': 'scores',
    'box_score': 'box_scores',
    'mask_score': 'mask_scores',
    'keypoints': 'keypoints',
    'keypoint_scores': 'keypoint_scores',
    'keypoint_presence': 'presence',
    'keypoint_visibility': 'visibility',
    'detector_box': 'detector_boxes',
}


@dataclass(frozen=True)
class MergeEntry:
    """An image for the files of the whole run."""

    name: str
    image_id: int | str
    people: People


def record_path(out_dir: Path, name: str) -> Path:
    """Path of the record of the image ``name``."""
    return out_dir / 'predictions' / f'{name}.json'


def read_record(path: Path) -> dict[str, Any] | None:
    """Read a record; None if it is damaged in any way or has another format."""
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        people_from_record(record)
        return record if isinstance(record.get('made_with', {}), dict) else None
    except Exception:  # noqa: BLE001 - the image is computed again, whatever the damage
        return None


def people_to_record(people: People) -> dict[str, Any]:
    """Convert people to JSON content; `people_from_record` is the inverse.

    Returns:
        ``format``, ``image`` (``height``, ``width`` px), ``num_keypoints`` and ``people``: one
        dict per person with ``id`` (from 1, the pixel value in the mask PNG), ``box``,
        ``score``, ``box_score``, ``mask_score``, ``keypoints`` (K pairs), ``keypoint_scores``,
        ``keypoint_presence``, ``keypoint_visibility`` (K each), ``detector_box``,
        ``mask_source`` (sam, detector or box), ``round`` (from 1), ``prompts`` (keypoints used,
        in order), ``mask`` and ``detector_mask`` (COCO RLE).

    Raises:
        ValueError: A number is NaN or infinite.
    """
    columns = {key: _decimals(getattr(people, name), name) for key, name in _FLOATS.items()}
    masks, detector_masks = people.masks.to_rle(), people.detector_masks.to_rle()
    persons = [
        {
            'id': i + 1,
            **{key: column[i] for key, column in columns.items()},
            'mask_source': MaskSource(int(people.mask_sources[i])).name.lower(),
            'round': int(people.rounds[i]),
            'prompts': [int(k) for k in people.prompts[i] if k >= 0],
            'mask': masks[i],
            'detector_mask': detector_masks[i],
        }
        for i in range(len(people))
    ]
    height, width = people.image_shape
    return {
        'format': FORMAT,
        'image': {'height': height, 'width': width},
        'num_keypoints': people.num_keypoints,
        'people': persons,
    }


def people_from_record(record: dict[str, Any]) -> People:
    """Convert JSON content of `people_to_record` back to people.

    Raises:
        ValueError: The record has another format, lengths of its columns differ, or a mask or a
            number is damaged.
        KeyError: A key is missing.
    """
    if record.get('format') != FORMAT:
        raise ValueError(
            f'record of format {record.get("format")!r}; this version reads {FORMAT!r}'
        )
    shape = (int(record['image']['height']), int(record['image']['width']))
    points = int(record['num_keypoints'])
    persons = record['people']
    shapes = {'boxes': (4,), 'detector_boxes': (4,), 'keypoints': (points, 2)}
    shapes |= dict.fromkeys(('keypoint_scores', 'presence', 'visibility'), (points,))
    floats = {
        name: np.array([p[key] for p in persons], np.float32).reshape(
            len(persons), *shapes.get(name, ())
        )
        for key, name in _FLOATS.items()
    }
    if not all(np.isfinite(column).all() for column in floats.values()):
        raise ValueError('the record has numbers that are not finite')
    return People(
        **floats,
        detector_masks=Masks.from_rle([p['detector_mask'] for p in persons], shape),
        masks=Masks.from_rle([p['mask'] for p in persons], shape),
        mask_sources=np.array([MaskSource[p['mask_source'].upper()] for p in persons], np.int32),
        prompts=_prompts([p['prompts'] for p in persons], points),
        rounds=np.array([p['round'] for p in persons], np.int32),
    )


def _prompts(rows: list[list[int]], points: int) -> npt.NDArray[np.int32]:
    prompts = np.full((len(rows), points), -1, np.int32)
    for row, used in zip(prompts, rows, strict=True):
        row[: len(used)] = used
    return prompts


def _decimals(column: Floats, name: str) -> list[Any]:
    values = np.asarray(column, np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f'people.{name} has NaN or infinity; the result is not usable')
    # str() of a float32 is its shortest decimal; float() of it keeps these digits in JSON.
    decimals = np.array([float(str(v)) for v in values.ravel()], np.float64)
    rows: list[Any] = decimals.reshape(values.shape).tolist()
    return rows
