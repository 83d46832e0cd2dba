"""COCO metrics of boxes, masks and keypoints from a results file.

All images of the annotation file count, including those without results. If the run covered a part
of them, only that part counts. Crowd regions (``iscrowd``) and, in the keypoint task, people
without labelled keypoints are ignored, as COCO defines it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..datasets.annotation_rules import count_labelled
from ..datasets.annotations import Annotations, check_annotations
from ..io.atomic import compute_sha256
from ..io.coco import PERSON, RESULT_KEYS, TASKS, Task, select_task
from ..io.results import PROTOCOLS, ResultsInfo
from ..keypoint_sets import KEYPOINT_SETS, to_convention
from ..keypoints import AREA_OF_BOX, NUM_COCO, KeypointSet
from .image_names import matching_files
from .mask_iou import compute_mean_mask_iou
from .metrics import CocoMetrics, CrowdLevels, MaskIoU, TaskMetrics
from .results_check import select_people, select_task_rows

# Bounds of easy, medium and hard in the evaluation code of CrowdPose, the source of published
# results; the paper (arXiv 1812.00324) has 0.1 and 0.8.
CROWD_BOUNDS = (0.2, 0.8)

Row = dict[str, Any]


def score_files(
    results_file: str | Path,
    annotation_file: str | Path,
    tasks: Sequence[Task] | None = None,
    *,
    crowd_bounds: tuple[float, float] = CROWD_BOUNDS,
    person_category: str | None = None,
) -> CocoMetrics:
    """Score a COCO results file against a COCO annotation file; see `score`.

    Raises:
        ValueError: a file cannot be read, is not JSON or has invalid content; names the file.
    """
    with matching_files(Path(results_file), Path(annotation_file), person_category) as files:
        results, annotations, info, remarks = files
        metrics = score(results, annotations, tasks, info=info, crowd_bounds=crowd_bounds)
    metrics = replace(metrics, remarks=(*remarks, *metrics.remarks))
    if info is not None and info.annotations_sha256 != compute_sha256(Path(annotation_file)):
        remark = f'{annotation_file} is not the annotation file of the run, {info.annotations}'
        metrics = replace(metrics, remarks=(remark, *metrics.remarks))
    return metrics


def score(
    results: list[Row],
    annotations: dict[str, Any],
    tasks: Sequence[Task] | None = TASKS,
    *,
    info: ResultsInfo | None = None,
    crowd_bounds: tuple[float, float] = CROWD_BOUNDS,
    sizes_of_boxes: bool = False,
) -> CocoMetrics:
    """Score results with the rules of COCO, or of CrowdPose for annotations of its 14 keypoints.

    CrowdPose: the area of a person is 0.53 of the box, results with COCO's 17 keypoints are
    converted, and keypoint AP is also reported for each level of ``crowdIndex``.

    Args:
        results: output of `People.to_coco` for all images, in one list. A task needs only its own
            keys; rows with a null value are not results of the task. Not modified.
        annotations: content of a COCO annotation file. Only people are scored.
        tasks: any of 'bbox', 'segm' and 'keypoints'; None: all that the annotations and the
            results have.
        info: provenance of the results: the images of the run and its protocol.
        crowd_bounds: minimum ``crowdIndex`` of medium and of hard images.
        sizes_of_boxes: use the ``bbox`` of a pose as its size, as in MMPose's metric; COCO uses
            the extent of its keypoints. Affects AP and AR by size only.

    Raises:
        ValueError: unknown images or tasks, missing keys, or values that are not finite numbers.
    """
    _check_tasks(tasks)
    ground_truth = check_annotations(annotations, tasks=tasks)
    scene = _Scene.of(ground_truth, info)
    results = select_people(results, annotations, scene.numbers, ours=info is not None)
    requested = _tasks_of_results(results, info) if tasks is None else tuple(tasks)
    scored = [task for task in requested if task in ground_truth.tasks]
    skipped = dict.fromkeys(TASKS, 'not annotated') | dict(ground_truth.left_out)
    if not scored:
        raise ValueError(f'nothing to score: the results have {_listed(requested)}, the annotations'
                         f' {_listed(ground_truth.tasks)}')  # fmt: skip
    rows = {task: _evaluator_rows(results, task, scene, sizes_of_boxes) for task in scored}
    with_results = {result['image_id'] for result in results}
    return CocoMetrics(
        tasks={task: _score_task(rows[task], scene, task) for task in scored},
        image_ids=tuple(scene.numbers),
        ids_without_results=tuple(i for i in scene.numbers if i not in with_results),
        num_people=sum(not a['iscrowd'] for a in scene.participants),
        num_results=len(results),
        crowd=_crowd_levels(rows, scene, crowd_bounds),
        mask_iou=_mask_iou(results, scene, scored, info),
        skipped={task: skipped[task] for task in requested if task not in scored},
        info=info,
        remarks=ground_truth.remarks,
    )


@dataclass(frozen=True)
class _Scene:
    """Validated annotations that count, and evaluator ids of their images."""

    images: list[Row]
    people: list[Row]  # with crowd regions
    numbers: Mapping[int | str, int]  # image id -> number from 1; the evaluator requires integers
    keypoints: KeypointSet
    crowdpose: bool
    participants: list[Row]  # the people that the protocol evaluates

    @classmethod
    def of(cls, annotations: Annotations, info: ResultsInfo | None) -> _Scene:
        images, people = annotations.content['images'], annotations.content['annotations']
        if info is not None:
            images = _select_images(images, info.image_ids)
        # Equal scores are ranked by image id, as in pycocotools.
        order = sorted((i['id'] for i in images), key=lambda v: (isinstance(v, str), v))
        numbers = {image_id: number for number, image_id in enumerate(order, start=1)}
        people = [a for a in people if a['image_id'] in numbers]
        keypoints, crowdpose = annotations.convention, annotations.convention == 'crowdpose14'
        participants = select_participants(people, info)
        return cls(images, people, numbers, KEYPOINT_SETS[keypoints], crowdpose, participants)

    def people_of(self, task: Task) -> list[Row]:
        """Annotations that count in a task."""
        # In the keypoint task, the evaluator ignores people without labelled keypoints.
        return self.people if task == 'keypoints' else self.participants


def select_participants(people: list[Row], info: ResultsInfo | None) -> list[Row]:
    """Select the people that the protocol of a run evaluates; without ``info``, all."""
    if info is None or not PROTOCOLS[info.protocol].keypoints_needed:
        return people
    return [a for a in people if not a['iscrowd'] and count_labelled(a) > 0]


def _select_images(images: list[Row], image_ids: Collection[int | str]) -> list[Row]:
    selected = set(image_ids)
    unknown = selected - {image['id'] for image in images}
    if unknown:
        raise ValueError(
            f'{len(unknown)} images of the run are not in the annotations, e.g. '
            f'{next(iter(unknown))!r}; score against the annotation file of the run'
        )
    return [image for image in images if image['id'] in selected]


def _tasks_of_results(results: Sequence[Row], info: ResultsInfo | None) -> tuple[Task, ...]:
    if info is not None:
        return info.tasks
    if not results:
        return TASKS
    return tuple(t for t in TASKS if any(r.get(RESULT_KEYS[t]) is not None for r in results))


def _evaluator_rows(
    results: Sequence[Row], task: Task, scene: _Scene, sizes_of_boxes: bool
) -> list[Row]:
    """Convert results to the format of the evaluator."""
    sizes = {image['id']: [image['height'], image['width']] for image in scene.images}
    rows = select_task_rows(results, task, sizes, scene.keypoints.num)
    changes = [{'image_id': scene.numbers[r['image_id']], 'category_id': PERSON} for r in rows]
    converted = [r | change for r, change in zip(select_task(rows, task), changes, strict=True)]
    if task == 'keypoints' and scene.crowdpose:
        for row, points in zip(converted, convert_to_crowdpose(rows), strict=True):
            row['keypoints'] = points
    if task == 'keypoints' and sizes_of_boxes:
        converted = [row | {'bbox': r['bbox']} for row, r in zip(converted, rows, strict=True)]
    return converted


def convert_to_crowdpose(rows: Sequence[Row]) -> list[list[float]]:
    """Convert keypoints of results to CrowdPose's 14 (flat x, y, score), unless they have them."""
    converted = []
    for row in rows:
        if len(row['keypoints']) != 3 * NUM_COCO:
            converted.append(row['keypoints'])
            continue
        flat = [*row['keypoints'], *(row.get('extra_keypoints') or ())]
        points = np.array(flat, np.float32).reshape(1, -1, 3)
        xy, scores = to_convention(points[..., :2], points[..., 2], 'crowdpose14')
        converted.append(np.concatenate([xy[0], scores[0, :, None]], 1).ravel().tolist())
    return converted


