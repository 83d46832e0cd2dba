"""The comparison page in Chromium."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.test_comparison import make_page

if TYPE_CHECKING:
    from playwright.sync_api import Page

# Uses the page as a reader does, and writes what happened into its title.
READER = """
<script>
const shown = css => getComputedStyle(document.querySelector(css)).display;
const rows = () => [...document.querySelectorAll('.sortable tbody tr')];
const column = () => rows().map(row => row.cells[0].textContent);
const press = n => document.querySelectorAll('th button')[n].click();
const seen = {before: [shown('svg.truth'), shown('svg.marks'), shown('.key.truth')]};
document.querySelector('#show-truth').click();
document.querySelector('#show-marks').click();
seen.after = [shown('svg.truth'), shown('svg.marks'), shown('.key.truth')];
press(0); seen.names = column();
press(0); seen.backwards = column();
press(4); seen.gains = column();
seen.sorted = [...document.querySelectorAll('th[aria-sort]')].map(h => h.textContent);
const images = [...document.images];
Promise.all(images.map(i => { i.loading = 'eager'; return i.decode(); })).then(() => {
  seen.widths = images.map(i => i.naturalWidth);
  document.title = JSON.stringify(seen);
});
</script>
"""


@pytest.mark.browser
def test_page_in_a_browser(tmp_path: Path, open_page: Callable[..., Page]) -> None:
    out = make_page(tmp_path, '--task', 'bbox', '--max-side', '150')
    text = (out / 'index.html').read_text()
    driven = tmp_path / 'driven.html'
    driven.write_text(text.replace('</body>', READER + '</body>'))
    page = open_page(driven.as_uri())
    page.wait_for_function('document.title.startsWith("{")')
    told = json.loads(page.title())
    assert told['before'] == ['none', 'block', 'inline-block']
    assert told['after'] == ['block', 'none', 'inline-block']
    assert told['names'] == ['3.jpg', '7.jpg', '9.jpg']
    assert told['backwards'] == ['9.jpg', '7.jpg', '3.jpg']
    report = json.loads((out / 'comparison.json').read_text())
    gains = {p['file_name']: p['gain'] for p in report['by_photo']}
    assert [gains[n] for n in told['gains']] == sorted(gains.values(), reverse=True)
    assert told['sorted'] == ['gain']
    assert set(told['widths']) == {150}
