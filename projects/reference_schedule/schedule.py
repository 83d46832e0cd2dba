"""Compare time, memory and results of the reference's schedule and of the package."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from pipeline.benchmark import CpuTimer, MemoryTimer, markdown_table

from .case import FIXED, Case, ScriptedResult, Seconds, build, run_scripted, timed, warm_up
from .reference_loop import ReferenceResult, ReferenceStages, run_reference
from .reference_stages import reference_stages
from .scripted import scripted_masks

Side = Literal['reference', 'package']
SIDES: tuple[Side, ...] = get_args(Side)


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


@dataclass
class _Side:
    """What was measured of one side, run by run."""

    run: Callable[[CpuTimer], Any]
    seconds: list[Seconds] = field(default_factory=list)
    timers: list[CpuTimer] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)  # MiB
    result: Any = None

    def measure(self, device: str) -> None:
        timer, memory = CpuTimer(), MemoryTimer(device)
        with memory('run'):
            self.result, taken = timed(partial(self.run, timer))
        self.seconds.append(taken)
        self.timers.append(timer)
        self.peaks.append(memory.mib['run'])

    def figures(self) -> dict[str, Any]:
        middle = Seconds.median(self.seconds)
        stages = {n: [t.cpu[n] for t in self.timers] for n in self.timers[0].cpu}
        return {
            'wall_s': middle.wall,
            'cpu_s': middle.cpu,
            'stages_cpu_s': {name: float(np.median(values)) for name, values in stages.items()},
            'peak_extra_mib': max(self.peaks),
        }


def compare_schedules(case: Case, repeats: int, *, own_process: bool = True) -> dict[str, Any]:
    """Run both schedules in turn, reference first, on one scripted crowd.

    Args:
        case: side of the package, as configured; the reference's side is float32 with flip test.
        repeats: runs of each side; medians are reported.
        own_process: measure the peak of memory of each side in a fresh process of its own; else
            in the timed runs, which takes half the time.

    Raises:
        RuntimeError: the two sides do not find the same people.
    """
    pipeline, stages = build(case), reference_stages(case)
    warm_up(pipeline, case)
    warm_up_reference(stages, case)
    crowd = case.crowd()
    sides: dict[Side, _Side] = {
        'reference': _Side(lambda timer: run_reference(stages, crowd, timer)),
        'package': _Side(lambda timer: run_scripted(pipeline, crowd, timer)),
    }
    with scripted_masks(pipeline.segmenter, crowd), scripted_masks(stages.segmenter, crowd):
        for _ in range(repeats):
            for side in sides.values():
                side.measure(case.device)
    apart = difference(sides['package'].result, sides['reference'].result)
    figures = {name: side.figures() for name, side in sides.items()}
    if own_process:
        for name, row in figures.items():
            row['peak_extra_mib'] = extra_memory(case, name)
    return {
        'case': case.facts(),
        'repeats': repeats,
        'own_process': own_process,
        'sides': figures,
        'ratio': _ratios(figures),
        'difference': {**asdict(apart), 'equal': apart.equal},
    }


def _ratios(sides: dict[Side, dict[str, Any]]) -> dict[str, float]:
    """Reference over package."""
    names = ('wall_s', 'cpu_s', 'peak_extra_mib')
    return {n: sides['reference'][n] / max(sides['package'][n], 1e-9) for n in names}


def warm_up_reference(stages: ReferenceStages, case: Case) -> None:
    """As `warm_up`, for the reference's schedule."""
    crowd = case.small().crowd()
    with scripted_masks(stages.segmenter, crowd):
        run_reference(stages, crowd)


def difference(result: ScriptedResult, reference: ReferenceResult) -> Difference:
    """How far the results are apart; the loop sorts people by score, the reference does not.

    Raises:
        RuntimeError: the two sides do not find the same number of people.
    """
    if len(result.people) != len(reference.masks):
        raise RuntimeError(
            f'the loop found {len(result.people)} people, the reference schedule '
            f'{len(reference.masks)}; the script is the same, so one of them is wrong'
        )
    # No pixel belongs to two people, so the best match of each mask is its only one.
    masks = [result.people.masks.dense(i) for i in range(len(result.people))]
    overlaps = [max(_iou(mask, other) for mask in masks) for other in reference.masks]
    gaps = [
        float(np.abs(one - other).max(initial=0))
        for one, other in zip(result.keypoints, reference.keypoints, strict=True)
    ]
    return Difference(len(overlaps), min(overlaps, default=1.0), max(gaps, default=0.0))


def _iou(mask: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    union = int((mask | other).sum())
    return float((mask & other).sum()) / union if union else 1.0


def extra_memory(case: Case, side: Side) -> float:
    """MiB above the idle models while one image runs, in a fresh process (on CUDA: of the GPU)."""
    with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool:
        return pool.submit(_extra_memory, case, side).result()


def _extra_memory(case: Case, side: Side) -> float:
    crowd = case.crowd()
    if side == 'package':
        pipeline = build(case)
        warm_up(pipeline, case)
        with scripted_masks(pipeline.segmenter, crowd):
            return _growth(case.device, lambda: run_scripted(pipeline, crowd))
    stages = reference_stages(case)
    warm_up_reference(stages, case)
    with scripted_masks(stages.segmenter, crowd):
        return _growth(case.device, lambda: run_reference(stages, crowd))


def _growth(device: str, work: Callable[[], Any]) -> float:
    memory = MemoryTimer(device)
    with memory('run'):
        work()
    return memory.mib['run']


def to_markdown(figures: dict[str, Any]) -> str:
    """What was measured, and a table of both sides."""
    case, sides, ratio = figures['case'], figures['sides'], figures['ratio']
    keys = [('wall s', 'wall_s'), ('CPU s', 'cpu_s'), ('peak extra memory, MiB', 'peak_extra_mib')]
    rows = [
        [name, *(_digits(sides[side][key]) for side in SIDES), f'{ratio[key]:.2f}']
        for name, key in keys
    ]
    for name in dict.fromkeys(n for side in sides.values() for n in side['stages_cpu_s']):
        reference, package = (sides[side]['stages_cpu_s'].get(name) for side in SIDES)
        known = f'{reference / package:.2f}' if reference is not None and package else '–'
        rows.append([f'{name}, CPU s', _digits(reference), _digits(package), known])
    weights = ', random weights' if case['random_weights'] else ''
    fixed = ', '.join(f'{key}={value!r}' for key, value in FIXED.items())
    apart = figures['difference']
    equal = 'equal' if apart['equal'] else '**not equal** (equal: IoU 0.99, 0.5 px)'
    return f"""{case['config']}{weights}, {case['width']} x {case['height']} px, \
{case['people']} people, {case['rounds']} rounds; {case['device']}, {case['threads']} thread(s), \
{case['processor']}, torch {case['torch']}.
Settings of both sides that differ from the config or may differ: {fixed}. \
The reference's side runs in float32 with flip test.

{markdown_table(['', 'reference schedule', 'package', 'ratio'], rows)}

{apart['people']} people on both sides; smallest mask IoU {apart['min_mask_iou']:.4f}, largest \
keypoint difference {apart['max_keypoint_px']:.3f} px: {equal}.
"""


def _digits(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return '–'
    return f'{value:.0f}' if value >= 100 else f'{value:.3g}' if value >= 0.001 else f'{value:.4f}'
