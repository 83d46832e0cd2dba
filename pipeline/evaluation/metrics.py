"""Metrics of an evaluation, and their tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..io.coco import Task
from ..io.results import ResultsInfo
from ..io.tables import escape_markdown

if TYPE_CHECKING:
    from rich.console import Group

TASK_NAMES: dict[str, str] = {'bbox': 'boxes', 'segm': 'masks', 'keypoints': 'keypoints'}


@dataclass(frozen=True)
class TaskMetrics:
    """Metrics of one task in [0, 1], higher is better; None without annotated people.

    The overlap is the IoU of boxes, the IoU of masks, or the OKS of keypoints. AP is precision
    averaged over recall 0, 0.01, ..., 1. At most 100 results per image count (keypoints: 20).
    Small, medium and large refer to the area of the annotation.
    """

    ap: float | None  # AP, mean over overlap thresholds 0.50, 0.55, ..., 0.95
    ap50: float | None  # AP at an overlap threshold of 0.50
    ap75: float | None  # AP at an overlap threshold of 0.75
    ap_small: float | None  # ap of people up to 32^2 px; None for keypoints, as in COCO
    ap_medium: float | None  # ap of people of 32^2 to 96^2 px
    ap_large: float | None  # ap of people from 96^2 px on
    ar: float | None  # recall, mean over overlap thresholds 0.50, 0.55, ..., 0.95
    ar50: float | None = None  # recall at an overlap threshold of 0.50
    ar75: float | None = None  # recall at an overlap threshold of 0.75
    ar_small: float | None = None  # ar by size, as above
    ar_medium: float | None = None
    ar_large: float | None = None


@dataclass(frozen=True)
class CrowdLevels:
    """Keypoint AP of images by CrowdPose's ``crowdIndex``; None without such images."""

    easy: float | None  # crowdIndex below the first bound
    medium: float | None  # from the first bound to below the second
    hard: float | None  # from the second bound on
    bounds: tuple[float, float]


@dataclass(frozen=True)
class MaskIoU:
    """Mean IoU of masks with the annotations that prompted them."""

    mean: float | None  # in [0, 1], with 0 for people without a result; None without people
    people: int


@dataclass(frozen=True)
class CocoMetrics:
    """Metrics of all scored tasks, and the data that they were scored on."""

    tasks: Mapping[Task, TaskMetrics]
    image_ids: tuple[int | str, ...]  # all images that count
    ids_without_results: tuple[int | str, ...]  # images without results
    num_people: int  # annotated, without crowd regions
    num_results: int
    crowd: CrowdLevels | None = None  # CrowdPose only
    mask_iou: MaskIoU | None = None  # only for results with annotation ids
    skipped: Mapping[Task, str] = field(default_factory=dict)  # task -> reason
    info: ResultsInfo | None = None  # provenance of the results, if known
    remarks: tuple[str, ...] = ()  # warnings about the files

    def table(self) -> Group:
        """Build the tables for the terminal, in percent, with the provenance above."""
        from rich.console import Group
        from rich.table import Table

        head = Table.grid(padding=(0, 2))
        for key, text in self.lines():
            head.add_row(key, text)
        tables = [head]
        for columns, rows in self._tables():
            table = Table(*columns)
            for column in table.columns[1:]:
                column.justify = 'right'
            for row in rows:
                table.add_row(*row)
            tables.append(table)
        return Group(*tables)

    def to_markdown(self) -> str:
        """Build the tables as Markdown text."""
        parts = ['\n'.join(f'- {key}: {escape_markdown(text)}' for key, text in self.lines())]
        for columns, rows in self._tables():
            ruler = ['---', *['---:'] * (len(columns) - 1)]
            lines = [columns, ruler, *rows]
            parts.append('\n'.join(f'| {" | ".join(line)} |' for line in lines))
        return '\n\n'.join(parts) + '\n'

    def to_json(self, *, with_ids: bool = False) -> str:
        """Build JSON text: metrics in [0, 1] (null where undefined), counts, and optional ids."""
        report: dict[str, Any] = {
            'metrics': {task: asdict(metrics) for task, metrics in self.tasks.items()},
            'crowd': asdict(self.crowd) if self.crowd else None,
            'mask_iou': asdict(self.mask_iou) if self.mask_iou else None,
            'skipped': dict(self.skipped),
            'num_images': len(self.image_ids),
            'num_images_without_results': len(self.ids_without_results),
            'num_people': self.num_people,
            'num_results': self.num_results,
            'remarks': list(self.remarks),
            'made_with': None,
        }
        if self.info:
            provenance = asdict(self.info)
            del provenance['image_ids']  # optional, below
            report['made_with'] = provenance
        if with_ids:
            report['image_ids'] = list(self.image_ids)
            report['image_ids_without_results'] = list(self.ids_without_results)
        return json.dumps(report, indent=2) + '\n'

    def lines(self) -> list[tuple[str, str]]:
        """Return name and text of each line above the tables."""
        lines = self.info.lines() if self.info else [('protocol', 'not stated (no side file)')]
        images = f'{len(self.image_ids)} ({len(self.ids_without_results)} without results)'
        lines = [*lines, ('images', images)]
        lines.append(('people', f'{self.num_people} annotated, {self.num_results} results'))
        lines += [(f'no {task}', reason) for task, reason in self.skipped.items()]
        return lines + [('remark', remark) for remark in self.remarks]

    def _tables(self) -> list[tuple[list[str], list[list[str]]]]:
        """Return columns and rows of each table."""
        columns = ['percent', '0.50:0.95', '@ 0.50', '@ 0.75', 'small', 'medium', 'large']
        rows = []
        for task, metrics in self.tasks.items():
            values = asdict(metrics)
            for kind in ('ap', 'ar'):
                ends = ('', '50', '75', '_small', '_medium', '_large')
                row = [format_percent(values[f'{kind}{end}']) for end in ends]
                rows.append([f'{task} {kind.upper()}', *row])
        tables = [(columns, rows)]
        if self.crowd:
            low, high = self.crowd.bounds
            bounds = [f'easy (< {low:g})', f'medium ({low:g} - {high:g})', f'hard (>= {high:g})']
            levels = map(format_percent, (self.crowd.easy, self.crowd.medium, self.crowd.hard))
            tables.append((['crowdIndex', *bounds], [['keypoints AP', *levels]]))
        if self.mask_iou:
            row = ['mask', format_percent(self.mask_iou.mean), str(self.mask_iou.people)]
            tables.append((['percent', 'mean IoU', 'people'], [row]))
        return tables


def format_percent(value: float | None) -> str:
    """Format a fraction as percent; – for None."""
    return '–' if value is None else f'{100 * value:.1f}'


def mean_or_none(values: Sequence[float] | npt.NDArray[Any]) -> float | None:
    """Average values; None without values."""
    return float(np.mean(values)) if len(values) else None
