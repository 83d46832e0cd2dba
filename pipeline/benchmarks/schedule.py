"""The reference's schedule against ours: time, memory, and how far the results are apart."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any, Literal

import numpy as np

from .case import Case, CpuTimer, Played, Seconds, build, on_stage, play, timed, warm_up
from .memory_peak import PeakMemory
from .played import played_masks
from .reference_schedule import ReferenceResult, ReferenceStages, run_reference
from .reference_stages import reference_stages

Side = Literal['ours', 'reference']


@dataclass(frozen=True, eq=False)
class Difference:
    """How far two results are apart, at the worst of all people."""

    people: int
    min_mask_iou: float  # in [0, 1]; two empty masks count as equal
    max_keypoint_px: float  # of the pose model's own keypoints

    @property
    def equal(self) -> bool:
        """Masks and keypoints agree as the project asks for: IoU >= 0.99, 0.5 px."""
        return self.min_mask_iou >= 0.99 and self.max_keypoint_px <= 0.5


def compare_schedules(case: Case, repeats: int, *, memory: bool = True) -> dict[str, Any]:
    """Run both schedules in turn, reference first, on one scripted crowd.

    Args:
        case: our side as configured; the reference's side is float32 with flip test.
        repeats: runs of each side; medians are reported.
        memory: also measure the peak of each side in a process of its own.

    Raises:
        RuntimeError: the two sides do not find the same people.
    """
    ours, theirs = build(case), reference_stages(case)
    warm_up(ours, case)
    warm_up_reference(theirs, case)
    crowd = case.crowd()
    runs: dict[Side, Callable[[CpuTimer], Any]] = {
        'reference': lambda timer: run_reference(theirs, crowd, timer),
        'ours': lambda timer: play(ours, crowd, timer),
    }
    seconds: dict[Side, list[Seconds]] = {side: [] for side in runs}
    timers: dict[Side, list[CpuTimer]] = {side: [] for side in runs}
    results: dict[Side, Any] = {}
    with on_stage(ours, crowd), played_masks(theirs.segmenter, crowd):
        for _ in range(repeats):
            for side, run in runs.items():
                timer = CpuTimer()
                results[side], taken = timed(partial(run, timer))
                timers[side].append(timer)
                seconds[side].append(taken)
    apart = difference(results['ours'], results['reference'])
    figures: dict[str, Any] = {'case': case.facts(), 'repeats': repeats, 'sides': {}}
    for side in runs:
        middle = Seconds.median(seconds[side])
        figures['sides'][side] = {
            'wall_s': middle.wall,
            'cpu_s': middle.cpu,
            'stages_cpu_s': _median_stages(timers[side]),
            **({'peak_extra_mib': extra_memory(case, side)} if memory else {}),
        }
    figures['ratio'] = _ratios(figures['sides'])
    figures['difference'] = {
        'people': apart.people,
        'min_mask_iou': apart.min_mask_iou,
        'max_keypoint_px': apart.max_keypoint_px,
        'equal': apart.equal,
    }
    return figures


def _median_stages(timers: list[CpuTimer]) -> dict[str, float]:
    return {name: float(np.median([t.cpu[name] for t in timers])) for name in timers[0].cpu}


def _ratios(sides: dict[str, Any]) -> dict[str, float]:
    """Reference over ours, of every number."""
    names = [k for k in ('wall_s', 'cpu_s', 'peak_extra_mib') if k in sides['ours']]
    return {n: sides['reference'][n] / max(sides['ours'][n], 1e-9) for n in names}


def warm_up_reference(stages: ReferenceStages, case: Case) -> None:
    """As `warm_up`, for the reference's schedule."""
    crowd = case.small().crowd()
    with played_masks(stages.segmenter, crowd):
        run_reference(stages, crowd)


def difference(ours: Played, reference: ReferenceResult) -> Difference:
    """How far the results are apart; people stand in the same order on both sides.

    Raises:
        RuntimeError: the two sides do not find the same number of people.
    """
    if len(ours.people) != len(reference.masks):
        raise RuntimeError(
            f'our loop found {len(ours.people)} people, the reference schedule '
            f'{len(reference.masks)}; the script is the same, so one of them is wrong'
        )
    overlaps = []
    for i, other in enumerate(reference.masks):
        own = ours.people.masks.dense(i)
        union = int((own | other).sum())
        overlaps.append(float((own & other).sum()) / union if union else 1.0)
    gaps = [
        float(np.abs(mine - theirs).max(initial=0))
        for mine, theirs in zip(ours.keypoints, reference.keypoints, strict=True)
    ]
    return Difference(len(overlaps), min(overlaps, default=1.0), max(gaps, default=0.0))


def extra_memory(case: Case, side: Side) -> float:
    """MiB above the idle models while one photo runs, in a fresh process (on CUDA: of the GPU)."""
    with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool:
        return pool.submit(_extra_memory, case, side).result()


def _extra_memory(case: Case, side: Side) -> float:
    crowd = case.crowd()
    if side == 'ours':
        ours = build(case)
        warm_up(ours, case)
        with on_stage(ours, crowd), PeakMemory(case.device) as peak:
            play(ours, crowd)
    else:
        theirs = reference_stages(case)
        warm_up_reference(theirs, case)
        with played_masks(theirs.segmenter, crowd), PeakMemory(case.device) as peak:
            run_reference(theirs, crowd)
    return peak.mib
