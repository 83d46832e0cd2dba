"""Draw curves of the studies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.evaluation.charts import COLOURS, find_axis_top, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LINES = ('-', '--', '-.', ':')
_MARKERS = ('o', 's', '^', 'D', 'v', 'P')


def draw_lines(
    title: str, x_label: str, panels: Sequence[tuple[str, str, Sequence[tuple[str, Any, Any]]]]
) -> Figure:
    """Draw curves: one panel per (title, y label, [(legend, xs, ys), ...]); y starts at 0."""
    columns = min(len(panels), 2)
    lines = -(-len(panels) // columns)
    size = (4.8 * columns + 0.4, 3.4 * lines + 0.9)
    figure, all_axes = new_figure(*size, title, columns, lines)
    styles: dict[str, Any] = {}
    for axes, (name, y_label, curves) in zip(all_axes, panels, strict=False):
        for label, xs, ys in curves:
            n = len(styles)
            first = label not in styles
            new = {'color': COLOURS[n % 6], 'marker': _MARKERS[n % 6], 'linestyle': _LINES[n % 4]}
            style = styles.setdefault(label, new)
            axes.plot(xs, ys, label=label if first else None, markersize=5, **style)
        axes.set_xticks(sorted({x for _, xs, _ in curves for x in xs}))
        axes.set(title=name, xlabel=x_label, ylabel=y_label, ylim=(0, find_axis_top(axes)))
    for axes in all_axes[len(panels) :]:
        axes.set_axis_off()
    figure.legend(loc='outside lower center', ncols=min(len(styles), 4))
    return figure
