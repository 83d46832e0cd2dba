"""The table of settings in the documents is that of the source."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = next(p for p in Path(__file__).parents if (p / 'setup.cfg').is_file())
PAGE = ROOT / 'docs' / 'reference' / 'settings.md'


def test_the_page_is_generated_from_the_source() -> None:
    generated = runpy.run_path(str(ROOT / 'docs' / 'generate_settings.py'))['render']()
    assert PAGE.read_text('utf-8') == generated, 'run python docs/generate_settings.py'


def test_every_setting_has_a_meaning() -> None:
    rows = [line for line in PAGE.read_text('utf-8').splitlines() if line.startswith('| `')]
    assert len(rows) > 40
    assert not [row for row in rows if row.endswith('|  |')]
