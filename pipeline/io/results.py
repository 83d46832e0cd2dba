"""A file of COCO results, and the side file that says how they were made.

``results.json`` is a list with one row per person; ``results.info.json`` beside it holds a
`ResultsInfo`. Figures without their protocol mean nothing, so the scorer prints both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from .atomic import write_json
from .coco import TASKS, Task

ProtocolName = Literal['loop', 'gt_boxes', 'gt_keypoints', 'detected_keypoints', 'oracle']
FORMAT = 'bbox-mask-pose-results/1'


@dataclass(frozen=True)
class ProtocolFacts:
    """What a protocol is given, what is scored, and on whom."""

    text: str  # one line for tables
    tasks: tuple[Task, ...]  # what its results are scored for
    from_truth: bool  # starts from annotated people, so every row knows its annotation
    keypoints_needed: bool = False  # only people with labelled keypoints take part


PROTOCOLS: dict[ProtocolName, ProtocolFacts] = {
    'loop': ProtocolFacts('detector boxes, the whole loop', TASKS, from_truth=False),
    'gt_boxes': ProtocolFacts(
        'ground-truth boxes -> pose', ('keypoints',), from_truth=True, keypoints_needed=True
    ),
    'gt_keypoints': ProtocolFacts(
        'ground-truth keypoints -> mask', ('segm',), from_truth=True, keypoints_needed=True
    ),
    'detected_keypoints': ProtocolFacts(
        'boxes -> pose -> mask, one pass', ('segm', 'keypoints'), from_truth=False
    ),
    'oracle': ProtocolFacts('ground truth replayed, no model', TASKS, from_truth=True),
}


@dataclass(frozen=True)
class ResultsInfo:
    """How a results file was made. Holds no time and no device: equal runs give equal bytes."""

    protocol: ProtocolName
    protocol_text: str  # with the options of the protocol
    from_truth: bool  # rows carry ``annotation_id``; the people of the protocol are scored
    tasks: tuple[Task, ...]
    data_set: str
    annotations: str  # file
    annotations_sha256: str
    config: str  # as the user gave it
    config_text: str  # resolved, as Python
    weights: Mapping[str, str]  # checkpoint -> sha256
    precision: str
    version: str
    image_ids: tuple[int | str, ...]  # photos that were asked for, failed ones included
    failed: tuple[str, ...] = ()  # names of photos without results
    notes: tuple[str, ...] = field(default=())  # what has to be told with the figures

    def lines(self) -> list[tuple[str, str]]:
        """What a table says about the results: name and text of each line."""
        weights = ', '.join(f'{name} ({sha[:8]})' for name, sha in self.weights.items())
        lines = [
            ('protocol', f'{self.protocol}: {self.protocol_text}'),
            ('data set', self.data_set),
            ('config', f'{self.config} ({self.precision})'),
            ('weights', weights or 'none'),
        ]
        if self.failed:
            lines.append(('failed photos', f'{len(self.failed)}, counted as without results'))
        return lines + [('note', note) for note in self.notes]


def info_path(results: Path) -> Path:
    """The side file of a results file."""
    return results.with_name(f'{results.stem}.info.json')


def write_info(results: Path, info: ResultsInfo) -> Path:
    """Write the side file of ``results``; returns its path."""
    path = info_path(results)
    write_json(path, {'format': FORMAT, **asdict(info)}, indent=1)
    return path


def read_results(path: Path) -> tuple[Any, ResultsInfo | None]:
    """Content of a results file, and of its side file if there is one.

    Raises:
        OSError: the file cannot be read.
        ValueError: a file is no JSON, or the side file is of another format; names the file.
    """
    return read_json(path), read_info(path)


def read_info(results: Path) -> ResultsInfo | None:
    """The side file of ``results``, if there is one; raises as `read_results`."""
    path = info_path(results)
    return _info(path) if path.is_file() else None


def read_json(path: Path) -> Any:
    """JSON content of a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no JSON; names the file.
    """
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f'{path} is no JSON file: {error}') from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _info(path: Path) -> ResultsInfo:
    content = read_json(path)
    if not isinstance(content, dict) or content.pop('format', None) != FORMAT:
        raise ValueError(f'{path} is no side file of format {FORMAT!r}; remove it or run again')
    known = {f.name for f in fields(ResultsInfo)}
    if set(content) != known or content['protocol'] not in PROTOCOLS:
        raise ValueError(f'{path} does not fit this version; remove it or run again')
    lists = {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
    return ResultsInfo(**(content | lists))
