"""Load, validate and score a results file with its annotations, for all analyses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets.annotations import check_annotations
from ..io.coco import PERSON, TASKS, Task
from ..io.results import ResultsInfo
from ..keypoint_sets import KEYPOINT_SETS
from .coco import Row, convert_to_crowdpose, score, select_participants
from .image_names import matching_files
from .metrics import CocoMetrics
from .results_check import check_payloads, select_people


@dataclass(frozen=True, eq=False)
class ScoredResults:
    """Validated results and annotations."""

    results: list[Row]  # of people, category 1; keypoints in the order of the annotations
    annotations: dict[str, Any]  # COCO file of the people and images that count
    tasks: tuple[Task, ...]  # tasks of both
    metrics: CocoMetrics  # over all people

    @property
    def subject(self) -> str:
        """Provenance of the results, for titles; empty if unknown."""
        info = self.metrics.info
        return f'{info.config} on {info.data_set}, protocol {info.protocol}' if info else ''

    def annotations_of(self, task: Task) -> dict[str, Any]:
        """COCO file of the people that count in a task."""
        if task == 'keypoints':
            return self.annotations
        people = select_participants(self.annotations['annotations'], self.metrics.info)
        return {**self.annotations, 'annotations': people}


def load_scored_results(
    results_file: Path,
    annotation_file: Path,
    tasks: Sequence[Task] | None = None,
    *,
    min_score: float = 0,
    person_category: str | None = None,
) -> ScoredResults:
    """Read, check and score two files; see `score_results`.

    Raises:
        ValueError: a file cannot be read, or the files do not match; names them.
    """
    with matching_files(results_file, annotation_file, person_category) as files:
        results, annotations, info, _ = files
        return score_results(results, annotations, tasks, info=info, min_score=min_score)


def score_results(
    results: list[Row],
    annotations: dict[str, Any],
    tasks: Sequence[Task] | None = TASKS,
    *,
    info: ResultsInfo | None = None,
    min_score: float = 0,
) -> ScoredResults:
    """Validate and score results with `pipeline.evaluation.coco.score`; raises the same errors.

    Args:
        results: rows of COCO results; not modified.
        annotations: content of a COCO annotation file; not modified.
        tasks: None: all tasks of both.
        info: provenance of the results.
        min_score: minimum score of the results.
    """
    metrics = score(results, annotations, tasks, info=info)
    if min_score > 0:  # after validation of all results
        results = [r for r in results if r['score'] >= min_score]
        metrics = score(results, annotations, tasks, info=info)
    ground_truth = check_annotations(annotations, tasks=tasks)
    people = select_people(results, annotations, set(metrics.image_ids), ours=info is not None)
    sizes = {i['id']: [i['height'], i['width']] for i in ground_truth.content['images']}
    check_payloads(people, sizes, KEYPOINT_SETS[ground_truth.convention].num)
    rows = [r | {'category_id': PERSON} for r in people]
    if ground_truth.convention == 'crowdpose14' and 'keypoints' in metrics.tasks:
        posed = [r for r in rows if r['keypoints'] is not None]
        for row, points in zip(posed, convert_to_crowdpose(posed), strict=True):
            row['keypoints'] = points
    ids = set(metrics.image_ids)
    content = {
        **ground_truth.content,
        'images': [i for i in ground_truth.content['images'] if i['id'] in ids],
        'annotations': [a for a in ground_truth.content['annotations'] if a['image_id'] in ids],
    }
    return ScoredResults(rows, content, tuple(metrics.tasks), metrics)
