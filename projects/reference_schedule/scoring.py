"""Seconds to score results of all three tasks, here and in pycocotools."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pipeline.io.coco import Task


def measure_scoring(images: int, people: int, seed: int) -> dict[str, Any]:
    """Seconds to score made-up results of all three tasks, files read and checked.

    Args:
        images: number of made-up photos.
        people: per photo, on average.
        seed: of the made-up results.
    """
    from pipeline.evaluation.coco import score_files
    from pipeline.evaluation.made_up import make_results

    annotations, results = make_results(images, people, seed)
    with tempfile.TemporaryDirectory() as folder:
        truth_file, results_file = Path(folder, 'truth.json'), Path(folder, 'results.json')
        truth_file.write_text(json.dumps(annotations))
        results_file.write_text(json.dumps(results))
        times = [(time.perf_counter(), time.process_time())]
        ours = score_files(results_file, truth_file)
        times.append((time.perf_counter(), time.process_time()))
        theirs = _pycocotools_ap(truth_file, results_file)
        times.append((time.perf_counter(), time.process_time()))
    (our_s, our_cpu_s), (their_s, their_cpu_s) = np.diff(times, axis=0).tolist()
    difference = max(abs((ours.tasks[task].ap or 0) - ap) for task, ap in theirs.items())
    return {
        'images': images,
        'people': ours.num_people,
        'results': len(results),
        'ours s': round(our_s, 2),
        'pycocotools s': round(their_s, 2),
        'ratio': round(their_s / our_s, 2),
        'ratio of CPU time': round(their_cpu_s / our_cpu_s, 2),
        'largest difference in AP': float(f'{difference:.1e}'),
    }


def _pycocotools_ap(truth_file: Path, results_file: Path) -> dict[Task, float]:
    """AP of each task as pycocotools computes it."""
    from contextlib import redirect_stdout
    from io import StringIO

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from pipeline.io.coco import TASKS, for_task

    scores: dict[Task, float] = {}
    with redirect_stdout(StringIO()):
        truth, results = COCO(str(truth_file)), json.loads(results_file.read_text())
        for task in TASKS:
            run = COCOeval(truth, truth.loadRes(for_task(results, task)), task)
            run.evaluate()
            run.accumulate()
            run.summarize()
            scores[task] = float(run.stats[0])
    return scores
