"""Where the recorded numbers of the reference lie (see CONTRIBUTING in docs)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get('BMP_FIXTURES', ROOT.parent / 'shared' / 'fixtures' / 'dev'))


def load(name: str) -> tuple[dict[str, np.ndarray], Any]:
    """Arrays of ``name``.npz and content of ``name``.json; skips the test when absent."""
    arrays, facts = FOLDER / f'{name}.npz', FOLDER / f'{name}.json'
    if not arrays.exists():
        pytest.skip(f'no reference fixtures: {arrays} is absent (set BMP_FIXTURES)')
    return dict(np.load(arrays)), json.loads(facts.read_text()) if facts.exists() else None


def facts(name: str) -> Any:
    """Content of ``name``.json; skips the test when absent."""
    path = FOLDER / f'{name}.json'
    if not path.exists():
        pytest.skip(f'no reference fixtures: {path} is absent (set BMP_FIXTURES)')
    return json.loads(path.read_text())
