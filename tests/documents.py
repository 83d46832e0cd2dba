"""The documents as data: pages, fenced blocks, links and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Why a block of commands is not run.
REASONS = ('download', 'gpu', 'data', 'set-up')

_BLOCK = re.compile(r'(?:<!-- ([\w: -]+) -->\n)?^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_LINK = re.compile(r'!?\[[^\]]*\]\(([^)\s]+)\)')
_HEADING = re.compile(r'^#+ (.+)$', re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block, with the comment on the line before it."""

    page: Path
    line: int  # of the opening fence
    mark: str | None  # 'run', 'no-run: REASON', or None
    language: str
    text: str

    def __str__(self) -> str:
        return f'{self.page.relative_to(ROOT)}:{self.line}'


def pages() -> list[Path]:
    """README and all documents, in the order in which their commands run."""
    return [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]


def blocks(page: Path) -> Iterator[Block]:
    """Fenced blocks of a page, from top to bottom."""
    text = page.read_text('utf-8')
    for match in _BLOCK.finditer(text):
        mark, language, content = match.groups()
        line = text.count('\n', 0, match.start()) + 1 + (mark is not None)
        yield Block(page, line, mark, language, content)


def links(page: Path) -> list[str]:
    """Targets of the links and images of a page, without those to the web."""
    targets = _LINK.findall(_without_code(page))
    return [target for target in targets if not re.match(r'\w+:', target)]


def anchors(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub and MkDocs make them."""
    headings = [re.sub(r'[^\w\s-]', '', h.lower()) for h in _HEADING.findall(_without_code(page))]
    return {re.sub(r'\s+', '-', heading.strip()) for heading in headings}


def _without_code(page: Path) -> str:
    return re.sub(r'^```.*?^```$', '', page.read_text('utf-8'), flags=re.MULTILINE | re.DOTALL)
