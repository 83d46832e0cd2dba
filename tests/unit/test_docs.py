"""The documents: links lead somewhere, commands are marked, examples are Python, names exist."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import REASONS, ROOT, anchors, blocks, links, pages

MARKS = ('run', *(f'no-run: {reason}' for reason in REASONS))
CARDS = [*ROOT.glob('*.md'), *ROOT.glob('checkpoints/*.md'), *ROOT.glob('projects/*/*.md')]
SETTINGS = ROOT / 'docs' / 'reference' / 'settings.md'


def page_ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize('page', sorted({*pages(), *CARDS}), ids=page_ids)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for target in links(page):
        name, _, anchor = target.partition('#')
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize('page', pages(), ids=page_ids)
def test_commands_are_run_or_state_why_not_and_examples_are_python(page: Path) -> None:
    for block in blocks(page):
        if block.language == 'python':
            ast.parse(block.text, filename=str(block))
        if block.language == 'bash':
            hint = f'put <!-- run --> or <!-- no-run: REASON --> before {block}'
            assert block.mark in MARKS, hint


def test_tools_named_in_the_documents_exist() -> None:
    text = '\n'.join(page.read_text('utf-8') for page in pages())
    named = set(re.findall(r'\b(?:projects/[\w/]+/)?tools/\w+\.py', text))
    assert not {name for name in named if not (ROOT / name).is_file()}
    configs = set(re.findall(r'\bconfigs/[\w/.+-]+\.py', text))
    assert not {name for name in configs if not (ROOT / name).is_file()}


def test_documents_named_in_the_code_exist() -> None:
    for folder in ('checkpoints', 'configs', 'pipeline', 'projects', 'tools'):
        for path in (ROOT / folder).rglob('*.py'):
            named = set(re.findall(r'\bdocs/[\w/]+\.md', path.read_text('utf-8')))
            assert not {name for name in named if not (ROOT / name).is_file()}, path


def test_settings_named_in_the_documents_exist() -> None:
    known = set(re.findall(r'^\| `(\w+)`', SETTINGS.read_text('utf-8'), re.MULTILINE))
    tables = (ROOT / 'docs' / 'user_guide' / 'configs.md').read_text('utf-8').split('## Match')[0]
    cells = re.findall(r'^\| ((?:`[\w.]+`(?:, )?)+) \|', tables, re.MULTILINE)
    named = {name.split('.')[-1] for cell in cells for name in re.findall(r'`([\w.]+)`', cell)}
    assert len(named) > 30
    assert not named - known


def test_the_page_of_settings_is_generated_from_the_source() -> None:
    variables = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    command = [sys.executable, str(ROOT / 'docs' / 'generate_settings.py'), '--check']
    subprocess.run(command, env=variables, check=True)
    rows = [line for line in SETTINGS.read_text('utf-8').splitlines() if line.startswith('| `')]
    assert len(rows) > 40
    assert not [row for row in rows if row.endswith('|  |')], 'settings without a meaning'


def test_the_reader_is_not_sent_outside_of_the_repository() -> None:
    for page in pages():
        text = page.read_text('utf-8')
        assert '../shared' not in text
        assert not re.search(r'(?<!\w)/(?:work|root|tmp)/', text), page_ids(page)


def test_the_readme_is_short() -> None:
    assert len((ROOT / 'README.md').read_text('utf-8').splitlines()) < 150
