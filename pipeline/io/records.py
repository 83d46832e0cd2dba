"""Lossless conversion between the people of an image and JSON.

A run writes one record per image; every other output can be computed from it, with any minimum
score. Numbers are the shortest decimals that round to the same float32, masks are COCO RLE.

K is the number of keypoints; boxes are x1, y1, x2, y2 in px of the upright image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..candidates import Candidates
from ..keypoints import COCO_17, COCO_NAMES, KeypointSet
from ..masks import Masks
from ..structures import Floats, ImageSource, MaskSource, People
from ..values import shorten
from .atomic import write_json

FORMAT = 'bbox-mask-pose/2'
MAX_NUMBER = 1e7  # of px and scores; float32 has no fractions of px beyond

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
    dropped: int = 0  # candidates below the minimum score
    seconds: float | None = None  # time of the image
    output: str = ''  # name of its files


def record_path(out_dir: Path, output: str) -> Path:
    """Path of the record of the image with this output name."""
    return out_dir / 'predictions' / f'{output}.json'


def parse_record(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; its people, if it has any, are not checked. None if it is none."""
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        return record if isinstance(record.get('made_with', {}), dict) else None
    except Exception:  # noqa: BLE001 - the image is computed again, whatever the damage
        return None


def read_record(path: Path) -> dict[str, Any] | None:
    """Read a record of any format; None if it is damaged in any way."""
    record = parse_record(path)
    try:
        if record is not None and record['format'] == FORMAT:
            candidates_from_record(record)
        return record
    except Exception:  # noqa: BLE001 - as above
        return None


def people_to_record(people: People) -> dict[str, Any]:
    """Convert people to JSON content; `people_from_record` is the inverse.

    Raises:
        ValueError: A number is NaN or infinite.
    """
    return candidates_to_record(Candidates(people), None)


def candidates_to_record(candidates: Candidates, min_score: float | None) -> dict[str, Any]:
    """Convert candidates to JSON content; `candidates_from_record` is the inverse.

    Returns:
        ``format``, ``image`` (``height``, ``width`` px), ``num_keypoints``, ``exclusive`` and
        ``mask_boxes`` of the candidates, ``people`` and, below ``min_score``, ``dropped``: one
        dict per person with ``person_id`` (from 1, the pixel value in the mask PNG), ``box``,
        ``score``, ``box_score``, ``mask_score``, ``keypoints`` (K pairs), ``keypoint_scores``,
        ``keypoint_presence``, ``keypoint_visibility`` (K each), ``detector_box``,
        ``mask_source`` (sam, detector or box), ``round`` (from 1), ``prompts`` (keypoints used,
        in order), ``mask`` and ``detector_mask`` (COCO RLE). ``candidate_mask`` and
        ``candidate_box``: those before the pixels of people of lower scores were removed, if
        different.
        ``keypoint_set``, for other keypoints than COCO's 17: ``name``, ``names``, ``sigmas``,
        ``skeleton`` and ``bone_colours``.

    Raises:
        ValueError: A number is NaN or infinite.
    """
    people, kept = candidates.people, candidates.keep(min_score)
    rows, boxes = _rows(people), _decimals(kept.boxes, 'boxes')
    # The first rows are kept; masks of the dropped people remove no pixels.
    for row, box, mask in zip(rows, boxes, kept.masks.to_rle(), strict=False):
        result = {'mask': mask, 'box': box}
        changes = {k: row[k] for k in result if row[k] != result[k]}
        row.update(result, **{f'candidate_{key}': value for key, value in changes.items()})
    height, width = people.image_shape
    return {
        'format': FORMAT,
        'image': {'height': height, 'width': width},
        'num_keypoints': people.num_keypoints,
        **_describe_keypoints(people.keypoint_set),
        'exclusive': candidates.exclusive,
        'mask_boxes': candidates.mask_boxes,
        'people': rows[: len(kept)],
        'dropped': rows[len(kept) :],
    }


def _rows(people: People) -> list[dict[str, Any]]:
    columns = {key: _decimals(getattr(people, name), name) for key, name in _FLOATS.items()}
    masks, detector_masks = people.masks.to_rle(), people.detector_masks.to_rle()
    return [
        {
            'person_id': i + 1,
            **{key: column[i] for key, column in columns.items()},
            'mask_source': MaskSource(int(people.mask_sources[i])).name.lower(),
            'round': int(people.rounds[i]),
            'prompts': [int(k) for k in people.prompts[i] if k >= 0],
            'mask': masks[i],
            'detector_mask': detector_masks[i],
        }
        for i in range(len(people))
    ]


def _describe_keypoints(keypoint_set: KeypointSet) -> dict[str, Any]:
    if keypoint_set.names == COCO_NAMES:
        return {}
    content: dict[str, Any] = {'name': keypoint_set.name}
    for key in ('names', 'sigmas', 'skeleton', 'bone_colours'):
        content[key] = np.array(getattr(keypoint_set, key)).tolist()
    return {'keypoint_set': content}


