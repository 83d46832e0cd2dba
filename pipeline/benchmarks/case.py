"""What is measured: a config, a crowd, how long; and the clocks."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..runtime.timing import StageTimer

if TYPE_CHECKING:
    from ..loop import PersonPipeline
    from ..structures import People
    from .crowd import Crowd

SEED = 0
# A script leaves the loop nothing to decide, and both schedules share pixels out alike.
_FIXED: dict[str, Any] = {
    'loop.hidden_share': None,
    'loop.min_score': None,
    'loop.refine': False,
    'loop.exclusive': 'logits',
    'loop.pose_nms.method': 'greedy',
    'loop.pose_nms.quality': 'score',
    'loop.pose_nms.box_area': 'box',
}


@dataclass(frozen=True)
class Case:
    """A pipeline and a scripted crowd."""

    config: str = 'bmp_compact'
    width: int = 640
    height: int = 480
    people: int = 20
    rounds: int = 2
    precision: str | None = None  # None: that of the config
    tall: float | None = None  # height of a person in px; None: as the crowd has room
    random_weights: bool = False
    device: str = 'cpu'
    threads: int = 1
    options: dict[str, Any] = field(default_factory=dict)  # further settings of the config

    def __post_init__(self) -> None:
        for name in ('width', 'height', 'people', 'rounds', 'threads'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be >= 1, got {getattr(self, name)}')

    def settings(self) -> dict[str, Any]:
        """Overrides of the config."""
        options = {**_FIXED, 'runtime.device': self.device, 'loop.max_rounds': self.rounds}
        if self.precision:
            options['runtime.precision'] = self.precision
        if self.random_weights:
            options |= {f'{part}.checkpoint': None for part in ('detector', 'pose', 'segmenter')}
        return options | self.options

    def crowd(self) -> Crowd:
        """The photo and its people."""
        from .crowd import make_crowd

        return make_crowd(self.width, self.height, self.people, self.rounds, tall=self.tall)

    def small(self) -> Case:
        """The same with few people, to warm up."""
        return replace(self, people=min(self.people, 2 * self.rounds), tall=None)

    def facts(self) -> dict[str, Any]:
        """The case and the machine, for a record."""
        return {**asdict(self), **machine()}


def machine() -> dict[str, Any]:
    """What the figures depend on besides the case."""
    import torch

    return {
        'processor': _processor(),
        'cores': os.cpu_count(),
        'torch': torch.__version__,
        'gpu': torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as lines:
            names = [line.split(':', 1)[1].strip() for line in lines if 'model name' in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor()


def build(case: Case) -> PersonPipeline:
    """The pipeline of a case, its detector ready to be played; equal cases, equal weights.

    Warnings of the libraries are silenced in this process.
    """
    import cv2
    import torch

    from ..build import build_pipeline
    from ..config import load_config
    from ..openmmlab import quiet_libraries
    from .played import open_limits

    quiet_libraries()
    torch.set_num_threads(case.threads)
    cv2.setNumThreads(case.threads)
    torch.manual_seed(SEED)
    pipeline = build_pipeline(load_config(case.config, case.settings())).run
    open_limits(pipeline.detector)
    return pipeline


@contextmanager
def on_stage(pipeline: PersonPipeline, crowd: Crowd) -> Iterator[None]:
    """Inside the block, the segmenter of a pipeline plays a crowd.

    Entered before the clock starts: what it prepares is no work of the loop.
    """
    from .played import played_masks

    with played_masks(pipeline.segmenter, crowd):  # type: ignore[arg-type]
        yield


def warm_up(pipeline: PersonPipeline, case: Case) -> None:
    """Run a few people of a case; first calls load, allocate and tune what stays."""
    crowd = case.small().crowd()
    with on_stage(pipeline, crowd):
        play(pipeline, crowd)


@dataclass(frozen=True, eq=False)
class Played:
    """What one scripted run gave."""

    people: People
    keypoints: list[Any]  # of the real pose model, (n, K, 2) px per round
    detected: list[int]  # by the real detector, per round


def play(pipeline: PersonPipeline, crowd: Crowd, timer: StageTimer | None = None) -> Played:
    """Run the loop once on a scripted crowd; call it inside `on_stage`."""
    from .played import PlayedDetector, PlayedPoses

    detector = PlayedDetector(pipeline.detector, crowd.detections())
    poses = PlayedPoses(pipeline.pose_estimator, crowd)
    scripted = replace(pipeline, detector=detector, pose_estimator=poses)
    people = scripted(crowd.image, timer=timer)
    return Played(people, poses.answers, detector.found)


@dataclass
class CpuTimer(StageTimer):
    """Adds up processor seconds of all threads beside those of the clock."""

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


@dataclass(frozen=True)
class Seconds:
    """Seconds of the clock, and of the processor over all threads."""

    wall: float
    cpu: float

    @classmethod
    def median(cls, rows: list[Seconds]) -> Seconds:
        """Medians of both."""
        return cls(*(statistics.median(getattr(r, k) for r in rows) for k in ('wall', 'cpu')))


def timed(work: Callable[[], Any]) -> tuple[Any, Seconds]:
    """What ``work`` returns, and how long it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, Seconds(time.perf_counter() - wall, time.process_time() - cpu)
