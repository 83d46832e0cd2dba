"""Measure the pipeline on this machine.

    python tools/benchmark.py memory --size 4000 3000 --people 60
    python tools/benchmark.py scoring --images 5000

``scoring`` scores made-up results of all three tasks with this project's scorer and with
pycocotools, and prints both times, their ratio and the largest difference between the figures.

``memory`` runs one large synthetic photo whose people come from an oracle detector (their true
boxes and masks), with the pose and mask models of the config, and prints how far the process
grew beyond the idle models.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.io.coco import Task

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='command', required=True)
    memory = commands.add_parser('memory', help='peak memory on one large photo')
    memory.add_argument('--config', default='bmp_compact')
    memory.add_argument(
        '--size', type=int, nargs=2, default=(4000, 3000), metavar=('WIDTH', 'HEIGHT')
    )
    memory.add_argument('--people', type=int, default=60)
    memory.add_argument('--seed', type=int, default=0)
    memory.add_argument('--device', default='cpu')
    memory.add_argument('--refine', action='store_true', help='with the refining pass')
    memory.add_argument(
        '--random-weights', action='store_true', help='no checkpoints needed; memory is the same'
    )
    memory.set_defaults(measure=measure_memory)
    scoring = commands.add_parser('scoring', help='seconds of our scorer and of pycocotools')
    scoring.add_argument('--images', type=int, default=5000)
    scoring.add_argument('--people', type=int, default=4, help='per image, on average')
    scoring.add_argument('--seed', type=int, default=0)
    scoring.set_defaults(measure=measure_scoring)
    for command in (memory, scoring):
        command.add_argument('--json', type=Path, help='write the figures to this file')
    return parser.parse_args()


def main() -> None:
    """Run the chosen measurement."""
    args = parse_args()
    figures = args.measure(args)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + '\n')
    width = max(len(name) for name in figures)
    for name, value in figures.items():
        sys.stdout.write(f'{name:{width}}  {value}\n')


def measure_memory(args: argparse.Namespace) -> dict[str, Any]:
    """Peak memory above the idle models for one photo with many people."""
    import numpy as np

    from pipeline.build import build_pipeline
    from pipeline.config import load_config
    from pipeline.datasets.synthetic import SceneConfig, make_scene
    from pipeline.detectors.scripted import ScriptedDetector
    from pipeline.masks import Masks
    from pipeline.memory import peak_bytes, reset_peak, resident_bytes
    from pipeline.structures import Detections
    from pipeline.timing import StageTimer

    width, height = args.size
    scene = make_scene(
        SceneConfig(
            width=width,
            height=height,
            min_people=args.people,
            max_people=args.people,
            min_person_height=0.15,
            max_person_height=0.5,
            overlap=0.6,
            seed=args.seed,
        )
    )
    # One person at a time: a dense stack of these masks would itself be the peak.
    masks = Masks.from_dense((scene.mask(i) for i in range(len(scene.boxes))), (height, width))
    scores = np.ones(len(masks), np.float32)
    script = ScriptedDetector([Detections(scene.boxes, scores, masks)])
    options: dict[str, Any] = {'runtime.device': args.device, 'loop.refine': args.refine}
    if args.random_weights:
        options |= {f'{part}.checkpoint': None for part in ('detector', 'pose', 'segmenter')}
    pipeline = build_pipeline(load_config(args.config, options)).run
    small = scene.image[:480, :640].copy()
    pipeline(small, Detections.from_boxes([[50, 50, 200, 400]], (480, 640)))  # first calls allocate
    idle = resident_bytes()
    resettable = reset_peak()
    timer = StageTimer()
    people = dataclasses.replace(pipeline, detector=script)(scene.image, timer=timer)
    growth = peak_bytes() - idle
    return {
        'photo': f'{width} x {height}',
        'people given': len(masks),
        'people found': len(people),
        'idle MiB': round(idle / 2**20),
        'peak above idle MiB': round(growth / 2**20)
        if resettable
        else f'< {round(growth / 2**20)}',
        **{f'{stage} s': round(seconds, 2) for stage, seconds in timer.seconds.items()},
    }


def measure_scoring(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds to score all three tasks, files read and checked, here and in pycocotools."""
    import tempfile
    import time

    import numpy as np

    from pipeline.evaluation.coco import score_files
    from pipeline.evaluation.made_up import make_results

    annotations, results = make_results(args.images, args.people, args.seed)
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
        'images': args.images,
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


if __name__ == '__main__':
    main()