def _read_keypoints(content: Mapping[str, Any] | None) -> KeypointSet:
    if content is None:
        return COCO_17
    return KeypointSet(
        content['name'],
        tuple(content['names']),
        np.array(content['sigmas'], np.float64),
        tuple((a, b) for a, b in content['skeleton']),
        tuple((r, g, b) for r, g, b in content['bone_colours']),
    )


def people_from_record(record: dict[str, Any]) -> People:
    """Convert JSON content of `people_to_record` back to people, without the dropped ones.

    Raises:
        ValueError: The record has another format, lengths of its columns differ, or a mask or a
            number is damaged.
        KeyError: A key is missing.
    """
    _check_format(record)
    return _people(record, record['people'])


def candidates_from_record(record: dict[str, Any]) -> Candidates:
    """Convert JSON content of `candidates_to_record` back; raises as `people_from_record`."""
    _check_format(record)
    rows = [
        {**row, **{k: row.get(f'candidate_{k}', row[k]) for k in ('mask', 'box')}}
        for row in (*record['people'], *record['dropped'])
    ]
    flags = record['exclusive'], record['mask_boxes']
    if not all(isinstance(flag, bool) for flag in flags):
        raise ValueError(f'exclusive and mask_boxes must be true or false, got {flags}')
    return Candidates(_people(record, rows), *flags)


def _check_format(record: dict[str, Any]) -> None:
    if record.get('format') != FORMAT:
        raise ValueError(
            f'record of format {shorten(record.get("format"))}; this version reads {FORMAT!r}'
        )


def _people(record: dict[str, Any], persons: list[dict[str, Any]]) -> People:
    sizes = [record['image']['height'], record['image']['width'], record['num_keypoints']]
    height, width, points = _integers(sizes).tolist()
    shape = (height, width)
    shapes = {'boxes': (4,), 'detector_boxes': (4,), 'keypoints': (points, 2)}
    shapes |= dict.fromkeys(('keypoint_scores', 'presence', 'visibility'), (points,))
    floats: dict[str, Any] = {
        name: _numbers([p[key] for p in persons])
        .astype(np.float32)
        .reshape(len(persons), *shapes.get(name, ()))
        for key, name in _FLOATS.items()
    }
    if not all((np.abs(column) < MAX_NUMBER).all() for column in floats.values()):
        raise ValueError(f'the record has numbers that are not finite or beyond {MAX_NUMBER:.0e}')
    unit = (floats['presence'], floats['visibility'])
    if not all(((column >= 0) & (column <= 1)).all() for column in unit):
        raise ValueError('the record has probabilities that are not in [0, 1]')
    if [p['person_id'] for p in persons] != list(range(1, len(persons) + 1)):
        raise ValueError('person_id must count the people from 1')
    return People(
        **floats,
        detector_masks=Masks.from_rle([p['detector_mask'] for p in persons], shape),
        masks=Masks.from_rle([p['mask'] for p in persons], shape),
        mask_sources=np.array([MaskSource[p['mask_source'].upper()] for p in persons], np.int32),
        prompts=_prompts([p['prompts'] for p in persons], points),
        rounds=_integers([p['round'] for p in persons]),
        keypoint_set=_read_keypoints(record.get('keypoint_set')),
    )


def save_people(people: People, path: Path) -> None:
    """Write the record of ``people``, with the path of their image."""
    write_json(path, people_to_record(people) | {'path': people.path})


def load_people(path: Path) -> People:
    """Read a file of `save_people` or the record of a run."""
    data = path.read_bytes()
    try:
        record = json.loads(data)
        return replace(people_from_record(record), source=ImageSource(record.get('path')))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f'{path}: not people ({error}); use a file of People.save or of the folder '
            'predictions/ of a run'
        ) from error


def _numbers(rows: list[Any]) -> npt.NDArray[Any]:
    numbers = np.array(rows)
    if numbers.dtype.kind not in 'if':
        raise ValueError(f'the record has {shorten(rows)} where numbers belong')
    return numbers


def _integers(rows: list[Any]) -> npt.NDArray[np.int32]:
    numbers = _numbers(rows)
    with np.errstate(invalid='ignore'):
        integers = numbers.astype(np.int32)
    if (integers != numbers).any():
        raise ValueError(f'the record has {shorten(rows)} where integers belong')
    return integers


def _prompts(rows: list[list[int]], points: int) -> npt.NDArray[np.int32]:
    prompts = np.full((len(rows), points), -1, np.int32)
    for row, used in zip(prompts, rows, strict=True):
        row[: len(used)] = _integers(used)
    if (prompts >= points).any():
        raise ValueError(f'the record has prompts beyond its {points} keypoints')
    return prompts


def _decimals(column: Floats, name: str) -> list[Any]:
    values = np.asarray(column, np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f'people.{name} has NaN or infinity; the result is not usable')
    # str() of a float32 is its shortest decimal; float() of it keeps these digits in JSON.
    decimals = np.array([float(str(v)) for v in values.ravel()], np.float64)
    rows: list[Any] = decimals.reshape(values.shape).tolist()
    return rows
