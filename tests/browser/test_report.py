"""The report in Chromium: every part is used as a reader does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.cli import report
from tests.browser.conftest import find_faults
from tests.report_files import make_run, read_data
from tests.unit.test_comparison import make_page

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
LAYERS = {
    'masks': 'path.mask', 'boxes': 'rect.box', 'skeletons': 'line.limb', 'prompts': 'rect.prompt',
    'ids': 'text.tag',
}  # fmt: skip


@pytest.mark.parametrize('single', [False, True], ids=['folder', 'one file'])
def test_report_of_a_run(single: bool, tmp_path: Path, open_page: Callable[..., Page]) -> None:
    out = make_run(tmp_path)
    address = out / 'report' / 'index.html'
    if single:
        address = tmp_path / 'one.html'
        assert report.main([str(out), '--out', str(address)]) == 0
    page = open_page(address.as_uri())
    assert page.locator('.card').count() == 5
    assert not find_faults(page), find_faults(page)
    page.select_option('#f-sort', 'low')
    page.click('#f-turn')
    lows = [
        float(t.split()[-1]) for t in page.locator('.badge', has_text='lowest').all_inner_texts()
    ]
    assert lows == sorted(lows, reverse=True) and len(lows) == 4
    page.select_option('#f-show', 'failure')
    assert page.locator('.card .name').all_inner_texts() == [str(tmp_path / 'images' / 'bad.png')]
    page.select_option('#f-show', 'all')
    page.fill('#f-name', 'PNG')
    page.fill('#f-least', '1')
    assert page.inner_text('#found') == '1 image of 5'
    page.locator('a.card').click()
    page.wait_for_selector('#steps')
    for layer, css in LAYERS.items():
        box = page.locator(f'#layer-{layer}')
        shown = []
        for _ in range(2):
            shown.append((box.is_checked(), page.locator(f'.canvas {css}').count() > 0))
            box.click()
        assert sorted(shown) == [(False, False), (True, True)], layer
    for n in range(page.locator('#steps button').count()):
        page.locator('#steps button').nth(n).click()
        assert page.inner_text('#note')
    page.locator('#steps button').first.click()
    row = page.locator('.people tbody tr').nth(1)
    row.hover()
    assert page.locator('.canvas g.hot[data-p="1"]').count() == 1
    row.locator('button').click()
    assert page.locator('.canvas g').count() == 1 and 'Person 2' in page.inner_text('#about')
    assert not find_faults(page), find_faults(page)
    row.locator('button').click()
    assert page.locator('.canvas g').count() == 3
    page.get_by_label('Zoom in').click()
    assert page.inner_text('#zoom') == '150 %'
    page.go_back()
    assert page.locator('#home').is_visible()


def test_comparison(tmp_path: Path, open_page: Callable[..., Page]) -> None:
    out = make_page(tmp_path, '--task', 'bbox')
    page = open_page((out / 'index.html').as_uri(), 390)
    gains = {
        p['file_name']: p['gain']
        for p in json.loads((out / 'comparison.json').read_text())['by_photo']
    }
    names = page.locator('.card .name').all_inner_texts()
    assert [gains[name] for name in names] == sorted(gains.values())
    page.locator('a.card').first.click()
    page.wait_for_selector('#steps')
    assert page.locator('.canvas').count() == 2
    assert page.locator('#canvas-1 .missed').count() + page.locator('#canvas-1 .false').count() > 0
    page.click('#layer-verdicts')
    assert page.locator('.canvas .verdict').count() == 0
    page.click('#layer-truth')
    assert page.locator('#canvas-0 rect.truth').count() > 0
    assert not find_faults(page), find_faults(page)


HOSTILE = [
    '<script>window.bad = 1</script>', '<img src=x onerror="window.bad=1">', 'a\u202eb\nc',
    '</script><script>window.bad=1</script>', '"><svg onload=window.bad=1>', 'x' * 5000,
]  # fmt: skip


def test_hostile_names_are_text(tmp_path: Path, open_page: Callable[..., Page]) -> None:
    out = make_run(tmp_path)
    records = sorted((out / 'predictions').rglob('*.json'))
    for text, path in zip(
        HOSTILE, [*records, out / 'run.json', out / 'failures.json'], strict=True
    ):
        content = json.loads(path.read_bytes())
        if isinstance(content, list):
            content[0] = {'input': text, 'error': text, 'message': text}
        else:
            content |= {'input': text, 'config': text, 'weights_sha256': {text: text}}
        path.write_text(json.dumps(content))
    (out / 'config.py').write_text(HOSTILE[0])
    assert report.main([str(out)]) == 0
    page = open_page((out / 'report' / 'index.html').as_uri())
    for n in range(4):
        page.goto(f'{(out / "report" / "index.html").as_uri()}#image={n}')
        page.wait_for_selector('#steps')
    assert page.evaluate('window.bad') is None
    assert page.locator('main script, main img[onerror]').count() == 0
    assert HOSTILE[0] in page.locator('.card .name').all_inner_texts()
    wide = page.evaluate('document.documentElement.scrollWidth')
    assert wide <= 1440
    assert read_data(out / 'report', 0)['size'] == [60, 40]
