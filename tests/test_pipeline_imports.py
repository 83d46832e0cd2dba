"""Loading a pipeline imports only what it needs, and changes nothing else in the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = """
import gc, os, signal, sys, torch
from pipeline import load_pipeline
def state():
    return (gc.isenabled(), gc.get_threshold(), list(sys.meta_path), sys.path, dict(os.environ),
            signal.getsignal(signal.SIGINT), torch.get_num_threads(), torch.is_grad_enabled())
before = state()
load_pipeline('bmp_compact', {'runtime.device': 'cpu'})
assert state() == before, (state(), before)
print(' '.join(sorted(sys.modules)))
"""


def test_loading_leaves_the_process_alone_and_the_training_side_out() -> None:
    done = subprocess.run(
        [sys.executable, '-c', CODE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert {'torch', 'mmdet.models', 'mmpose.models', 'sam2'} <= loaded
    # Seconds in all; register_all_modules and MMDetection's own transforms bring them.
    heavy = {
        'imgaug',
        'numba',
        'mmdet.datasets.transforms',
        'mmdet.apis',
        'mmdet.engine',
    }
    assert not heavy & loaded
    assert 'OneDL' not in done.stdout  # what the libraries print while they are imported
