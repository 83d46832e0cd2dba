"""Which people are found, and how well posed: by edge, keypoints, size and cover."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..boxes import xywh_to_xyxy
from ..datasets.annotation_rules import count_labelled
from ..io.coco import Task
from ..masks import Masks
from .calibration import HIT
from .matching import match
from .metrics import mean_or_none
from .overlaps import Flags, ImageOverlaps, Numbers, Row, compute_overlaps
from .parts import SIZE_EDGES
from .scored import ScoredResults
from .visibility import MIN_OKS

EDGE = 3  # px; a box closer than this to the edge of the image is at the edge


@dataclass(frozen=True)
class GroupRow:
    """People of one group in one task."""

    task: Task
    group: str
    num_people: int
    num_found: int  # matched at an IoU of `HIT`; for keypoints with a pose, see `measure_groups`
    recall: float | None  # num_found / num_people; None without people
    mean_oks: float | None  # of the found people; only for keypoints


@dataclass(frozen=True)
class GroupTable:
    """Recall and mean OKS of all groups and tasks."""

    rows: tuple[GroupRow, ...]

    @property
    def text(self) -> str:
        """Markdown table."""
        lines = ['', '| task | group | people | found | recall | mean OKS |', f'|{"---|" * 6}']
        for r in self.rows:
            figures = ' | '.join('' if v is None else f'{v:.3f}' for v in (r.recall, r.mean_oks))
            lines.append(f'| {r.task} | {r.group} | {r.num_people} | {r.num_found} | {figures} |')
        return '\n'.join(lines)


def measure_groups(scored: ScoredResults) -> GroupTable:
    """Compute recall at an IoU of 0.5 and, for poses, the mean OKS, by groups of people.

    A person is in one group of each kind: at the edge of the image or not, by annotated keypoints,
    by size (COCO's area), and by the fraction of the box inside the boxes of other people. A pose
    belongs to the person that it was predicted for (``annotation_id``, in protocols with
    ground-truth boxes), otherwise to the one that COCO's matching at an OKS of 0.1 gives.
    """
    sizes = {i['id']: (i['height'], i['width']) for i in scored.annotations['images']}
    rows = []
    for task in scored.tasks:
        images = compute_overlaps(scored, task)
        overlaps = np.concatenate([np.zeros(0), *(_overlaps_found(i, task) for i in images)])
        groups = [_group_people(image, sizes[image.image_id]) for image in images]
        for name in groups[0]:
            values = overlaps[np.concatenate([group[name] for group in groups])]
            found = values[values >= 0]
            recall = mean_or_none(values >= 0)
            oks = mean_or_none(found) if task == 'keypoints' else None
            rows.append(GroupRow(task, name, len(values), len(found), recall, oks))
    return GroupTable(tuple(rows))


def _overlaps_found(image: ImageOverlaps, task: Task) -> Numbers:
    """Overlap (G,) of each person with the matched result; -1 without one."""
    owners = match(image, MIN_OKS if task == 'keypoints' else HIT)
    if task == 'keypoints' and image.results and 'annotation_id' in image.results[0]:
        row_of = {person['id']: g for g, person in enumerate(image.people)}
        owners = np.array([row_of[r['annotation_id']] for r in image.results], np.int64)
    overlaps = np.full(len(image.people), -1.0)
    for d in np.flatnonzero(owners >= 0).tolist():
        overlaps[owners[d]] = image.overlaps[d, owners[d]]
    return overlaps


def _group_people(image: ImageOverlaps, shape: tuple[int, int]) -> dict[str, Flags]:
    """People (G,) of each group; ignored ones are in none."""
    boxes = xywh_to_xyxy([person['bbox'] for person in image.people])
    gaps = np.concatenate([boxes[:, :2], np.array(shape[::-1]) - boxes[:, 2:]], axis=1).min(1)
    counts = np.array([count_labelled(person) for person in image.people], np.int64)
    sides = np.sqrt([person['area'] for person in image.people])
    small, large = SIZE_EDGES
    cover = np.array(list(_covered_fractions(image.people, shape)), np.float64)
    groups = {
        'all': np.ones(len(boxes), bool),
        'at the edge of the image': gaps < EDGE,
        'not at the edge': gaps >= EDGE,
        '1-5 keypoints': (counts > 0) & (counts < 6),
        '6-11 keypoints': (counts >= 6) & (counts < 12),
        '12 or more keypoints': counts >= 12,
        'small': sides < small,
        'medium': (sides >= small) & (sides < large),
        'large': sides >= large,
        'alone': cover == 0,
        'covered by up to half': (cover > 0) & (cover <= 0.5),
        'covered by more than half': cover > 0.5,
    }
    return {name: np.asarray(inside & ~image.ignored) for name, inside in groups.items()}


def _covered_fractions(people: Sequence[Row], shape: tuple[int, int]) -> Iterator[float]:
    """Fraction of each person's box inside the boxes of others, crowd regions excluded."""
    boxes = Masks.from_boxes(xywh_to_xyxy([person['bbox'] for person in people]), shape)
    for g in range(len(people)):
        covered = np.zeros(boxes.crops[g].shape, bool)
        for other, person in enumerate(people):
            if other != g and not person['iscrowd']:
                covered |= boxes.crop(other, boxes.window(g))
        yield float(covered.mean()) if covered.size else 0.0