def _score_task(rows: list[Row], scene: _Scene, task: Task) -> TaskMetrics:
    stats = _evaluate(rows, scene, task, set(scene.numbers.values()))
    # The evaluator returns -1 for metrics without ground truth.
    values = [None if value < 0 else value for value in stats.tolist()]
    if task == 'keypoints':
        ap, ap50, ap75, medium, large, ar, ar50, ar75, ar_medium, ar_large = values
        small = ar_small = None
    else:
        # Recall at 1, 10 and 100 results per image.
        ap, ap50, ap75, small, medium, large, _, _, ar, *rest = values
        ar_small, ar_medium, ar_large, ar50, ar75 = rest
    return TaskMetrics(
        ap, ap50, ap75, small, medium, large, ar, ar50, ar75, ar_small, ar_medium, ar_large
    )


def _evaluate(
    rows: Sequence[Row], scene: _Scene, task: Task, numbers: Collection[int]
) -> npt.NDArray[np.float64]:
    """Compute the COCO metrics of the images in ``numbers``, in the order of COCO's summary."""
    from faster_coco_eval import COCO, COCOeval_faster

    images = [
        {'id': scene.numbers[i['id']], 'height': i['height'], 'width': i['width']}
        for i in scene.images
    ]
    dataset = {
        'images': [image for image in images if image['id'] in numbers],
        'categories': [{'id': PERSON, 'name': 'person'}],
        # New ids from 1: the evaluator reads id 0 as "not matched".
        'annotations': [
            _ground_truth_row(a, number, scene, task)
            for number, a in enumerate(scene.people_of(task), start=1)
            if scene.numbers[a['image_id']] in numbers
        ],
    }
    ground_truth = COCO(dataset)
    run = COCOeval_faster(
        ground_truth,
        ground_truth.loadRes([row for row in rows if row['image_id'] in numbers]),
        task,
        print_function=_ignore,
        kpt_oks_sigmas=scene.keypoints.sigmas,
    )
    run.params.catIds = [PERSON]
    run.run()
    return np.asarray(run.all_stats, np.float64)


