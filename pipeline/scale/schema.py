"""Rows of the results as Parquet: one row per image, with its people as a nested list.

docs/user_guide/cluster.md describes the columns. Numbers are float32 and equal those of the
records that `bmp run` writes, so both convert into each other without loss.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from ..candidates import Candidates
from ..io.records import FORMAT as RECORD_FORMAT
from ..io.records import MergeEntry, candidates_to_record, people_from_record
from .sources import Item

VERSION = '1'  # of the columns; raised when one changes its meaning

_FLOAT, _TEXT, _INT = pa.float32(), pa.string(), pa.int32()
_MASK = pa.struct([('size', pa.list_(_INT)), ('counts', _TEXT)])
PERSON = pa.struct(
    [
        ('person_id', _INT),
        ('box', pa.list_(_FLOAT)),
        ('score', _FLOAT),
        ('box_score', _FLOAT),
        ('mask_score', _FLOAT),
        ('keypoints', pa.list_(pa.list_(_FLOAT))),
        ('keypoint_scores', pa.list_(_FLOAT)),
        ('keypoint_presence', pa.list_(_FLOAT)),
        ('keypoint_visibility', pa.list_(_FLOAT)),
        ('detector_box', pa.list_(_FLOAT)),
        ('mask_source', _TEXT),
        ('round', _INT),
        ('prompts', pa.list_(_INT)),
        ('mask', _MASK),
        ('detector_mask', _MASK),
    ]
)
SCHEMA = pa.schema(
    [
        ('index', pa.int64()),
        ('name', _TEXT),
        ('path', _TEXT),
        ('image_id', _TEXT),
        ('error', _TEXT),
        ('sha256', _TEXT),
        ('height', _INT),
        ('width', _INT),
        ('num_keypoints', _INT),
        ('keypoint_set', _TEXT),
        ('dropped', _INT),
        ('people', pa.list_(PERSON)),
    ],
    metadata={'bbox-mask-pose-schema': VERSION},
)


def describe_item(index: int, item: Item) -> dict[str, Any]:
    """Return the columns that say which image a row is about."""
    return {'index': index, 'name': item.name, 'path': item.path, 'image_id': item.image_id}


def fail(index: int, item: Item, error: str) -> dict[str, Any]:
    """Return the row of an image that failed."""
    return describe_item(index, item) | {'error': error, 'dropped': 0, 'people': []}


def succeed(
    index: int, item: Item, sha256: str, candidates: Candidates, min_score: float | None
) -> dict[str, Any]:
    """Return the row of an image with its people.

    Raises:
        ValueError: A number is NaN or infinite.
    """
    record = candidates_to_record(candidates, min_score)
    keypoint_set = record.get('keypoint_set')
    return describe_item(index, item) | {
        'sha256': sha256,
        **record['image'],
        'num_keypoints': record['num_keypoints'],
        'keypoint_set': None if keypoint_set is None else json.dumps(keypoint_set),
        'dropped': len(record['dropped']),
        'people': record['people'],
    }


def to_entry(row: Mapping[str, Any]) -> MergeEntry:
    """Convert a row without an error to an entry of the files of a run."""
    record = {
        'format': RECORD_FORMAT,
        'image': {'height': row['height'], 'width': row['width']},
        'num_keypoints': row['num_keypoints'],
        'people': row['people'],
    }
    if row['keypoint_set']:
        record['keypoint_set'] = json.loads(row['keypoint_set'])
    people = people_from_record(record)
    return MergeEntry(row['name'], parse_id(row['image_id']), people, row['dropped'])


def parse_id(text: str) -> int | str:
    """Return an id as an integer if it is the text of one."""
    return int(text) if text.isdecimal() and str(int(text)) == text else text


def to_parquet(rows: list[dict[str, Any]]) -> bytes:
    """Encode rows; equal rows give equal bytes."""
    buffer = BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows, SCHEMA), buffer, compression='zstd')
    return buffer.getvalue()


def from_parquet(data: bytes) -> pa.Table:
    """Decode rows.

    Raises:
        ValueError: The file is damaged or has another schema.
    """
    table = parquet.read_table(pa.BufferReader(data))
    version = (table.schema.metadata or {}).get(b'bbox-mask-pose-schema', b'none').decode()
    if version != VERSION:
        raise ValueError(f'schema version {version}; this version reads {VERSION}')
    return table
