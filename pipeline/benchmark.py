"""Measure the time and memory of each stage of a pipeline by the number of people.

The images are drawn crowds, and every setting of the config holds. The detector and the pose model
run on the images at their full cost; then the true boxes, masks and keypoints replace their
outputs. The requested number of people reaches every stage, also with random weights.
"""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Any

import numpy as np

from .build import build_pipeline
from .config import load_config
from .io.tables import escape_markdown
from .loop import PersonPipeline
from .runtime.malloc import release_freed
from .runtime.memory import peak_bytes, reset_peak, resident_bytes
from .runtime.timing import StageTimer
from .stages import Detector, PoseEstimator
from .structures import Detections, Floats, Image, Poses
from .synthetic.scene import Scene, SceneConfig, make_scene

WHOLE = 'whole'
_COVERAGE, _ASPECT = 1.5, 0.45  # area of all people over that of the image; width over height
_VISIBLE_SCORE, _HIDDEN_SCORE = 0.9, 0.1


def measure(
    config: str,
    people: Sequence[int],
    *,
    size: tuple[int, int] = (640, 480),
    device: str = 'cpu',
    threads: int | None = None,
    repeats: int = 3,
    random_weights: bool = False,
) -> dict[str, Any]:
    """Measure a pipeline on drawn crowds.

    Args:
        config: name in configs/ or file.
        people: numbers of people to draw.
        size: width and height of the images, px.
        device: 'cpu', 'cuda', 'cuda:1', ...
        threads: threads of PyTorch and OpenCV; None: their defaults.
        repeats: runs after a warm-up; the medians are reported.
        random_weights: build the models without their checkpoints.

    Returns:
        The settings, the machine, and one row per number of people.
    """
    import cv2
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    options: dict[str, Any] = {'runtime.device': device}
    if random_weights:
        options |= {f'{stage}.checkpoint': None for stage in ('detector', 'pose', 'segmenter')}
    pipeline = build_pipeline(load_config(config, options)).run
    rows = [_row(pipeline, draw_crowd(*size, count), device, repeats) for count in people]
    return {
        'config': config,
        'size': list(size),
        'device': device,
        'repeats': repeats,
        'random_weights': random_weights,
        **machine(),
        'rows': rows,
    }


def draw_crowd(width: int, height: int, people: int) -> Scene:
    """Draw a crowd that fills the image; it may have fewer people where there is no room."""
    tall = min(sqrt(_COVERAGE * width / height / (_ASPECT * max(people, 1))), 0.8)
    low = min(max(0.7 * tall, 16 / height), 1.0)
    settings = SceneConfig(
        width=width, height=height, min_people=people, max_people=people,
        min_person_height=low, max_person_height=max(tall, low), overlap=0.3, max_blockers=0,
    )  # fmt: skip
    return make_scene(settings)


