"""COCO metrics of boxes, masks and keypoints from a results file.

Legend: a photo is an image of the annotation file; all photos of that file count, also those
without results. Crowd regions (``iscrowd``) and people without labelled keypoints (in the
keypoint task) are ignored, as COCO defines it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.coco import PERSON, TASKS, Task, for_task
from ..keypoints import COCO_SIGMAS, NUM_COCO

if TYPE_CHECKING:
    from rich.table import Table

_Ids = Mapping[int | str, int]


@dataclass(frozen=True)
class TaskMetrics:
    """Metrics of one task, each in [0, 1], higher is better; None where nothing is annotated.

    Overlap is IoU of boxes, IoU of masks, or OKS of keypoints. AP is precision, averaged over
    recall 0, 0.01, ..., 1. At most 100 results per photo count, 20 in the keypoint task.
    """

    ap: float | None  # AP, mean over overlaps 0.50, 0.55, ..., 0.95
    ap50: float | None  # AP where an overlap of 0.50 is a hit
    ap75: float | None  # AP where an overlap of 0.75 is a hit
    ap_small: float | None  # as ap, people up to 32^2 px; COCO has none for keypoints: None
    ap_medium: float | None  # as ap, people of 32^2 to 96^2 px
    ap_large: float | None  # as ap, people from 96^2 px on
    ar: float | None  # share of people found, mean over overlaps 0.50, 0.55, ..., 0.95


@dataclass(frozen=True)
class CocoMetrics:
    """Metrics of the tasks that were scored, and what they were scored on."""

    tasks: Mapping[Task, TaskMetrics]
    image_ids: tuple[int | str, ...]  # all photos of the annotation file
    ids_without_results: tuple[int | str, ...]  # those of them that got none
    num_people: int  # annotated, crowd regions left out
    num_results: int

    def table(self) -> Table:
        """Table for the screen, one line per task, in percent."""
        from rich.table import Table

        photos = f'{len(self.image_ids)} photos ({len(self.ids_without_results)} without results)'
        table = Table(
            title=f'{photos}, {self.num_people} people, {self.num_results} results; percent'
        )
        table.add_column('task')
        for field in fields(TaskMetrics):
            table.add_column(field.name, justify='right')
        for task, metrics in self.tasks.items():
            table.add_row(task, *(_percent(v) for v in asdict(metrics).values()))
        return table

    def to_json(self, *, with_ids: bool = False) -> str:
        """JSON text: metrics as fractions (null where undefined), counts, and ids if wanted."""
        report: dict[str, Any] = {
            'metrics': {task: asdict(metrics) for task, metrics in self.tasks.items()},
            'num_images': len(self.image_ids),
            'num_images_without_results': len(self.ids_without_results),
            'num_people': self.num_people,
            'num_results': self.num_results,
        }
        if with_ids:
            report['image_ids'] = list(self.image_ids)
            report['image_ids_without_results'] = list(self.ids_without_results)
        return json.dumps(report, indent=2) + '\n'


def score_files(
    results_file: str | Path, annotation_file: str | Path, tasks: Sequence[Task] = TASKS
) -> CocoMetrics:
    """Score a COCO results file against a COCO annotation file; see `score`.

    Raises:
        ValueError: a file is no JSON or holds something else; names the file.
    """
    results, annotations = (_read(Path(file)) for file in (results_file, annotation_file))
    try:
        return score(results, annotations, tasks)
    except ValueError as error:
        raise ValueError(f'{results_file} against {annotation_file}: {error}') from error


def score(
    results: list[dict[str, Any]], annotations: dict[str, Any], tasks: Sequence[Task] = TASKS
) -> CocoMetrics:
    """Score results with the rules of COCO.

    Args:
        results: what `people_to_coco` gives for each photo, in one list; a task needs only its
            own keys. Left as they are.
        annotations: content of a COCO annotation file. Only people (category 1) are scored.
        tasks: any of 'bbox', 'segm' and 'keypoints'.

    Raises:
        ValueError: unknown photos or tasks, missing keys, values that are no finite numbers.
    """
    _check_tasks(tasks)
    ids = _numbered_ids(annotations, results)
    people = [a for a in annotations['annotations'] if a.get('category_id', PERSON) == PERSON]
    images = annotations['images']
    metrics = {task: _score_task(results, images, people, ids, task) for task in tasks}
    answered = {result['image_id'] for result in results}
    return CocoMetrics(
        tasks=metrics,
        image_ids=tuple(ids),
        ids_without_results=tuple(i for i in ids if i not in answered),
        num_people=sum(not a.get('iscrowd', 0) for a in people),
        num_results=len(results),
    )


def _score_task(
    results: list[dict[str, Any]],
    images: list[dict[str, Any]],
    people: list[dict[str, Any]],
    ids: _Ids,
    task: Task,
) -> TaskMetrics:
    from faster_coco_eval import COCO, COCOeval_faster

    sizes = {ids[image['id']]: [image['height'], image['width']] for image in images}
    dataset = {
        'images': [{'id': i, 'height': h, 'width': w} for i, (h, w) in sizes.items()],
        'categories': [{'id': PERSON, 'name': 'person'}],
        'annotations': [_truth(a, n, ids, task) for n, a in enumerate(people, start=1)],
    }
    for index, result in enumerate(results):
        _check_result(result, index, sizes[ids[result['image_id']]], task)
    found = [{**r, 'image_id': ids[r['image_id']]} for r in for_task(results, task)]
    truth = COCO(dataset)
    run = COCOeval_faster(
        truth, truth.loadRes(found), task, print_function=_ignore, kpt_oks_sigmas=COCO_SIGMAS
    )
    run.params.catIds = [PERSON]
    run.run()
    return _task_metrics(run.stats.tolist(), task)


def _task_metrics(stats: Sequence[float], task: Task) -> TaskMetrics:
    """Metrics from the list of numbers that COCO prints, whose order depends on the task."""
    # COCO writes -1 where there is nothing to find.
    values = [None if value < 0 else value for value in stats]
    if task == 'keypoints':
        ap, ap50, ap75, medium, large, ar, *_ = values
        return TaskMetrics(ap, ap50, ap75, None, medium, large, ar)
    # Recall comes for 1, 10 and 100 results per photo.
    ap, ap50, ap75, small, medium, large, _, _, ar, *_ = values
    return TaskMetrics(ap, ap50, ap75, small, medium, large, ar)


def _numbered_ids(annotations: Any, results: Any) -> dict[int | str, int]:
    """Photo ids, sorted, to numbers from 1: the evaluator takes integers only."""
    if not isinstance(annotations, dict) or not {'images', 'annotations'} <= set(annotations):
        raise ValueError('the annotations are no COCO annotation file: need images and annotations')
    if not isinstance(results, list):
        raise ValueError(f'results must be a list of dicts, got {type(results).__name__}')
    # Equal scores are ranked by photo, so the order is that of the ids, as in pycocotools.
    order = sorted((i['id'] for i in annotations['images']), key=lambda v: (isinstance(v, str), v))
    ids = {image_id: number for number, image_id in enumerate(order, start=1)}
    for index, result in enumerate(results):
        if 'image_id' not in result:
            raise ValueError(f'result {index} has no image_id')
    unknown = list(dict.fromkeys(r['image_id'] for r in results if r['image_id'] not in ids))
    if unknown:
        listed = ', '.join(map(repr, unknown[:5])) + (', ...' if len(unknown) > 5 else '')
        raise ValueError(
            f'{len(unknown)} image ids in the results are not in the annotations: {listed}; '
            'score against the annotation file of the photos that were processed'
        )
    return ids


def _truth(annotation: dict[str, Any], number: int, ids: _Ids, task: Task) -> dict[str, Any]:
    """What the evaluator needs of an annotation, for one task."""
    where = f'annotation {annotation.get("id")}'
    needed = ['image_id', 'bbox', 'area']
    needed += {'bbox': [], 'segm': ['segmentation'], 'keypoints': ['keypoints']}[task]
    missing = [key for key in needed if key not in annotation]
    if missing:
        raise ValueError(f'{where} has no {", ".join(missing)}, which task {task!r} needs')
    if annotation['image_id'] not in ids:
        raise ValueError(f'{where} is of image {annotation["image_id"]!r}, which is not listed')
    row = {key: annotation[key] for key in needed}
    # The evaluator takes id 0 for "not matched", so ids are given anew.
    row |= {'id': number, 'category_id': PERSON, 'iscrowd': annotation.get('iscrowd', 0)}
    row['image_id'] = ids[annotation['image_id']]
    if task == 'keypoints':
        row['num_keypoints'] = sum(v > 0 for v in annotation['keypoints'][2::3])
    return row


def _check_result(result: dict[str, Any], index: int, size: list[int], task: Task) -> None:
    where = f'result {index} (image {result["image_id"]!r})'
    payload = {'bbox': 'bbox', 'segm': 'segmentation', 'keypoints': 'keypoints'}[task]
    missing = [key for key in ('category_id', 'score', payload) if key not in result]
    if missing:
        raise ValueError(f'{where} has no {", ".join(missing)}, which task {task!r} needs')
    numbers = [result['score']]
    if task == 'segm':
        rle_size = result['segmentation'].get('size')
        if rle_size != size:
            raise ValueError(f'{where}: mask of size {rle_size} for a photo of {size} (H, W)')
    else:
        length = 4 if task == 'bbox' else 3 * NUM_COCO
        if len(result[payload]) != length:
            raise ValueError(f'{where}: {payload} must hold {length}, got {len(result[payload])}')
        numbers += result[payload]
    if not all(math.isfinite(v) for v in numbers):
        raise ValueError(f'{where}: score or {payload} holds values that are not finite')


def _check_tasks(tasks: Sequence[Task]) -> None:
    unknown = [task for task in tasks if task not in TASKS]
    if unknown or not tasks:
        raise ValueError(f'tasks must be some of {", ".join(TASKS)}; got {unknown or "none"}')


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f'{path} is no JSON file: {error}') from error


def _percent(value: float | None) -> str:
    return '–' if value is None else f'{100 * value:.1f}'


def _ignore(*_: object) -> None:
    """Swallow the evaluator's progress lines."""
