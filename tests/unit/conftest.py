"""Unit tests run without PyTorch: a test or a module that imports it belongs into tests/models."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse a module that imports torch, when only unit tests were collected."""
    if 'torch' in sys.modules and all(HERE in item.path.parents for item in session.items):
        raise pytest.UsageError('collecting tests/unit imported torch; find it with -X importtime')


@pytest.fixture(autouse=True)
def no_torch() -> Iterator[None]:
    """Fail the test that imports torch."""
    loaded = 'torch' in sys.modules
    yield
    if not loaded and 'torch' in sys.modules:
        pytest.fail('this test imported torch; move it to tests/models')
