"""From missing weights, over the download, to a prediction.

A small pipeline replaces ``bmp_v2``: it has the same names of weights, but compact models.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import torch

from pipeline import load_pipeline
from pipeline.cli import download_checkpoints
from pipeline.cli import run as run_bmp
from pipeline.config import CONFIG_FOLDER, ConfigError, load_config
from pipeline.weights.checkpoints import find_weights
from pipeline.weights.manifest import CheckpointError
from tests.commands import exit_code
from tests.web_server import Site, serve

ROOT = Path(__file__).resolve().parents[2]
# Weights of the pipeline -> embedded weights that the test serves instead.
STAND_INS = {
    'rtmdet-ins-l-mask.pth': 'rtmdet-ins_compact',
    'PMPose-b-1.0.0.pth': 'vitpose_compact',
    'SAM-pose2seg_hiera_b+.pt': 'sam2.1_cspnext_compact',
}
SMALL = """
_base_ = '{base}'
detector = dict(config='compact/rtmdet-ins_compact.py')
pose = dict(config='compact/vitpose_compact.py')
segmenter = dict(config='compact/sam2.1_cspnext_compact.yaml')
loop = dict(max_rounds=1)
runtime = dict(device='cpu')
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direct: None) -> Path:
    """An empty folder of downloads without network."""
    for name in ('HTTPS_PROXY', 'https_proxy'):
        monkeypatch.setenv(name, 'http://127.0.0.1:9')
    monkeypatch.setenv('BMP_CHECKPOINTS', str(tmp_path / 'weights'))
    return tmp_path / 'weights'


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / 'small_v2.py'
    path.write_text(SMALL.format(base=CONFIG_FOLDER / 'bmp_v2.py'))
    return path


@pytest.fixture
def image_path() -> str:
    import skimage

    return str(Path(skimage.__file__).parent / 'data' / 'astronaut.png')


def stand_ins(**more: Any) -> dict[str, bytes]:
    """Embedded files under the names of the released ones; ``more`` are weights of the pose."""
    files = {}
    for file, name in STAND_INS.items():
        content = torch.load(find_weights(name).path, weights_only=True)
        content.get('state_dict', content.get('model')).update(more if 'PMPose' in file else {})
        buffer = io.BytesIO()
        torch.save(content, buffer)
        files[file] = buffer.getvalue()
    return files


def test_missing_weights_are_listed_before_heavy_imports(folder: Path) -> None:
    code = (
        f'import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tools")!r}]\n'
        'from pipeline.cli import run as run_bmp\n'
        f'code = run_bmp.main([sys.argv[1], "--config", "bmp_v2", "--out-dir", sys.argv[2]])\n'
        'assert not {"torch", "mmdet", "mmpose", "sam2"} & set(sys.modules)\n'
        'sys.exit(code)'
    )
    image_path = folder.parent / 'x.jpg'
    image_path.write_bytes(b'never read')
    arguments = [sys.executable, '-c', code, str(image_path), str(folder.parent / 'out')]
    run = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stderr
    assert 'Traceback' not in run.stderr
    assert '3 weights are missing (sizes not published)' in run.stderr
    hub = 'https://huggingface.co/vrg-prague/BBoxMaskPose/resolve/main'
    paths = 'rtmdet-ins-l-mask.pth', 'PMPose/PMPose-b-1.0.0.pth', 'SAM-pose2seg_hiera_b%2B.pt'
    for path, file in zip(paths, STAND_INS, strict=True):
        assert f'from {hub}/{path}\n    to   {folder / file}\n' in run.stderr
    assert 'Download: python tools/download_checkpoints.py --pipeline bmp_v2\n' in run.stderr


def test_from_missing_weights_to_people(
    folder: Path,
    small: Path,
    image_path: str,
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / 'out'
    command = [image_path, '--config', str(small), '--out-dir', str(out), '--save', 'json']
    assert exit_code(run_bmp.main, *command) == 1
    error = capsys.readouterr().err
    assert f'download_checkpoints.py --pipeline {small}' in error
    # The command has weights of overrides too, which are not in the config.
    options = ['--cfg-options', 'detector.checkpoint=rtmdet-ins_l_coco']
    assert exit_code(run_bmp.main, *command, *options) == 1
    error = capsys.readouterr().err
    assert 'download_checkpoints.py rtmdet-ins_l_coco PMPose-b-1.0.0' in error

    # The released pose model has an unused branch, which the manifest ignores.
    extra = {'head.error_layers.0.weight': torch.ones(3)}
    monkeypatch.setenv('BMP_MIRROR', site.url)
    for file, content in stand_ins(**extra).items():
        site.answers[f'/{quote(file)}'] = [serve(content)]
    fetch = ['--pipeline', str(small)]
    assert download_checkpoints.main(fetch) == 0
    assert run_bmp.main(command) == 0
    record = json.loads((out / 'predictions' / 'astronaut.json').read_text())
    assert record['people']

    target = folder / 'PMPose-b-1.0.0.pth'
    target.write_bytes(target.read_bytes()[:-1000])
    assert exit_code(run_bmp.main, *command) == 1
    assert 'download_checkpoints.py PMPose-b-1.0.0 --force' in capsys.readouterr().err


def test_keys_that_do_not_fit_are_an_error_unless_the_config_ignores_them(
    folder: Path, small: Path
) -> None:
    folder.mkdir()
    more = {'head.error_layers.0.weight': torch.ones(3), 'head.new': torch.ones(1)}
    for file, content in stand_ins(**more).items():
        (folder / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=r'does not fit the config: unexpected: head\.new$'):
        load_pipeline(small)
    assert load_pipeline(small, {'pose.ignorable': ['head.new']}).weights.keys() == {
        'rtmdet-ins-l-mask', 'PMPose-b-1.0.0', 'SAM-pose2seg_hiera_b+',
    }  # fmt: skip


@pytest.mark.parametrize('stage', ['detector', 'pose', 'segmenter'])
def test_ignorable_is_a_setting_of_every_stage(stage: str) -> None:
    settings = load_config('bmp_v2', {f'{stage}.ignorable': ['a.', 'b.']}).settings
    assert getattr(settings, stage).ignorable == ('a.', 'b.')
    for wrong in ('a.', [1]):
        with pytest.raises(ConfigError, match=rf'{stage}\.ignorable must be a list of texts, got'):
            load_config('bmp_v2', {f'{stage}.ignorable': wrong})
