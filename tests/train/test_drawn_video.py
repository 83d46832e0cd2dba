"""Long and killed runs of videos; `python -m tests.fuzz.videos` has larger figures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize('words', ['memory --frames 2000', 'kill --count 4'])
def test_long_and_killed_runs(words: str) -> None:
    command = [sys.executable, '-m', 'tests.fuzz.videos', *words.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
