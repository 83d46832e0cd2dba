"""Loading a pipeline imports what it runs on, and not what serves training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAX_LINES = 9600  # of ours, a ceiling to lower; the goal is 7,500


def test_a_run_imports_little_of_ours_and_nothing_of_the_training_side() -> None:
    done = subprocess.run(
        [sys.executable, '-m', 'tests.imported_lines'],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines, libraries = done.stdout.splitlines()[-2:]
    assert int(lines.split()[0]) <= MAX_LINES, lines
    loaded = set(libraries.split())
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


LEAN = """
import sys
from pipeline import load_pipeline
from pipeline.lean_imports import for_inference
with for_inference():
    load_pipeline('bmp_compact', {'runtime.device': 'cpu'})
    heavy = {'mmpretrain', 'torchvision', 'torch._dynamo', 'torch.distributed.optim',
             'torch.distributed.fsdp', 'sympy'}
    print(*({'mmdet.models', *heavy} & set(sys.modules)))
    import mmpretrain.models
from mmpretrain.registry import MODELS
print(MODELS.get('VisionTransformer').__name__)
from torch.distributed.optim import ZeroRedundancyOptimizer
print(ZeroRedundancyOptimizer.__name__)
from torch.distributed.fsdp import FullyShardedDataParallel
print(FullyShardedDataParallel.__name__)
from mmengine.model.wrappers import MMFullyShardedDataParallel
try:
    MMFullyShardedDataParallel()
except RuntimeError as error:
    print(str(error).split(' was left out')[0])
"""


def test_what_no_stage_uses_is_kept_from_those_who_can_do_without() -> None:
    done = subprocess.run(
        [sys.executable, '-c', LEAN], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = ['VisionTransformer', 'ZeroRedundancyOptimizer', 'FullyShardedDataParallel']
    assert done.stdout.split() == ['mmdet.models', *names, 'MMFullyShardedDataParallel']
