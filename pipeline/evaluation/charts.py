"""Draw tables of the analyses as charts, and save charts as PNG."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.atomic import write_bytes
from .calibration import CalibrationTable
from .metrics import TASK_NAMES
from .parts import PartTable
from .visibility import VisibilityTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours of Okabe and Ito: distinguishable with colour blindness and in grey.
COLOURS = ('#0072B2', '#E69F00', '#009E73', '#CC79A7', '#56B4E9', '#D55E00')
_DPI = 150


def save_chart(path: Path, draw: Callable[..., Figure], *args: Any) -> None:
    """Draw a figure with ``draw(*args)`` and save it as PNG; equal figures give equal bytes."""
    with chart_style():
        figure = draw(*args)
        stream = BytesIO()
        # Without the version of Matplotlib, so that the bytes are equal on all machines.
        figure.savefig(stream, format='png', dpi=_DPI, metadata={'Software': None})
    write_bytes(path, stream.getvalue())


@contextmanager
def chart_style() -> Iterator[None]:
    """Apply the style of all charts; ignores the user's matplotlibrc."""
    import matplotlib

    style: dict[Any, Any] = {
        'font.size': 10,
        'axes.titlesize': 11,
        'axes.grid': True,
        'axes.axisbelow': True,
        'grid.color': '#dddddd',
        'axes.spines.top': False,
        'axes.spines.right': False,
        'legend.frameon': False,
        'text.parse_math': False,  # a name with $ is text
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style)
        yield


