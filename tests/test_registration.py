"""Our parts reach the registries of the libraries, whatever is imported first."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.registration import PARTS, FollowingFinder

ROOT = Path(__file__).parents[1]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A library `toylib` with `registry` and `models`, and a package `toyparts` made for it."""
    files = {
        'toylib/__init__.py': '',
        'toylib/registry.py': 'NAMES = []',
        'toylib/models.py': 'from toylib.registry import NAMES\nNAMES.append("stock")',
        'toyparts/__init__.py': '',
        'toyparts/head.py': 'from toylib.models import NAMES\nNAMES.append("ours")',
        'toyparts/broken.py': 'raise RuntimeError("broken part")',
        'toyparts/base.py': 'import toylib.models\nBASE = 1',
        'toyparts/derived.py': 'from toyparts.base import BASE',
        'toylib/heads.py': 'import toylib.models\nHEAD = 1',
        'toyparts/with_head.py': 'from toylib.heads import HEAD',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.meta_path)
    yield tmp_path
    sys.meta_path[:] = before
    for name in [name for name in sys.modules if name.startswith(('toylib', 'toyparts'))]:
        del sys.modules[name]


def names_in_toylib() -> list[str]:
    return list(importlib.import_module('toylib.registry').NAMES)


def test_parts_follow_a_library_that_comes_later(toy: Path) -> None:
    finder = FollowingFinder({'toylib.models': ['toyparts.head']})
    finder.start()
    assert 'toylib' not in sys.modules
    importlib.import_module('toylib.registry')
    assert 'toyparts.head' not in sys.modules
    importlib.import_module('toylib.models')
    assert names_in_toylib() == ['stock', 'ours']


def test_parts_follow_a_library_that_is_there_at_once(toy: Path) -> None:
    importlib.import_module('toylib.models')
    finder = FollowingFinder({'toylib.models': ['toyparts.head']})
    finder.start()
    finder.start()
    assert names_in_toylib() == ['stock', 'ours']
    assert finder not in sys.meta_path


def test_a_part_that_is_imported_first_is_registered_once(toy: Path) -> None:
    FollowingFinder({'toylib.models': ['toyparts.head']}).start()
    importlib.import_module('toyparts.head')
    assert names_in_toylib() == ['stock', 'ours']


def test_parts_that_need_each_other_wait_for_the_one_that_comes_first(toy: Path) -> None:
    FollowingFinder({'toylib.models': ['toyparts.derived', 'toyparts.base']}).start()
    importlib.import_module('toyparts.base')
    assert 'toyparts.derived' in sys.modules


def test_parts_do_not_follow_into_a_library_that_is_half_there(toy: Path) -> None:
    FollowingFinder({'toylib.models': ['toyparts.with_head'], 'toylib.heads': []}).start()
    importlib.import_module('toylib.heads')
    assert 'toyparts.with_head' in sys.modules


def test_looking_for_a_library_does_not_import_anything(toy: Path) -> None:
    finder = FollowingFinder({'toylib.models': ['toyparts.head'], 'no_such_lib': ['toyparts.head']})
    finder.start()
    assert importlib.util.find_spec('toylib.models') is not None
    assert importlib.util.find_spec('no_such_lib') is None
    assert 'toyparts.head' not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module('no_such_lib')
    importlib.import_module('toylib.models')
    assert names_in_toylib() == ['stock', 'ours']


def test_the_module_keeps_its_own_loader_and_the_finder_goes(toy: Path) -> None:
    finder = FollowingFinder({'toylib.models': ['toyparts.head']})
    finder.start()
    assert finder in sys.meta_path
    module = importlib.import_module('toylib.models')
    plain = importlib.import_module('toylib.registry')
    assert type(module.__loader__) is type(plain.__loader__)
    assert module.__spec__ is not None and module.__spec__.loader is module.__loader__
    assert finder not in sys.meta_path


def test_a_part_that_fails_is_no_silent_loss(toy: Path) -> None:
    FollowingFinder({'toylib.models': ['toyparts.broken']}).start()
    for _ in range(2):
        with pytest.raises(RuntimeError, match='broken part'):
            importlib.import_module('toylib.models')