def machine() -> dict[str, Any]:
    """Processor, GPU and version of PyTorch."""
    import torch

    return {
        'processor': _processor(),
        'cores': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'torch': torch.__version__,
        'gpu': torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as lines:
            return next(line.split(':', 1)[1].strip() for line in lines if 'model name' in line)
    except (OSError, StopIteration):
        return platform.processor()


def _row(pipeline: PersonPipeline, scene: Scene, device: str, repeats: int) -> dict[str, Any]:
    """Measure one crowd: a warm-up, the timed runs, a run for the memory."""
    _run(pipeline, scene, StageTimer())
    timers = [CpuTimer() for _ in range(repeats)]
    found = [_run(pipeline, scene, timer) for timer in timers]
    memory = MemoryTimer(device)
    _run(pipeline, scene, memory)
    stages = {
        name: {
            'wall_s': statistics.median(timer.seconds[name] for timer in timers),
            'cpu_s': statistics.median(timer.cpu[name] for timer in timers),
            'peak_extra_mib': memory.mib[name],
        }
        for name in timers[0].seconds
    }
    stages[WHOLE]['peak_extra_mib'] = max(memory.mib.values())
    return {
        'people': len(scene),
        'found': found[0],
        'stages': stages,
        'peak_is_exact': memory.is_exact,
    }


def _run(pipeline: PersonPipeline, scene: Scene, timer: StageTimer) -> int:
    """Run the loop once; returns the number of people in the result."""
    rounds = pipeline.config.max_rounds or 1
    detector = TrueDetector([pipeline.detector_of(n + 1) for n in range(rounds)], scene)
    poses = TruePoses(pipeline.pose_estimator, scene)
    with timer(WHOLE):
        people = replace(pipeline, detector=detector, later_detector=None, pose_estimator=poses)(
            scene.image, timer=timer
        )
    return len(people)


class TrueDetector(Detector):
    """Run the detector of each round and return true boxes and masks, an equal part per round."""

    def __init__(self, detectors: Sequence[Detector], scene: Scene) -> None:
        people = Detections(scene.boxes, np.full(len(scene), 0.9, np.float32), scene.masks)
        rows, count = np.arange(len(scene)), len(detectors)
        parts = [people.select(rows[number::count]) for number in range(count)]
        self.rounds = list(zip(detectors, parts, strict=True))
        self.last = detectors[-1]
        self.empty = people.select(rows[:0])

    def __call__(self, image: Image) -> Detections:
        """People of the next round."""
        detector, people = self.rounds.pop(0) if self.rounds else (self.last, self.empty)
        detector(image)
        return people


class TruePoses(PoseEstimator):
    """Run a pose estimator and return the true keypoints of the closest person."""

    def __init__(self, inner: PoseEstimator, scene: Scene) -> None:
        self.inner = inner
        self.scene = scene
        self.num_keypoints, self.keypoint_set = inner.num_keypoints, inner.keypoint_set

    def __call__(self, image: Image, detections: Detections) -> Poses:
        """Poses of every detection, same order."""
        poses, scene = self.inner(image, detections), self.scene
        rows = _closest(detections.boxes, scene.boxes)
        scores = np.where(scene.visibility[rows] == 2, _VISIBLE_SCORE, _HIDDEN_SCORE)
        scores = scores.astype(np.float32)
        return replace(
            poses,
            boxes=detections.boxes,
            box_scores=detections.box_scores,
            keypoints=scene.keypoints[rows],
            keypoint_scores=scores,
            presence=np.ones_like(scores),
            visibility=scores,
        )


def _closest(boxes: Floats, known: Floats) -> Any:
    """Row of ``known`` (N, 4) that is closest to each of ``boxes`` (M, 4)."""
    return np.abs(boxes[:, None] - known).sum(2).argmin(1)


@dataclass
class CpuTimer(StageTimer):
    """Add up processor seconds of all threads beside those of the clock."""

    cpu: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time of the ``with`` block to ``stage``."""
        start = time.process_time()
        try:
            with super().__call__(stage):
                yield
        finally:
            self.cpu[stage] = self.cpu.get(stage, 0.0) + time.process_time() - start


class MemoryTimer(StageTimer):
    """Record the peak of memory in each stage, in MiB beyond what the idle models hold.

    On a CUDA device it is the memory of PyTorch's tensors there, elsewhere that of the process.

    Attributes:
        mib: peak of each stage.
        is_exact: False where the system cannot reset its peak; then ``mib`` are upper bounds.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device if device.startswith('cuda') else None
        self.mib: dict[str, float] = {}
        self.is_exact = True
        gc.collect()
        release_freed()  # what an earlier run left would hide growth
        self.idle = self._held()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Record the peak of the ``with`` block under ``stage``."""
        self._reset()
        yield
        self.mib[stage] = max(self.mib.get(stage, 0.0), (self._peak() - self.idle) / 2**20)

    def _held(self) -> int:
        if self.device is None:
            return resident_bytes()
        import torch

        return torch.cuda.memory_allocated(self.device)

    def _reset(self) -> None:
        if self.device is None:
            self.is_exact = reset_peak() and self.is_exact
            return
        import torch

        torch.cuda.reset_peak_memory_stats(self.device)

    def _peak(self) -> int:
        if self.device is None:
            return peak_bytes()
        import torch

        return torch.cuda.max_memory_allocated(self.device)


def to_markdown(figures: dict[str, Any]) -> str:
    """One line about the run, then one table of all rows."""
    rows = [
        [
            str(row['people']),
            str(row['found']),
            name,
            f'{stage["wall_s"]:.3f}',
            f'{stage["cpu_s"]:.3f}',
            f'{"" if row["peak_is_exact"] else "< "}{stage["peak_extra_mib"]:.0f}',
        ]
        for row in figures['rows']
        for name, stage in row['stages'].items()
    ]
    width, height = figures['size']
    weights = ', random weights' if figures['random_weights'] else ''
    about = (
        f'{escape_markdown(figures["config"])}{weights}, {width} x {height} px; '
        f'{figures["device"]}, '
        f'{figures["threads"]} thread(s), {figures["gpu"] or figures["processor"]}, '
        f'torch {figures["torch"]}'
    )
    header = ['people', 'found', 'stage', 'wall s', 'CPU s', 'memory, MiB']
    return f'{about}\n\n{markdown_table(header, rows)}\n'


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, its first column to the left and the others to the right."""
    marks = ['---', *['--:'] * (len(header) - 1)]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in (header, marks, *rows))
