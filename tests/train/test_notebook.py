"""The code cells of the example notebook run one after the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = next(p for p in Path(__file__).parents if (p / 'setup.cfg').is_file())
NOTEBOOK = ROOT / 'docs' / 'examples' / 'quickstart.ipynb'


def test_the_quick_start_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in json.loads(NOTEBOOK.read_text('utf-8'))['cells']:
        assert not cell.get('outputs'), 'the notebook is kept without outputs'
        if cell['cell_type'] == 'code':
            exec(''.join(cell['source']), names)
    assert len(names['people']) >= 1
    np.testing.assert_array_equal(names['results'][0].boxes, names['people'].boxes)
    rows = json.loads((tmp_path / 'astronaut.json').read_text())
    assert {'bbox', 'segmentation', 'keypoints', 'score'} <= set(rows[0])
