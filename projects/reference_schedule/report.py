"""Figures of the benchmark as Markdown tables and as charts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Table = Sequence[Sequence[str]]
_UNITS = {'people': 'per person', 'size': 'per megapixel', 'rounds': 'per round'}


def to_markdown(mode: str, figures: dict[str, Any]) -> str:
    """Tables of one mode of the benchmark."""
    return '\n\n'.join(_MODES[mode](figures)) + '\n'


def markdown_table(header: Sequence[str], rows: Table) -> str:
    """A table, its first column to the left and the others to the right."""
    marks = ['---', *['--:'] * (len(header) - 1)]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in (header, marks, *rows))


def subject(case: dict[str, Any]) -> str:
    """What was measured, and on which machine, in one line."""
    weights = ', random weights' if case['random_weights'] else ''
    threads = f'{case["threads"]} thread' + ('s' if case['threads'] > 1 else '')
    return (
        f'{case["config"]}{weights}, {case["precision"] or "precision of the config"}, '
        f'{case["width"]} x {case["height"]} px, {case["people"]} people, '
        f'{case["rounds"]} rounds; {case["device"]}, {threads}, {case["processor"]}, '
        f'torch {case["torch"]}'
    )


def _stages(figures: dict[str, Any]) -> list[str]:
    rows = [
        [name, _s(row['wall_s']), _s(row['cpu_s']), f'{row["share"]:.0%}']
        for name, row in figures['stages'].items()
    ]
    note = f'Peak memory above the idle models: {_bound(figures)} MiB.'
    return [
        subject(figures['case']),
        markdown_table(['stage', 'wall s', 'CPU s', 'share of CPU'], rows),
        note,
    ]


def _sweep(figures: dict[str, Any]) -> list[str]:
    texts = [subject(figures['case'])]
    for part in figures['sweeps']:
        names = list(part['rows'][-1]['stages'])
        header = [part['axis'], *(f'{n}, CPU s' for n in names), 'memory, MiB']
        rows = [
            [str(value), *(_s(row['stages'].get(n, {'cpu_s': 0.0})['cpu_s']) for n in names),
             _bound(row)]
            for value, row in zip(part['values'], part['rows'], strict=True)
        ]  # fmt: skip
        texts.append(markdown_table(header, rows))
        if 'fits' in part:
            texts.append(_fits(part))
    return texts


def _fits(part: dict[str, Any]) -> str:
    unit = _UNITS[part['axis']]
    rows = []
    for name, fit in part['fits'].items():
        scale, digits = (1, 2) if name == 'memory' else (1000, 2)
        exponent = '–' if fit['exponent'] is None else f'{fit["exponent"]:.2f}'
        rows.append([
            f'{name}, {"MiB" if name == "memory" else "ms"}',
            f'{fit["fixed"] * scale:.{digits}f}',
            f'{fit["slope"] * scale:.{digits}f}',
            f'{fit["r2"]:.3f}',
            exponent,
        ])  # fmt: skip
    return markdown_table(['growth', 'fixed', unit, 'R²', 'exponent'], rows)


def _schedule(figures: dict[str, Any]) -> list[str]:
    sides, ratio = figures['sides'], figures['ratio']
    keys = [('wall s', 'wall_s'), ('CPU s', 'cpu_s'), ('peak extra memory, MiB', 'peak_extra_mib')]
    rows = [
        [name, _s(sides['reference'][key]), _s(sides['ours'][key]), f'{ratio[key]:.2f}']
        for name, key in keys
    ]
    stages = list(dict.fromkeys(n for s in sides.values() for n in s['stages_cpu_s']))
    for name in stages:
        both = [sides[side]['stages_cpu_s'].get(name) for side in ('reference', 'ours')]
        known = None not in both and both[1]
        rows.append([f'{name}, CPU s', *('–' if v is None else _s(v) for v in both),
                     f'{both[0] / both[1]:.2f}' if known else '–'])  # fmt: skip
    apart = figures['difference']
    return [
        subject(figures['case']),
        markdown_table(['', 'reference schedule', 'ours', 'ratio'], rows),
        f'{apart["people"]} people on both sides; least mask IoU {apart["min_mask_iou"]:.4f}, '
        f'largest keypoint difference {apart["max_keypoint_px"]:.3f} px: '
        + ('equal.' if apart['equal'] else '**not equal** (asked for: IoU 0.99, 0.5 px).'),
    ]


def _floor(figures: dict[str, Any]) -> list[str]:
    rates = figures['rates']
    rows = [
        [
            name,
            f'{row["gflop"]:.1f}',
            f'{row["traffic_gb"]:.2f}',
            _s(row['floor_s']),
            _s(row['traffic_s']),
            _s(row['cpu_s']),
            '–' if row['ratio'] is None else f'{row["ratio"]:.1f}',
        ]
        for name, row in figures['stages'].items()
    ]
    header = ['stage', 'GFLOP', 'traffic GB', 'floor s', 'traffic s', 'CPU s', 'ratio to floor']
    return [
        subject(figures['case']),
        f'Machine, one thread: {rates["matmul_fp32_gflops"]:.0f} GFLOP/s float32, '
        f'{rates["matmul_bf16_gflops"]:.0f} GFLOP/s bfloat16, '
        f'{rates["copy_gb_s"]:.1f} GB/s copied.',
        markdown_table(header, rows),
    ]


def _start(figures: dict[str, Any]) -> list[str]:
    rows = [[name, _s(r['wall_s']), _s(r['cpu_s'])] for name, r in figures['start'].items()]
    return [figures['config'], markdown_table(['start', 'wall s', 'CPU s'], rows)]


def _plain(figures: dict[str, Any]) -> list[str]:
    return [markdown_table(['figure', 'value'], [[k, str(v)] for k, v in figures.items()])]


_MODES: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    'stages': _stages,
    'sweep': _sweep,
    'schedule': _schedule,
    'floor': _floor,
    'start': _start,
    'memory': _plain,
    'scoring': _plain,
}


def _s(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return '–'
    return f'{value:.0f}' if value >= 100 else f'{value:.3g}' if value >= 0.001 else f'{value:.4f}'


def _bound(row: dict[str, Any]) -> str:
    mark = '' if row['peak_is_exact'] else '< '
    return f'{mark}{row["peak_extra_mib"]:.0f}'
