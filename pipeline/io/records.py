"""People of one photo <-> JSON, without loss.

A record is what a run keeps about a photo; every other output can be made from it. Numbers are
written as the shortest decimals that give the same float32 again, masks as COCO RLE.

Legend: K keypoints; boxes are x1, y1, x2, y2 in px of the upright photo.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..masks import Masks
from ..structures import Floats, MaskSource, People

FORMAT = 'bbox-mask-pose/1'

# Key of a person in the record -> column of `People`; scalars and lists of float32.
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


def record_path(out_dir: Path, name: str) -> Path:
    """Where the record of the image ``name`` is."""
    return out_dir / 'predictions' / f'{name}.json'


def read_record(path: Path) -> dict[str, Any] | None:
    """The record in a file; None if it is damaged or of another version's format."""
    try:
        record = json.loads(path.read_bytes())
    except ValueError:
        return None
    return record if isinstance(record, dict) and record.get('format') == FORMAT else None


def people_to_record(people: People) -> dict[str, Any]:
    """JSON content that `people_from_record` turns back into equal people.

    Returns:
        ``format``, ``image`` (``height``, ``width`` px), ``num_keypoints`` and ``people``: one
        dict per person with ``id`` (from 1, the value of the person in the mask PNG), ``box``,
        ``score``, ``box_score``, ``mask_score``, ``keypoints`` (K pairs), ``keypoint_scores``,
        ``keypoint_presence``, ``keypoint_visibility`` (K each), ``detector_box``,
        ``mask_source`` (sam, detector or box), ``round`` (from 1), ``prompts`` (keypoints used,
        in order), ``mask`` and ``detector_mask`` (COCO RLE).

    Raises:
        ValueError: a number is NaN or infinite.
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
    """The people that `people_to_record` was given.

    Raises:
        ValueError: the record has another format, or its columns do not fit together.
        KeyError: the record lacks a key.
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
        raise ValueError(f'people.{name} holds NaN or infinity; the models gave no usable result')
    # str() of a float32 is its shortest decimal, float() of that needs no more digits in JSON.
    short = np.array([float(str(v)) for v in values.ravel()], np.float64)
    listed: list[Any] = short.reshape(values.shape).tolist()
    return listed
