"""Loading a pipeline imports only what it needs, and changes nothing else in the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAX_CALLS = 7  # from main to the first network
MAX_LINES = 11_100  # of this package, imported by a run with the default outputs
STATE = """
import gc, signal, sys, warnings
import numpy, torch
from pipeline import load_pipeline
def state():
    return (gc.isenabled(), gc.get_threshold(), signal.getsignal(signal.SIGINT),
            torch.get_num_threads(), torch.is_grad_enabled(), sys.excepthook, sys.stdout,
            [finder for finder in sys.meta_path if 'pipeline' in type(finder).__module__])
before = state()
model = load_pipeline('bmp_compact', device='cpu')
with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter('always')
    model(numpy.zeros((64, 64, 3), numpy.uint8))
assert not found, [str(warning.message) for warning in found]
assert state() == before, (state(), before)
assert not before[-1]
"""


def run_python(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def test_loading_leaves_the_process_alone() -> None:
    assert 'OneDL' not in run_python('-c', STATE)  # printed by the libraries during import


def test_a_run_is_short_and_imports_no_training_code() -> None:
    calls, lines, libraries = run_python('-m', 'tests.run_figures').splitlines()[-3:]
    assert int(calls.split()[0]) <= MAX_CALLS, calls
    assert int(lines.split()[0]) <= MAX_LINES, lines
    loaded = set(libraries.split())
    assert {'torch', 'mmdet.models', 'mmpose.models', 'sam2'} <= loaded
    # Each of these takes a second or more to import.
    heavy = {'imgaug', 'numba', 'mmdet.datasets.transforms', 'mmdet.apis', 'mmdet.engine'}
    assert not heavy & loaded
