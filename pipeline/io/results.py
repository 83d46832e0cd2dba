"""COCO results files and their side files.

``results.json`` is a list with one row per person. ``results.info.json`` beside it holds a
`ResultsInfo`: how the results were computed. The scorer prints it with the metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from ..values import in_line, shorten
from .atomic import write_json
from .coco import TASKS, Task
from .coco_checks import as_id, read_json
from .inputs import InputError

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
        InputError: A file cannot be read or is not JSON, or the side file has another format.
    """
    return read_json(path), read_info(path)


def read_info(results: Path) -> ResultsInfo | None:
    """Read the side file of ``results``, if it exists; raises the errors of `read_results`."""
    path = info_path(results)
    if not path.is_file():
        return None
    content = read_json(path)
    if not isinstance(content, dict) or content.pop('format', None) != FORMAT:
        raise InputError(f'{path} is not a side file of format {FORMAT!r}; remove it or run again')
    known = {f.name for f in fields(ResultsInfo)}
    wrong = sorted(set(content) ^ known) or [k for k in known if not _fits(k, content[k])]
    if wrong:
        raise InputError(
            f'{path} does not fit this version: {in_line(wrong[0])} is '
            f'{shorten(content.get(wrong[0], "missing"))}; remove the file or run again'
        )
    lists = {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
    return ResultsInfo(**(content | lists))


def _fits(name: str, value: Any) -> bool:
    """Whether a value of a side file has the type of its field."""
    if name == 'from_truth':
        return isinstance(value, bool)
    if name == 'weights':
        return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
    if name in ('tasks', 'image_ids', 'failed', 'notes'):
        allowed = {'tasks': lambda v: v in TASKS, 'image_ids': lambda v: as_id(v) is not None}
        is_right = allowed.get(name, lambda v: isinstance(v, str))
        return isinstance(value, list) and all(map(is_right, value))
    return isinstance(value, str) and (name != 'protocol' or value in PROTOCOLS)