def _ground_truth_row(annotation: Row, number: int, scene: _Scene, task: Task) -> Row:
    """Convert an annotation to the format of the evaluator, for one task."""
    keys = {'bbox': (), 'segm': ('segmentation',), 'keypoints': ('keypoints', 'num_keypoints')}
    row = {key: annotation[key] for key in ('bbox', 'area', 'iscrowd', *keys[task])}
    row |= {'id': number, 'image_id': scene.numbers[annotation['image_id']], 'category_id': PERSON}
    if scene.crowdpose:
        row['area'] = annotation['bbox'][2] * annotation['bbox'][3] * AREA_OF_BOX
    return row


def _crowd_levels(
    rows: Mapping[Task, list[Row]], scene: _Scene, bounds: tuple[float, float]
) -> CrowdLevels | None:
    if not scene.crowdpose or 'keypoints' not in rows:
        return None
    if not all('crowdIndex' in image for image in scene.images):
        return None
    low, high = bounds
    levels: tuple[set[int], ...] = (set(), set(), set())
    for image in scene.images:
        index = image['crowdIndex']
        levels[int(index >= low) + int(index >= high)].add(scene.numbers[image['id']])
    easy, medium, hard = (_keypoint_ap(rows['keypoints'], scene, level) for level in levels)
    return CrowdLevels(easy, medium, hard, bounds)


def _keypoint_ap(rows: Sequence[Row], scene: _Scene, numbers: Collection[int]) -> float | None:
    ap = float(_evaluate(rows, scene, 'keypoints', numbers)[0]) if numbers else -1.0
    return None if ap < 0 else ap


def _mask_iou(
    results: Sequence[Row], scene: _Scene, scored: Sequence[Task], info: ResultsInfo | None
) -> MaskIoU | None:
    if 'segm' not in scored or info is None or not info.from_truth:
        return None
    people = [a for a in scene.people_of('segm') if not a['iscrowd']]
    return compute_mean_mask_iou(results, people, scene.images)


def _check_tasks(tasks: Sequence[Task] | None) -> None:
    if tasks is None:
        return
    unknown = [task for task in tasks if task not in TASKS]
    if unknown or not tasks:
        raise ValueError(f'tasks must be some of {", ".join(TASKS)}; got {unknown or "none"}')


def _listed(tasks: Sequence[Task]) -> str:
    return ', '.join(tasks) or 'none'


def _ignore(*_: object) -> None:
    """Suppress the progress lines of the evaluator."""
