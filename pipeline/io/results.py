"""COCO results files and their side files.

``results.json`` is a list with one row per person. ``results.info.json`` beside it holds a
`ResultsInfo`: how the results were computed. The scorer prints it with the metrics.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from .atomic import write_json
from .coco import TASKS, Task

ProtocolName = Literal['loop', 'gt_boxes', 'gt_keypoints', 'detected_keypoints', 'oracle']
FORMAT = 'bbox-mask-pose-results/1'


@dataclass(frozen=True)
class ProtocolFacts:
    """Input and scoring of a protocol."""

    text: str  # one line for tables
    tasks: tuple[Task, ...]  # tasks that are scored
    from_ground_truth: bool  # starts from annotated people; rows carry ``annotation_id``
    keypoints_needed: bool = False  # uses only people with labelled keypoints


PROTOCOLS: dict[ProtocolName, ProtocolFacts] = {
    'loop': ProtocolFacts('detector boxes, the whole loop', TASKS, from_ground_truth=False),
    'gt_boxes': ProtocolFacts(
        'ground-truth boxes -> pose', ('keypoints',), from_ground_truth=True, keypoints_needed=True
    ),
    'gt_keypoints': ProtocolFacts(
        'ground-truth keypoints -> mask', ('segm',), from_ground_truth=True, keypoints_needed=True
    ),
    'detected_keypoints': ProtocolFacts(
        'boxes -> pose -> mask, one pass', ('segm', 'keypoints'), from_ground_truth=False
    ),
    'oracle': ProtocolFacts('ground truth replayed, no model', TASKS, from_ground_truth=True),
}


@dataclass(frozen=True)
class ResultsInfo:
    """How a results file was computed; the fields are the keys of the side file.

    It has no times and no device, so equal runs write equal bytes.
    """

    protocol: ProtocolName
    protocol_text: str  # with the options of the protocol
    from_truth: bool  # rows carry ``annotation_id``; the people of the protocol are scored
    tasks: tuple[Task, ...]
    data_set: str
    annotations: str  # file
    annotations_sha256: str
    config: str  # argument of the command
    config_text: str  # resolved, as Python
    weights: Mapping[str, str]  # checkpoint -> sha256
    precision: str
    version: str
    image_ids: tuple[int | str, ...]  # all images of the run, failed ones included
    failed: tuple[str, ...] = ()  # names of images without results
    notes: tuple[str, ...] = ()  # remarks for the reader of the metrics

    def lines(self) -> list[tuple[str, str]]:
        """List name and text of each line for a table."""
        weights = ', '.join(f'{name} ({sha[:8]})' for name, sha in self.weights.items())
        lines = [
            ('protocol', f'{self.protocol}: {self.protocol_text}'),
            ('data set', self.data_set),
            ('config', f'{self.config} ({self.precision})'),
            ('weights', weights or 'none'),
        ]
        if self.failed:
            lines.append(('failed images', f'{len(self.failed)}, counted as without results'))
        return lines + [('note', note) for note in self.notes]


def info_path(results: Path) -> Path:
    """Path of the side file of a results file."""
    return results.with_name(f'{results.stem}.info.json')


def write_info(results: Path, info: ResultsInfo) -> Path:
    """Write the side file of ``results``; returns its path."""
    path = info_path(results)
    write_json(path, {'format': FORMAT, **asdict(info)}, indent=1)
    return path


def read_results(path: Path) -> tuple[Any, ResultsInfo | None]:
    """Read a results file, and its side file if it exists.

    Raises:
        OSError: The file cannot be read.
        ValueError: A file is not JSON, or the side file has another format.
    """
    return read_json(path), read_info(path)


def read_info(results: Path) -> ResultsInfo | None:
    """Read the side file of ``results``, if it exists; raises the errors of `read_results`."""
    path = info_path(results)
    if not path.is_file():
        return None
    content = read_json(path)
    if not isinstance(content, dict) or content.pop('format', None) != FORMAT:
        raise ValueError(f'{path} is not a side file of format {FORMAT!r}; remove it or run again')
    known = {f.name for f in fields(ResultsInfo)}
    if set(content) != known or content['protocol'] not in PROTOCOLS:
        raise ValueError(f'{path} does not fit this version; remove it or run again')
    lists = {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
    return ResultsInfo(**(content | lists))


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        OSError: The file cannot be read.
        ValueError: The content is not JSON; names the file.
    """
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f'{path} is not a JSON file: {error}') from error
