"""The comparison page in Chromium.

Without Chromium there is no test, and `.ci/run` installs none: run this file where it is installed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

from tests.unit.test_comparison import make_page

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')


def in_browser(page: Path, tmp_path: Path) -> str:
    """The page after its scripts ran, as Chromium has it."""
    command = [
        str(CHROMIUM), '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic',
        '--no-first-run', '--disable-background-networking', '--disable-component-update',
        '--disable-sync', f'--user-data-dir={tmp_path / "profile"}', '--dump-dom',
        '--virtual-time-budget=3000', page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


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


if CHROMIUM is not None:

    def test_page_in_a_browser(tmp_path: Path) -> None:
        out = make_page(tmp_path, '--task', 'bbox', '--max-side', '150')
        text = (out / 'index.html').read_text()
        driven = tmp_path / 'driven.html'
        driven.write_text(text.replace('</body>', READER + '</body>'))
        title = re.search(r'<title>(.*?)</title>', in_browser(driven, tmp_path))
        assert title is not None
        told = json.loads(title.group(1))
        assert told['before'] == ['none', 'block', 'inline-block']
        assert told['after'] == ['block', 'none', 'inline-block']
        assert told['names'] == ['3.jpg', '7.jpg', '9.jpg']
        assert told['backwards'] == ['9.jpg', '7.jpg', '3.jpg']
        report = json.loads((out / 'comparison.json').read_text())
        gains = {p['file_name']: p['gain'] for p in report['by_photo']}
        assert [gains[n] for n in told['gains']] == sorted(gains.values(), reverse=True)
        assert told['sorted'] == ['gain']
        assert set(told['widths']) == {150}
