"""Time of every stage and peak memory of our loop, for one case or along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from .case import Case, CpuTimer, Seconds, build, on_stage, play, timed, warm_up
from .crowd import person_height
from .fits import fit_growth
from .memory_peak import PeakMemory

if TYPE_CHECKING:
    from pipeline.loop import PersonPipeline

WHOLE, OTHER = 'whole', 'other'
AXES = ('people', 'size', 'rounds', 'precision')
_ASPECT = 0.75  # height over width of the photos of a sweep over sizes


def measure_case(
    case: Case, repeats: int, pipeline: PersonPipeline | None = None
) -> dict[str, Any]:
    """Medians of stage times after a warm-up, and the peak of memory.

    Args:
        case: what is run.
        repeats: runs after the warm-up.
        pipeline: one already built and warm, of the same config, weights and precision.
    """
    if pipeline is None:
        pipeline = build(case)
        warm_up(pipeline, case)
    else:
        config = replace(pipeline.config, max_rounds=case.rounds)
        pipeline = replace(pipeline, config=config)
    crowd = case.crowd()
    runs, whole, peaks = [], [], []
    with on_stage(pipeline, crowd):
        for _ in range(repeats):
            timer = CpuTimer()
            with PeakMemory(case.device) as memory:
                played, seconds = timed(lambda t=timer: play(pipeline, crowd, t))  # type: ignore[misc]
            runs.append(timer)
            whole.append(seconds)
            peaks.append(memory.mib)
    total = Seconds.median(whole)
    return {
        'case': asdict(case),
        'found': len(played.people),
        'detected': played.detected,
        'stages': _stages(runs, total),
        'peak_extra_mib': max(peaks),
        'peak_is_exact': memory.exact,
    }


def _stages(runs: list[CpuTimer], total: Seconds) -> dict[str, dict[str, float]]:
    rows = {
        name: Seconds.median([Seconds(r.seconds[name], r.cpu[name]) for r in runs])
        for name in runs[0].seconds
    }
    rest = [total.wall - sum(r.wall for r in rows.values()),
            total.cpu - sum(r.cpu for r in rows.values())]  # fmt: skip
    rows |= {OTHER: Seconds(*(max(v, 0.0) for v in rest)), WHOLE: total}
    return {
        name: {'wall_s': row.wall, 'cpu_s': row.cpu, 'share': row.cpu / max(total.cpu, 1e-9)}
        for name, row in rows.items()
    }


def sweep(base: Case, axis: str, values: Sequence[Any], repeats: int) -> dict[str, Any]:
    """Measure a case along one axis, everything else as in ``base``.

    People keep the size in px that the largest crowd of the sweep has room for, so that a further
    person costs what the others do; in a sweep over sizes they grow with the photo.

    Args:
        base: the other settings.
        axis: one of `AXES`; ``size`` is the longer side of a 4:3 photo in px.
        values: along the axis.
        repeats: runs of each.

    Raises:
        ValueError: no such axis.
    """
    if axis not in AXES:
        raise ValueError(f'axis must be one of {", ".join(AXES)}, got {axis!r}')
    if axis == 'people':
        base = replace(base, tall=person_height(base.width, base.height, max(values)))
    cases = [_at(base, axis, value) for value in values]
    pipeline, rows = None, []
    for case in cases:
        if pipeline is None or axis == 'precision':
            pipeline = build(case)
            warm_up(pipeline, case)
        rows.append(measure_case(case, repeats, pipeline))
    result: dict[str, Any] = {'axis': axis, 'values': list(values), 'rows': rows}
    if axis != 'precision' and len(set(values)) > 1:
        result['fits'] = _fits(axis, values, rows)
    return result


def _at(base: Case, axis: str, value: Any) -> Case:
    if axis == 'size':
        return replace(base, width=value, height=round(value * _ASPECT))
    return replace(base, **{axis: value})


def _fits(axis: str, values: Sequence[Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Growth of every stage, in s, and of memory, in MiB; sizes count in megapixels."""
    xs = [v * v * _ASPECT / 1e6 for v in values] if axis == 'size' else list(values)
    names = list(rows[-1]['stages'])
    costs = {n: [r['stages'].get(n, {'cpu_s': 0.0})['cpu_s'] for r in rows] for n in names}
    costs['memory'] = [r['peak_extra_mib'] for r in rows]
    return {name: asdict(fit_growth(xs, ys)) for name, ys in costs.items()}
