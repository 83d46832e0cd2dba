"""The installed wheel: Python, the command line, configs of a user, MMPose, the doctor."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest
from skimage.io import imsave

from pipeline.synthetic.scene import make_demo_scene

ROOT = Path(__file__).parents[2]
SOURCES = (
    'pipeline', 'configs', 'checkpoints', 'bmp_command.py', 'setup.py', 'setup.cfg',
    'pyproject.toml', 'README.md', 'LICENSE',
)  # fmt: skip
FILES = {
    'my_pipeline.py': """
_base_ = __import__('pipeline').locate_file('configs/bmp_compact.py')
loop = dict(max_rounds=1)
""",
    'my_pose.py': """
_base_ = __import__('pipeline').locate_file('configs/compact/vitpose_compact.py')
custom_imports = dict(_delete_=True, imports=['pipeline'], allow_failed_imports=False)
""",
    'hidden/pipeline.py': 'raise AssertionError("not to be run")',
}
TRAINING = 'configs/pose2seg/sam2.1_cspnext_compact_practice.py'
PIP = (sys.executable, '-m', 'pip', '--disable-pip-version-check')
LOAD = """
import sys
import pipeline
assert pipeline.__file__.startswith(sys.prefix), pipeline.__file__
people = pipeline.load_pipeline('bmp_compact')('img.png')
assert len(people) > 0
mine = pipeline.load_pipeline('my_pipeline.py')
assert mine.settings.loop.max_rounds == 1 and mine.settings.pose.refine_boxes
"""
INFERENCER = """
from mmpose.apis import MMPoseInferencer
from mmpose.registry import MODELS
from pipeline import locate_file
infer = MMPoseInferencer(
    pose2d='my_pose.py', pose2d_weights=locate_file('checkpoints/vitpose_compact.pth'),
    det_model=locate_file('configs/compact/rtmdet-ins_compact.py'),
    det_weights=locate_file('checkpoints/rtmdet-ins_compact.pth'), det_cat_ids=[0], device='cpu',
)
(result,) = infer('img.png', bbox_thr=0.2)
assert len(result['predictions'][0][0]['keypoints']) == 17
assert MODELS.get('OKSHeatmapLoss')
"""
# Command, exit code, and a part of what it prints.
CASES = {
    'Python': (('python', '-c', LOAD), 0, ''),
    'MMPose': (('python', '-c', INFERENCER), 0, ''),
    'run': (('bmp', 'run', 'img.png', '--config', 'my_pipeline.py'), 0, 'outputs/my_pipeline'),
    'module': (('python', '-m', 'pipeline', 'score', '--help'), 0, 'usage: bmp score'),
    'train': (('bmp', 'train', TRAINING, '--check'), 2, 'data/practice/train/annotations.json'),
    'download': (
        ('bmp', 'run', 'img.png', '--config', 'bmp_v2'), 1, 'bmp download --pipeline bmp_v2',
    ),
}  # fmt: skip


def call(*command: object, cwd: Path, fails: int = 0, **variables: str) -> str:
    """Run a command that knows nothing of this checkout; returns what it prints."""
    kept = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'BMP_CHECKPOINTS')}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False,
        env=kept | {'OMP_NUM_THREADS': '1'} | variables,
    )  # fmt: skip
    assert done.returncode == fails, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution of a copy without build folders."""
    folder = tmp_path_factory.mktemp('build')
    ignored = shutil.ignore_patterns('__pycache__', 'downloads')
    (folder / 'source').mkdir()
    for path in (ROOT / name for name in SOURCES):
        if path.is_dir():
            shutil.copytree(path, folder / 'source' / path.name, ignore=ignored)
        else:
            shutil.copy(path, folder / 'source')
    build = 'from setuptools import build_meta; build_meta.build_sdist("..")'
    call(sys.executable, '-c', build, cwd=folder / 'source')
    (sdist,) = folder.glob('*.tar.gz')
    flags = ('--no-build-isolation', '--no-deps', '--no-index', '--no-cache-dir')
    call(*PIP, 'wheel', *flags, sdist, cwd=folder)
    (wheel,) = folder.glob('*.whl')
    return wheel


@pytest.fixture(scope='module')
def programs(wheel: Path) -> Path:
    """Folder of `python` and `bmp`: a new environment with the wheel, and the libraries of ours."""
    folder = wheel.parent / 'venv'
    venv.create(folder, symlinks=True)
    python = folder / 'bin' / 'python'
    ask = 'import sysconfig; print(sysconfig.get_path("purelib"))'
    packages = Path(call(python, '-c', ask, cwd=wheel.parent).strip())
    (packages / 'libraries.pth').write_text(sysconfig.get_path('purelib'))
    flags = ('--no-deps', '--no-index', '--ignore-installed')
    call(python, *PIP[1:], 'install', *flags, wheel, cwd=wheel.parent)
    return folder / 'bin'


@pytest.fixture(scope='module')
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('workplace')
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    imsave(folder / 'img.png', make_demo_scene().image)
    return folder


def test_the_wheel_has_every_config_and_the_embedded_weights(wheel: Path) -> None:
    names = set(ZipFile(wheel).namelist())
    for folder, suffixes in (
        ('configs', {'.py', '.yaml'}),
        ('checkpoints', {'.json', '.md', '.pt*'}),
    ):
        files = [path for suffix in suffixes for path in (ROOT / folder).glob(f'**/*{suffix}')]
        wanted = {f'pipeline/{f.relative_to(ROOT)}' for f in files if 'downloads' not in f.parts}
        assert len(wanted) > 3 and not wanted - names
    assert {'pipeline/py.typed', 'bmp_command.py'} <= names
    assert not {name for name in names if name.split('/')[0] in ('tests', 'tools', 'projects')}


@pytest.mark.parametrize('name', CASES)
def test_it_works_in_another_folder(name: str, programs: Path, workplace: Path) -> None:
    program, *arguments = CASES[name][0]
    printed = call(programs / program, *arguments, cwd=workplace, fails=CASES[name][1])
    assert CASES[name][2] in printed


def test_a_file_that_hides_the_package_is_named(programs: Path, workplace: Path) -> None:
    hiding = workplace / 'hidden'
    printed = call(programs / 'bmp', '--help', cwd=workplace, fails=1, PYTHONPATH=str(hiding))
    assert f'{hiding}/pipeline.py hides the package' in printed


def test_the_doctor_checks_the_installed_files(programs: Path, workplace: Path) -> None:
    printed = call(programs / 'bmp', 'doctor', cwd=workplace)
    for check in ('versions', 'configs', 'weights'):
        assert re.search(f'^OK +{check}', printed, re.MULTILINE), printed
    assert str(programs.parent) in printed
