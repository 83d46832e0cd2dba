"""Render a comparison as one offline HTML file: summary, images side by side, table of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from ..io.coco import Task
from .comparison import SAME, Comparison, ImageDifference, ImageQuality
from .comparison_cards import Card, render_marks
from .comparison_style import SCRIPT, STYLE

TASK_NAMES = {'bbox': 'boxes', 'segm': 'masks', 'keypoints': 'keypoints'}
OVERLAPS = {'bbox': 'IoU of boxes', 'segm': 'IoU of masks', 'keypoints': 'OKS of keypoints'}

_COLUMNS = ('image', 'people', 'quality A', 'quality B', 'gain', 'found A', 'found B', 'false A',
            'false B')  # fmt: skip


def render_comparison_page(
    comparison: Comparison,
    names: Mapping[str, str],
    gained: Sequence[Card],
    lost: Sequence[Card],
    *,
    min_score: float = 0,
) -> str:
    """Render the page.

    Args:
        comparison: metrics of all images.
        names: of ``a``, ``b`` and ``annotations`` on the command line.
        gained: images to show where B is better, largest gain first.
        lost: images to show where B is worse, largest loss first.
        min_score: minimum score of the results, for the text.
    """
    shown = {card.difference.image_id for card in (*gained, *lost)}
    task = TASK_NAMES[comparison.task]
    parts = [
        f'<h1>Comparison of {task}</h1>',
        _names(names),
        _definition(comparison, min_score),
        '<h2>Summary</h2><div class="summary">',
        _totals(comparison),
        f'<div>{_counts(comparison)}</div>',
        _chart(comparison.images),
        '</div>',
        _switches(comparison.task),
        _section('Largest gains', gained, 'No image is better in B.', comparison.task),
        _section('Largest losses', lost, 'No image is worse in B.', comparison.task),
        '<h2>All images</h2>',
        _table(comparison.images, shown),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>Comparison of {task}</title><style>{STYLE}</style></head>\n<body>\n<main>\n'
        + '\n'.join(parts)
        + f'\n</main>\n<script>{SCRIPT}</script>\n</body></html>\n'
    )


def _names(names: Mapping[str, str]) -> str:
    lines = (('A', names['a']), ('B', names['b']), ('annotations', names['annotations']))
    inner = ''.join(f'<dt>{key}</dt><dd>{escape(value)}</dd>' for key, value in lines)
    return f'<dl class="names">{inner}</dl>'


def _definition(comparison: Comparison, min_score: float) -> str:
    left_out = f' Results scored below {min_score:g} are left out.' if min_score else ''
    return (
        '<p class="soft"><b>Quality of an image</b> = 2 × (sum of the overlaps of the people found)'
        f' ∕ (people + results); overlap is the {OVERLAPS[comparison.task]}, at least 0.5 for a '
        'match. 1 is perfect; missed people, false and inexact results lower it. Crowd regions, '
        'people without annotations of the task, and results on them do not count.'
        f'{left_out}</p>'
    )


def _totals(comparison: Comparison) -> str:
    rows = []
    for name, (a, b) in comparison.totals().items():
        whole = isinstance(a, int)
        better = -1 if name == 'false' else 1
        gain = None if a is None or b is None else b - a
        text = '–' if gain is None else f'{gain:+d}' if whole else f'{100 * gain:+.1f}'
        label = {'found': 'people found', 'false': 'false results'}.get(name, name)
        label = label.upper() if label.startswith('a') else label
        rows.append(
            f'<tr><td>{label}</td><td>{_total(a)}</td><td>{_total(b)}</td>'
            f'<td class="{_class(better * (gain or 0))}">{text}</td></tr>'
        )
    return (
        '<table><thead><tr><th scope="col">percent, or number</th><th scope="col">A</th>'
        '<th scope="col">B</th><th scope="col">B − A</th></tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table>'
    )


def _counts(comparison: Comparison) -> str:
    better, worse = len(comparison.gained), len(comparison.lost)
    equal = len(comparison.images) - better - worse
    boxes = (('better in B', better, 'up'), ('worse in B', worse, 'down'), ('equal', equal, ''))
    inner = ''.join(
        f'<div><dt>{name}</dt><dd class="{css}">{number}</dd></div>' for name, number, css in boxes
    )
    return f'<dl class="counts" aria-label="number of images">{inner}</dl>'


def _chart(images: Sequence[ImageDifference]) -> str:
    """Draw the sorted gains of all images as bars."""
    gains = sorted((image.gain for image in images), reverse=True)
    largest = max((abs(g) for g in gains), default=0) or 1
    bars = ''.join(
        f'<rect x="{i + 0.1:.1f}" y="{50 - 47 * max(g, 0) / largest:.2f}" width="0.8" '
        f'height="{max(47 * abs(g) / largest, 0.6):.2f}" fill="currentColor" class="{_class(g)}"/>'
        for i, g in enumerate(gains)
    )
    text = f'gain of each of the {len(gains)} images, sorted; the tallest bar is {largest:.3f}'
    return (
        f'<figure class="chart"><svg viewBox="0 0 {max(len(gains), 1)} 100" role="img" '
        f'preserveAspectRatio="none" aria-label="{text}">{bars}</svg>'
        f'<figcaption>{text}</figcaption></figure>'
    )


def _switches(task: Task) -> str:
    found = '<span class="key found"></span>right results, ' if task == 'bbox' else ''
    return (
        f'<div class="switches"><label><input type="checkbox" id="show-marks" checked> {found}'
        '<span class="key false"></span>false results, <span class="key missed"></span>missed '
        'people</label><label><input type="checkbox" id="show-truth"> '
        '<span class="key truth"></span>ground truth</label></div>'
    )


def _section(title: str, cards: Sequence[Card], nothing: str, task: Task) -> str:
    inner = '\n'.join(_card(card, task) for card in cards) or f'<p>{nothing}</p>'
    return f'<section><h2>{title}</h2>\n{inner}\n</section>'


def _card(card: Card, task: Task) -> str:
    image = card.difference
    problem = f'<p class="soft">{escape(card.problem)}</p>' if card.problem else ''
    figures = ''.join(
        _figure(card, name, side, overlay, missed, task)
        for name, side, overlay, missed in zip(
            'AB', (image.a, image.b), card.overlays, card.missed, strict=True
        )
    )
    return (
        f'<article class="card" id="{_anchor(image)}"><header>'
        f'<h3>{escape(image.file_name)} <span class="soft">id {escape(str(image.image_id))}</span>'
        f'</h3><span>quality {image.a.quality:.3f} → {image.b.quality:.3f} '
        f'<b class="{_class(image.gain)}">{image.gain:+.3f}</b></span></header>{problem}'
        f'<div class="pair">{figures}</div></article>'
    )


def _figure(
    card: Card, name: str, side: ImageQuality, overlay: str, missed: str, task: Task
) -> str:
    overlap = '' if side.overlap is None else f', mean overlap {side.overlap:.3f}'
    facts = f'{side.found} of {side.people} people found, {side.false} false{overlap}'
    box = f'viewBox="0 0 {card.width} {card.height}" preserveAspectRatio="none" aria-hidden="true"'
    return (
        f'<figure><div class="stage"><img src="{overlay}" width="{card.width}" '
        f'height="{card.height}" loading="lazy" '
        f'alt="{escape(card.difference.file_name)}, result {name}: {facts}">'
        f'<svg class="truth" {box}><g class="rim">{card.ground_truth}</g>'
        f'<g class="line">{card.ground_truth}</g></svg>'
        f'<svg class="marks" {box}>{render_marks(side, missed, task)}</svg></div>'
        f'<figcaption><b>{name}</b>: {facts}</figcaption></figure>'
    )


def _table(images: Sequence[ImageDifference], shown: set[int | str]) -> str:
    heads = ''.join(
        f'<th scope="col" data-kind="{"text" if i == 0 else "number"}">'
        f'<button type="button">{name}</button></th>'
        for i, name in enumerate(_COLUMNS)
    )
    order = sorted(images, key=lambda image: (-image.gain, image.file_name))
    rows = '\n'.join(_row(image, image.image_id in shown) for image in order)
    return (
        f'<div class="scroll"><table class="sortable"><thead><tr>{heads}</tr></thead>'
        f'<tbody>\n{rows}\n</tbody></table></div>'
    )


def _row(image: ImageDifference, shown: bool) -> str:
    name = escape(image.file_name)
    first = f'<a href="#{_anchor(image)}">{name}</a>' if shown else name
    a, b = image.a, image.b
    numbers = (
        (a.people, 'd'), (a.quality, '.3f'), (b.quality, '.3f'), (image.gain, '+.3f'),
        (a.found, 'd'), (b.found, 'd'), (a.false, 'd'), (b.false, 'd'),
    )  # fmt: skip
    cells = ''.join(
        f'<td data-value="{value}"{_gain_class(value, form)}>{value:{form}}</td>'
        for value, form in numbers
    )
    return f'<tr><td data-value="{name}">{first}</td>{cells}</tr>'


def _gain_class(value: float, form: str) -> str:
    return f' class="{_class(value)}"' if form == '+.3f' else ''


def _anchor(image: ImageDifference) -> str:
    return 'image-' + escape(str(image.image_id)).replace(' ', '_')


def _class(gain: float) -> str:
    return 'up' if gain > SAME else 'down' if gain < -SAME else 'soft'


def _total(value: float | None) -> str:
    if value is None:
        return '–'
    return str(value) if isinstance(value, int) else f'{100 * value:.1f}'