def registrations() -> Iterator[tuple[str, str]]:
    """(module of ours, library) for every module with a `@REGISTRY.register_module()`."""
    for path in (ROOT / 'pipeline').rglob('*.py'):
        tree = ast.parse(path.read_text())
        decorators = [
            ast.unparse(d)
            for node in ast.walk(tree)
            if isinstance(node, (ast.ClassDef, ast.FunctionDef))
            for d in node.decorator_list
        ]
        if any('.register_module(' in text for text in decorators):
            (library,) = {
                node.module.split('.')[0]
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and (node.module or '').endswith('.registry')
            }
            yield '.'.join(path.relative_to(ROOT).with_suffix('').parts), library


def test_every_part_is_in_the_table() -> None:
    table = {(part, name.split('.')[0]) for name, parts in PARTS.items() for part in parts}
    assert table == set(registrations())


CUSTOM_IMPORTS = """
from mmengine.config import Config
Config.fromstring("custom_imports = dict(imports=['pipeline'])", '.py')
"""
POSE_NAMES = """
from mmpose.registry import KEYPOINT_CODECS, METRICS, MODELS, TRANSFORMS
for registry, names in (
    (MODELS, ['ConvStemViT', 'PMPoseHead', 'OKSHeatmapLoss', 'HeatmapHead']),
    (TRANSFORMS, ['LoadPersonMask', 'MaskBackground', 'RandomEdgesBlackout']),
    (KEYPOINT_CODECS, ['OKSArgMaxHeatmap']),
    (METRICS, ['BmpCocoMetric']),
):
    for name in names:
        assert registry.get(name).__name__ == name
"""
DET_NAMES = """
import sys
from mmdet.registry import MODELS, TRANSFORMS
assert MODELS.get('RTMDetInsPartialMaskHead').__module__ == 'pipeline.detectors.rtmdet_ins_partial'
assert TRANSFORMS.get('RemoveRandomInstances').__module__ == 'pipeline.datasets.transforms'
"""
WITHOUT_MMPOSE = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'mmpose':
            raise ModuleNotFoundError('blocked', name=name)
sys.meta_path.insert(0, Blocker())
"""
LIGHT = """
import sys
assert not {'torch', 'numpy', 'mmengine', 'mmcv', 'mmdet', 'mmpose'} & set(sys.modules)
"""
NO_DET = "import sys\nassert not {'mmdet.models', 'pipeline.detectors'} & set(sys.modules)"
NO_POSE = "import sys\nassert not {'mmpose', 'pipeline.poses'} & set(sys.modules)"
MMENGINE_NAMES = """
import mmengine.runner, sys
from mmengine.registry import HOOKS, OPTIM_WRAPPERS
assert HOOKS.get('TimeBudgetHook') and HOOKS.get('PlainWeightsHook')
assert OPTIM_WRAPPERS.get('CpuBf16OptimWrapper')
assert not {'mmdet', 'mmpose'} & set(sys.modules)
"""


def case(name: str, *lines: str, slow: bool = False) -> Any:
    return pytest.param('\n'.join(lines), id=name, marks=[pytest.mark.slow] if slow else [])


CASES = [
    case('ours alone', 'import pipeline', LIGHT),
    case('ours, MMPose', 'import pipeline', POSE_NAMES, NO_DET),
    case('MMPose, ours', 'import mmpose.models, mmpose.datasets, pipeline', POSE_NAMES),
    case('MMEngine, config, MMPose', CUSTOM_IMPORTS, POSE_NAMES, slow=True),
    case(
        'registry of MMPose, config',
        'import mmpose.registry',
        CUSTOM_IMPORTS,
        POSE_NAMES,
        slow=True,
    ),
    case('ours, MMPose, config', 'import pipeline, mmpose.apis', CUSTOM_IMPORTS, POSE_NAMES),
    case('single modules of ours', 'import pipeline.poses.pmpose_head', POSE_NAMES),
    case(
        'ours twice',
        'import importlib, pipeline; importlib.reload(pipeline)',
        POSE_NAMES,
        slow=True,
    ),
    case('MMDetection alone', CUSTOM_IMPORTS, DET_NAMES, NO_POSE, slow=True),
    case(
        'no MMPose installed',
        WITHOUT_MMPOSE,
        'import pipeline',
        DET_NAMES,
        'pipeline.load_pipeline',
    ),
    case('MMEngine alone', CUSTOM_IMPORTS, MMENGINE_NAMES),
]


@pytest.mark.parametrize('program', CASES)
def test_order_of_imports_does_not_matter(program: str) -> None:
    if program.count('mm') > LIGHT.count('mm') and importlib.util.find_spec('mmpose') is None:
        pytest.skip('MMPose is not installed')
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', program],
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
