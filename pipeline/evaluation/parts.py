"""Metrics of groups of people: by crowding and by size; other people are ignored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..boxes import max_neighbour_iou, xywh_to_xyxy
from ..io.coco import Task
from ..rle import to_rle
from .matching import PartScore, score_part
from .metrics import format_percent
from .overlaps import Flags, ImageOverlaps, Numbers, Row, compute_overlaps
from .scored import ScoredResults

CROWDING_EDGES = (0.1, 0.3, 0.5)  # 0.3: box NMS of the loop; 0.5: where OCHuman begins
SIZE_EDGES = (32.0, 96.0)  # px, square root of the area; small, medium, large of COCO


@dataclass(frozen=True)
class PartRow:
    """Metrics of one task and one part of the people; see `PartScore`."""

    task: Task
    part: str
    low: float  # lower bound of the part
    high: float  # upper bound, exclusive (for sizes inclusive, as in COCO); inf in the last part
    num_people: int
    ap: float | None
    ap_equal_size: float | None
    ap50: float | None
    ar: float | None


@dataclass(frozen=True)
class PartTable:
    """Metrics by crowding or by size."""

    quantity: str
    rows: tuple[PartRow, ...]

    @property
    def text(self) -> str:
        """Best and worst part of each task."""
        lines = []
        for task in dict.fromkeys(r.task for r in self.rows):
            scored = [r for r in self.rows if r.task == task and r.ap_equal_size is not None]
            best = max(scored, key=lambda r: r.ap_equal_size or 0, default=None)
            worst = min(scored, key=lambda r: r.ap_equal_size or 0, default=None)
            if best is None or worst is None:
                lines.append(f'{task}: no annotated people')
            else:
                lines.append(f'{task}: best {_described(best)}, worst {_described(worst)}')
        return f'AP (equal size) by {self.quantity}: ' + '; '.join(lines)


def measure_crowding(scored: ScoredResults, edges: Sequence[float] = CROWDING_EDGES) -> PartTable:
    """Compute metrics by the highest box IoU of a person with another person in the image.

    A part contains the people with a value in [edge, next edge). Crowd regions are not neighbours.

    Raises:
        ValueError: edges are not increasing inside (0, 1).
    """
    _check_edges(edges, 1)
    bounds = (0.0, *edges, float('inf'))
    rows = []
    for task in scored.tasks:
        images = compute_overlaps(scored, task)
        ious = [_neighbour_iou(image) for image in images]
        for low, high in pairwise(bounds):
            outside = [
                image.ignored | (iou < low) | (iou >= high)
                for image, iou in zip(images, ious, strict=True)
            ]
            name = f'{low:g} to {min(high, 1):g}'
            rows.append(_row(task, name, low, high, score_part(images, outside)))
    return PartTable('highest box IoU with a neighbour', tuple(rows))


def measure_sizes(scored: ScoredResults, edges: Sequence[float] = SIZE_EDGES) -> PartTable:
    """Compute metrics by the square root of the annotated area, in px.

    As in COCO, a false positive counts only in the part of its size, and a person exactly on an
    edge belongs to both parts. The default edges are COCO's small, medium and large.

    Raises:
        ValueError: edges are not increasing above 0.
    """
    _check_edges(edges, float('inf'))
    bounds = (0.0, *edges, float('inf'))
    rows = []
    for task in scored.tasks:
        images = compute_overlaps(scored, task)
        people = [np.array([a['area'] for a in image.people], np.float64) for image in images]
        results = [
            np.array([_result_area(r, task) for r in image.results], np.float64) for image in images
        ]
        for low, high in pairwise(bounds):
            outside = [
                image.ignored | _outside(areas, low, high)
                for image, areas in zip(images, people, strict=True)
            ]
            score = score_part(
                images, outside, unmatched_ignored=[_outside(areas, low, high) for areas in results]
            )
            name = f'{low:g} to {high:g}' if np.isfinite(high) else f'{low:g} and more'
            rows.append(_row(task, name, low, high, score))
    return PartTable('size of the person (square root of the area, px)', tuple(rows))


def _row(task: Task, part: str, low: float, high: float, score: PartScore) -> PartRow:
    return PartRow(
        task, part, low, high, score.num_people, score.ap, score.ap_equal_size, score.ap50, score.ar
    )


def _neighbour_iou(image: ImageOverlaps) -> Numbers:
    """Highest box IoU (G,) with another person; 0 for crowd regions."""
    single = np.flatnonzero(~image.crowds)
    boxes = xywh_to_xyxy([image.people[g]['bbox'] for g in single])
    values = np.zeros(len(image.people))
    values[single] = max_neighbour_iou(boxes)
    return values


def _result_area(row: Row, task: Task) -> float:
    """Size of a result in px^2, as ``COCO.loadRes`` defines it for each task."""
    if task == 'bbox':
        return float(row['bbox'][2] * row['bbox'][3])
    if task == 'segm':
        from pycocotools import mask as coco_mask

        size = row['segmentation']['size']
        return float(coco_mask.area(to_rle(row['segmentation'], *size)))
    points = np.array(row['keypoints'], np.float64).reshape(-1, 3)[:, :2]
    return float(np.prod(points.max(0) - points.min(0)))


def _outside(areas: Numbers, low: float, high: float) -> Flags:
    return np.asarray((areas < low**2) | (areas > high**2))


def _check_edges(edges: Sequence[float], highest: float) -> None:
    bounds = (0.0, *edges, highest)
    if not all(a < b for a, b in pairwise(bounds)):
        raise ValueError(f'edges must increase inside (0, {highest:g}), got {list(edges)}')


def _described(row: PartRow) -> str:
    return f'{format_percent(row.ap_equal_size)} at {row.part} (n={row.num_people})'
