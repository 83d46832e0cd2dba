"""Chromium for the tests of pages: no request leaves the machine, no error in the console."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.conftest import CHROMIUM

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ARGUMENTS = (
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
)  # fmt: skip
LOCAL = ('file:', 'data:', 'blob:', 'http://127.0.0.1:')


@pytest.fixture(scope='session')
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    assert CHROMIUM, 'no chromium; install it: apt-get install chromium'
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # A proxy of the machine must not answer for a foreign host.
        os.environ['NO_PROXY'] = os.environ['no_proxy'] = '127.0.0.1'
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS])
        yield found
        found.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens an address in a new page of a width; fails on console errors and foreign requests."""
    problems: list[str] = []
    pages: list[Page] = []

    def open_one(address: str, width: int = 1440, height: int = 900) -> Page:
        page = browser.new_page(viewport={'width': width, 'height': height})
        pages.append(page)
        page.on('console', lambda m: problems.append(m.text) if m.type == 'error' else None)
        page.on('pageerror', lambda e: problems.append(str(e)))
        page.on(
            'request',
            lambda r: None if r.url.startswith(LOCAL) else problems.append(f'request to {r.url}'),
        )
        page.goto(address)
        return page

    yield open_one
    for page in pages:
        page.close()
    assert not problems, problems


def find_faults(page: Page) -> list[str]:
    """Serious faults of accessibility on a page, found by axe-core."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response['violations']
    return [
        f'{v["id"]}: {v["help"]}: {v["nodes"][0]["html"][:200]}'
        for v in found
        if v['impact'] in ('serious', 'critical')
    ]
