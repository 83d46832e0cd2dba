"""Our classes in the registries of the OpenMMLab libraries, whatever is imported first."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def registering_modules() -> set[str]:
    """Every module with a `@REGISTRY.register_module()`."""
    found = set()
    for path in (ROOT / 'pipeline').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            decorators = getattr(node, 'decorator_list', [])
            if any('.register_module(' in ast.unparse(d) for d in decorators):
                found.add('.'.join(path.relative_to(ROOT).with_suffix('').parts))
    return found


FROM_CONFIG = """
from mmengine.config import Config
Config.fromstring("custom_imports = dict(imports=['{}'])", '.py')
"""
OUR_NAMES = """
from mmpose.registry import DATASETS, KEYPOINT_CODECS, METRICS, MODELS, TRANSFORMS
assert MODELS.get('PMPoseHead').__module__ == 'pipeline.poses.pmpose_head'
assert MODELS.get('HeatmapHead').__module__.startswith('mmpose.')
assert TRANSFORMS.get('TopdownAffine').__module__.startswith('mmpose.')
assert TRANSFORMS.get('MaskBackground') and KEYPOINT_CODECS.get('OKSArgMaxHeatmap')
assert METRICS.get('BmpCocoMetric') and DATASETS.get('CocoDataset')
from mmdet.registry import TRANSFORMS
assert TRANSFORMS.get('RemoveRandomInstances').__module__ == 'pipeline.datasets.transforms'
from mmengine.registry import HOOKS, OPTIM_WRAPPERS
assert HOOKS.get('ExportSamHook') and OPTIM_WRAPPERS.get('Bf16OptimWrapper')
"""
LIGHT = """
import sys
assert not {'torch', 'numpy', 'mmengine', 'mmcv', 'mmdet', 'mmpose'} & set(sys.modules)
"""
ONE_MODULE = """
from mmpose.registry import MODELS, TRANSFORMS
assert MODELS.get('PMPoseHead') and MODELS.get('HeatmapHead')
assert 'pipeline.registry' not in sys.modules
"""
EVERY_MODULE = """
from pipeline.registry import MODULES
print(*MODULES)
"""
CASES = {
    'ours alone': ['import pipeline', LIGHT],
    'MMEngine, config, MMPose': [FROM_CONFIG.format('pipeline'), OUR_NAMES, EVERY_MODULE],
    'MMPose, ours': ['import mmpose.models, mmpose.datasets, pipeline', OUR_NAMES],
    'ours, config': ['import pipeline', FROM_CONFIG.format('pipeline.registry'), OUR_NAMES],
    'ours, one module': [
        'import sys, pipeline',
        FROM_CONFIG.format('pipeline.poses.pmpose_head'),
        ONE_MODULE,
    ],
}


@pytest.mark.parametrize('name', CASES)
def test_a_config_finds_our_classes(name: str) -> None:
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', '\n'.join(CASES[name])],
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if EVERY_MODULE in CASES[name]:
        assert set(done.stdout.splitlines()[-1].split()) == registering_modules()