def new_figure(
    width: float, height: float, title: str, columns: int = 1, lines: int = 1
) -> tuple[Figure, Any]:
    """Create a figure without a window, and its axes, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout='constrained')
    figure.suptitle(title, fontsize=12)
    return figure, figure.subplots(lines, columns, squeeze=False).ravel()


def draw_parts(table: PartTable, subject: str = '') -> Figure:
    """Draw AP, AP at equal size and AR of every part, one panel per task.

    ``subject`` describes the results in the title.
    """
    tasks = list(dict.fromkeys(r.task for r in table.rows))
    figure, panels = new_figure(
        4.3 * len(tasks) + 0.6, 4.2, _title(f'Metrics by {table.quantity}', subject), len(tasks)
    )
    series = (('AP', 'ap'), ('AP, parts of equal size', 'ap_equal_size'), ('AR', 'ar'))
    for axes, task in zip(panels, tasks, strict=True):
        rows = [r for r in table.rows if r.task == task]
        _draw_bars(axes, rows, series, [f'{r.part}\nn={r.num_people}' for r in rows])
        axes.set(title=TASK_NAMES[task])
        axes.set_xlabel(table.quantity + '\nn = number of people', fontsize=8.5)
    _legend_below(figure, panels[0])
    return figure


def draw_calibration(table: CalibrationTable, subject: str = '') -> Figure:
    """Draw reliability diagrams with the number of results in each bin; see `draw_parts`."""
    tasks = list(dict.fromkeys(r.task for r in table.rows))
    title = _title('Score against precision (overlap ≥ 0.5)', subject)
    figure, panels = new_figure(4.1 * len(tasks) + 0.4, 5.2, title, len(tasks))
    for axes, task in zip(panels, tasks, strict=True):
        rows = [r for r in table.rows if r.task == task]
        full = [r for r in rows if r.num_results]
        axes.plot([0, 1], [0, 1], '--', color='#555555', label='perfectly calibrated')
        axes.plot(
            [r.mean_score for r in full], [r.precision for r in full],
            'o-', color=COLOURS[0], label='precision', clip_on=False,
        )  # fmt: skip
        error = table.error(task)
        summary = 'no results' if error is None else f'ECE {error:.3f}'
        total = sum(r.num_results for r in rows)
        axes.set_box_aspect(1)
        axes.set(xlim=(0, 1), ylim=(0, 1), title=f'{TASK_NAMES[task]}: {summary}')
        axes.set(xlabel=f'mean score of the bin (n={total} results)', ylabel='precision')
        bars = axes.twinx()
        bars.bar(
            [(r.low + r.high) / 2 for r in rows], [r.num_results for r in rows],
            0.9 / len(rows), color='#bbbbbb', zorder=0,
        )  # fmt: skip
        # In the lower quarter, behind the curve.
        bars.set_box_aspect(1)
        bars.set(ylim=(0, 4 * max(1, *(r.num_results for r in rows))), yticks=[])
        for r in full:
            bars.text((r.low + r.high) / 2, r.num_results, f' {r.num_results}', fontsize=7,
                      rotation=90, ha='center', va='bottom')  # fmt: skip
        bars.grid(visible=False)
        axes.set_zorder(bars.get_zorder() + 1)
        axes.patch.set_visible(False)
    _legend_below(figure, panels[0])
    return figure


def draw_visibility(table: VisibilityTable, subject: str = '') -> Figure:
    """Draw AP and accuracy by visibility and by keypoint; see `draw_parts`."""
    figure, (left, right) = new_figure(11, 5.4, _title('Keypoints by visibility', subject), 2)
    rows = [r for r in table.rows if r.keypoint == 'all']
    series = (
        ('AP', 'ap'),
        ('correct, of all annotated', 'near'),
        ('correct, of detected people', 'near_if_found'),
    )
    labels = [f'{r.visibility}\nn={r.num_keypoints}\nof {r.num_people} people' for r in rows]
    _draw_bars(left, rows, series, labels)
    left.set(title='all keypoints')
    left.set_xlabel('visibility (n = number of keypoints)')
    _legend_under(left)
    names = list(dict.fromkeys(r.keypoint for r in table.rows if r.keypoint != 'all'))
    for n, name in enumerate(('visible', 'hidden')):
        by_name = {r.keypoint: r for r in table.rows if r.visibility == name}
        places = [i + (n - 0.5) * 0.4 for i in range(len(names))]
        values = [100 * (by_name[k].near or 0) for k in names]
        right.barh(places, values, 0.38, label=name, color=COLOURS[n], edgecolor='black',
                   linewidth=0.4)  # fmt: skip
        for y, value, k in zip(places, values, names, strict=True):
            right.text(value, y, f' n={by_name[k].num_keypoints}', va='center', fontsize=6.5)
    right.set_yticks(range(len(names)), [k.replace('_', ' ') for k in names])
    right.invert_yaxis()
    right.grid(visible=False, axis='y')
    right.set(xlabel='correct (similarity ≥ 0.5) of all annotated, percent', title='by keypoint')
    right.set_xlim(0, right.get_xlim()[1] * 1.08)
    _legend_under(right)
    return figure


def _draw_bars(
    axes: Axes, rows: Sequence[Any], series: Sequence[tuple[str, str]], labels: Sequence[str]
) -> None:
    """Draw a group of bars per row, with one bar per (legend, attribute) of ``series``."""
    for n, (legend, key) in enumerate(series):
        heights = [100 * (getattr(r, key) or 0) for r in rows]
        places = [i + (n - 1) * 0.27 for i in range(len(rows))]
        axes.bar(places, heights, 0.25, label=legend, color=COLOURS[n], edgecolor='black',
                 linewidth=0.4)  # fmt: skip
    axes.set_xticks(range(len(rows)), labels)
    axes.grid(visible=False, axis='x')
    axes.set(ylabel='percent', ylim=(0, find_axis_top(axes)))


def _title(text: str, subject: str) -> str:
    return f'{text}\n{subject}' if subject else text


def _legend_below(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncols=min(len(labels), 4))


def _legend_under(axes: Axes) -> None:
    axes.legend(fontsize=8.5, loc='upper center', bbox_to_anchor=(0.5, -0.2), ncols=3)


def find_axis_top(axes: Axes) -> float:
    """Upper limit of an axis from 0: a little above the data."""
    top = float(axes.dataLim.y1) * 1.12
    return top if 0 < top <= 100 else 104.0
