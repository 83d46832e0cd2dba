"""Curves of a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..evaluation.charts import COLOURS, MARKERS, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABELS = {'people': 'people', 'size': 'megapixels', 'rounds': 'rounds'}


def draw_sweep(figures: dict[str, Any]) -> Figure:
    """Processor time of every stage and peak memory along the axes of a sweep that are numbers.

    Raises:
        ValueError: the sweep has no such axis.
    """
    parts = [part for part in figures['sweeps'] if part['axis'] in _LABELS]
    if not parts:
        raise ValueError(f'a plot needs one of the axes {", ".join(_LABELS)}')
    case = figures['case']
    title = (
        f'{case["config"]}, {case["width"]} x {case["height"]} px, {case["people"]} people, '
        f'{case["rounds"]} rounds where nothing else is said\n'
        f'{case["device"]}, {case["threads"]} thread(s), {case["processor"]}'
    )
    figure, panels = new_figure(9.6, 3.6 * len(parts) + 0.8, title, 2, len(parts))
    for part, time, memory in zip(parts, panels[::2], panels[1::2], strict=True):
        _draw_part(part, time, memory)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=len(labels))
    return figure


def _draw_part(part: dict[str, Any], time: Axes, memory: Axes) -> None:
    axis, rows = part['axis'], part['rows']
    xs = [_x(axis, row['case']) for row in rows]
    for n, name in enumerate(rows[-1]['stages']):
        ys = [row['stages'].get(name, {'cpu_s': 0.0})['cpu_s'] for row in rows]
        time.plot(xs, ys, label=name, color=COLOURS[n % 6], marker=MARKERS[n % 6], markersize=5)
    memory.plot(xs, [row['peak_extra_mib'] for row in rows], color='black', marker='o')
    for axes, name, label in (
        (time, 'time', 'processor seconds'),
        (memory, 'memory', 'peak above the idle models, MiB'),
    ):
        axes.set(title=f'{name} by {_LABELS[axis]}', xlabel=_LABELS[axis], ylabel=label)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)


def _x(axis: str, case: dict[str, Any]) -> float:
    return case['width'] * case['height'] / 1e6 if axis == 'size' else float(case[axis])
