"""What is measured: a pipeline and a scripted crowd; and the clocks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipeline.benchmark import machine
from pipeline.runtime.timing import StageTimer

if TYPE_CHECKING:
    from pipeline.loop import PersonPipeline
    from pipeline.structures import People

    from .crowd import Crowd

SEED = 0
# Settings of both sides: a script leaves the loop nothing to decide, and the reference's order of
# work knows one way to resolve overlaps. All other settings are those of the config.
FIXED: dict[str, Any] = {
    'loop.max_covered_fraction': None,
    'loop.min_score': None,
    'loop.refine': False,
    'loop.resolve_overlaps': 'logits',
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
        options = {**FIXED, 'runtime.device': self.device, 'loop.max_rounds': self.rounds}
        if self.random_weights:
            options |= {f'{part}.checkpoint': None for part in ('detector', 'pose', 'segmenter')}
        return options | self.options

    def crowd(self) -> Crowd:
        """The image and its people."""
        from .crowd import make_crowd

        return make_crowd(self.width, self.height, self.people, self.rounds)

    def small(self) -> Case:
        """The same with few people, to warm up."""
        return replace(self, people=min(self.people, 2 * self.rounds))

    def facts(self) -> dict[str, Any]:
        """The case and the machine, for a record."""
        return {**machine(), **asdict(self)}


def build(case: Case) -> PersonPipeline:
    """The pipeline of a case, its detector open for a script; equal cases, equal weights.

    Warnings of the libraries are silenced in this process.
    """
    import cv2
    import torch

    from pipeline.build import build_pipeline
    from pipeline.config import load_config
    from pipeline.openmmlab import quiet_libraries

    from .scripted import open_limits

    quiet_libraries()
    torch.set_num_threads(case.threads)
    cv2.setNumThreads(case.threads)
    torch.manual_seed(SEED)
    pipeline = build_pipeline(load_config(case.config, case.settings())).run
    open_limits(pipeline.detector)
    return pipeline


def warm_up(pipeline: PersonPipeline, case: Case) -> None:
    """Run a few people of a case; first calls load, allocate and optimize modules."""
    from .scripted import scripted_masks

    crowd = case.small().crowd()
    with scripted_masks(pipeline.segmenter, crowd):
        run_scripted(pipeline, crowd)


@dataclass(frozen=True, eq=False)
class ScriptedResult:
    """Result of a scripted run."""

    people: People
    keypoints: list[Any]  # of the real pose model, (n, K, 2) px per round
    detected: list[int]  # by the real detector, per round


def run_scripted(
    pipeline: PersonPipeline, crowd: Crowd, timer: StageTimer | None = None
) -> ScriptedResult:
    """Run the loop once on a scripted crowd; call it inside `scripted_masks`."""
    from .scripted import ScriptedDetector, ScriptedPoses

    detector = ScriptedDetector(pipeline.detector, crowd.detections())
    poses = ScriptedPoses(pipeline.pose_estimator, crowd)
    scripted = replace(pipeline, detector=detector, pose_estimator=poses)
    people = scripted(crowd.image, timer=timer)
    return ScriptedResult(people, poses.keypoints, detector.found)


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
