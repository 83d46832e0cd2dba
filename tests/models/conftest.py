"""Tests with small models run on one thread."""

from __future__ import annotations

import pytest


@pytest.fixture(scope='session', autouse=True)
def use_one_thread(one_thread: None) -> None:
    """Apply `one_thread` to every test of this folder."""
