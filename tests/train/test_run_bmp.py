"""The command line with a fake pipeline and with the embedded models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from pipeline.cli import run as run_bmp
from pipeline.io import fetch
from pipeline.io.run_options import OUTPUTS
from tests.commands import exit_code
from tests.run_fakes import FakePipeline, save_image
from tests.web_server import running_site, serve, status

pytestmark = pytest.mark.usefixtures('plain_drawing')

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'run_bmp.py'


# Command line


@pytest.fixture
def fake_models(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace the pipeline of the command by a fake."""
    seen: list[Any] = []

    def load(config: str, cfg_options: Any) -> FakePipeline:
        seen.append((config, cfg_options))
        return FakePipeline()

    monkeypatch.setattr(run_bmp, 'load', load)
    return seen


def command(*arguments: object) -> int:
    return exit_code(run_bmp.main, *arguments)


def test_boxes_and_ids(image_folder: Path, tmp_path: Path, fake_models: list[Any]) -> None:
    boxes = tmp_path / 'boxes.json'
    boxes.write_text(json.dumps({'a/1.jpg': [[1, 1, 9, 9]]}))
    ids = tmp_path / 'ids.json'
    ids.write_text(json.dumps({'images': [{'id': 5, 'file_name': 'a/1.jpg'}]}))
    out = tmp_path / 'out'
    files = ('--boxes', boxes, '--coco-ids', ids, '--out-dir', out)
    assert command(image_folder, *files, '--save', 'coco') == 0
    info = json.loads((out / 'run.json').read_text())
    assert (info['computed'], info['people']) == (4, 10)
    rows = json.loads((out / 'coco_results.json').read_text())
    assert [r['image_id'] for r in rows] == [5]


def test_no_image_loads_no_models(tmp_path: Path, fake_models: list[Any]) -> None:
    (tmp_path / 'empty').mkdir()
    assert command(tmp_path / 'empty', '--out-dir', tmp_path / 'out') == 1
    assert fake_models == []
    (failure,) = json.loads((tmp_path / 'out' / 'failures.json').read_text())
    assert 'no image in this directory' in failure['message']


def test_results_are_excluded_from_the_inputs(image_folder: Path, fake_models: list[Any]) -> None:
    out = image_folder / 'out'
    for resumed in (0, 4):
        assert command(image_folder, '--out-dir', out, '--save', 'overlay', 'masks') == 0
        info = json.loads((out / 'run.json').read_text())
        assert (info['photos'], info['resumed']) == (4, resumed)


def test_main(
    image_folder: Path, tmp_path: Path, fake_models: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(image_folder), '--out-dir', str(tmp_path / 'out'), '--save', 'csv', 'masks']
    settings = ['--device', 'cpu', '--precision', 'bf16', '--max-rounds', 'none', '--no-refine']
    assert run_bmp.main([*arguments, *settings]) == 0
    assert fake_models == [
        ('bmp_compact', {
            'loop.max_rounds': None, 'runtime.device': 'cpu', 'runtime.precision': 'bf16',
            'loop.refine': False,
        }),
    ]  # fmt: skip
    printed = capsys.readouterr().out
    for word in ('4 images: 12 people', 'detect', 'read', 'write', 'total', 'results: '):
        assert word in printed
    info = json.loads((tmp_path / 'out' / 'run.json').read_text())
    assert info['command'] == ['bmp', 'run', *arguments, *settings]
    (image_folder / 'bad.jpg').write_text('x')
    assert run_bmp.main(arguments) == 1
    printed = capsys.readouterr().out
    assert '1 input failed' in printed and '0 computed, 4 done before' in printed


def test_defaults_leave_the_config_alone(
    image_folder: Path, tmp_path: Path, fake_models: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_bmp.main([str(image_folder)]) == 0
    assert fake_models == [('bmp_compact', {})]
    top = set(os.listdir(tmp_path / 'outputs' / 'bmp_compact'))
    assert {'predictions', 'visualizations', 'coco_results.json', 'coco_images.json'} <= top
    assert not top & {'masks', 'people.csv', 'mmpose'}


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [
        ([], 'at least one INPUT'),
        (['x', '--save', 'pdf'], "'pdf'"),
        (['x', '--precision', 'int8'], "'int8'"),
        (['x', '--max-rounds', '0'], 'not an integer >= 1'),
        (['x', '--max-rounds', 'many'], 'not an integer >= 1'),
        (['--cfg-options', 'a=1', 'photos'], 'put inputs before options'),
        (['x', '--unknown'], '--unknown'),
        (['x', '--conf', 'a.py'], '--conf'),
        (['x', '--min-score', 'low'], "'low' is not a number in [0, 1] or none"),
        (['x', '--labels', 'name'], "'name'"),
        (['x', '--layers', 'mask'], "'mask'"),
        (['nope.jpg'], 'nope.jpg: no such file'),
        (['nomatch/*.jpg'], 'nomatch/*.jpg: no file matches this pattern'),
        (['@nope.txt'], 'nope.txt: no such file'),
        ([''], "'' is no path"),
        (['~no-such-user/a.jpg'], 'there is no such user'),
        (['clip.MP4'], 'clip.MP4: no such file'),
        (['--frames', 'nope'], 'nope: no such file'),
        (['--videos', 'nope.gif'], 'nope.gif: no such file'),
        ([str(TOOL), '--videos', '--end', '0'], 'end=0.0 must be more than start=0.0'),
        ([str(TOOL), '--videos', '--stride', '0'], 'not an integer >= 1'),
        ([str(TOOL), '--videos', '--start', '1:x'], "invalid parse_time value: '1:x'"),
        ([str(TOOL), '--videos', '--fps', '0'], 'fps=0.0 must be positive'),
        (['ftp://host/a.jpg'], 'not an http or https URL'),
    ],
)
def test_wrong_arguments(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*arguments) == 2
    assert reason in capsys.readouterr().err


def test_inputs_from_the_web_and_stdin(
    tmp_path: Path, fake_models: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = save_image(tmp_path / 'in' / 'img.png', 77).read_bytes()
    monkeypatch.setattr(sys, 'stdin', TextIOWrapper(BytesIO(data)))
    out = tmp_path / 'out'
    with running_site() as site:
        site.answers |= {'/a/img.png': [serve(data)], '/empty': [status(200)]}
        urls = [f'{site.url}/{path}' for path in ('a/img.png', 'none.jpg', 'empty')]
        assert command(tmp_path / 'in', '-', *urls, '--out-dir', out, '--save', 'coco') == 1
    failures = json.loads((out / 'failures.json').read_text())
    reasons = [f['message'].partition(': ')[2] for f in failures]
    assert 'cannot be downloaded (HTTP Error 404' in reasons[0] and 'no bytes' in reasons[1]
    names = [i['file_name'] for i in json.loads((out / 'coco_images.json').read_text())['images']]
    assert len(names) == 3 and sum(name.endswith('img.png') for name in names) == 2
    monkeypatch.setattr(sys, 'stdin', StringIO(str(tmp_path / 'in' / 'img.png')))
    assert command('@-', '--out-dir', tmp_path / 'list') == 0
    monkeypatch.setattr(fetch, 'MAX_BYTES', 50)
    monkeypatch.setattr(sys, 'stdin', TextIOWrapper(BytesIO(data)))
    assert command('-', '--out-dir', out) == 1
    assert 'smaller image' in (out / 'failures.json').read_text()


def test_folder_that_cannot_be_written(
    image_folder: Path, fake_models: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ['--demo']):
        assert command(image_folder, '--out-dir', image_folder / '1.jpg' / 'out', *more) == 1
        assert 'bmp run: error: ' in capsys.readouterr().err


@pytest.mark.parametrize('option', ['--boxes', '--coco-ids'])
def test_wrong_files(
    option: str, image_folder: Path, fake_models: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out = ['--out-dir', str(image_folder.parent / 'out')]
    assert command(image_folder, option, image_folder / 'none.json', *out) == 2
    assert 'none.json: cannot be read' in capsys.readouterr().err
    assert fake_models == []


def test_help_is_fast() -> None:
    """The help imports no heavy library."""
    code = (
        'import sys; sys.argv = ["run_bmp.py", "--help"]\n'
        'import runpy\n'
        f'try: runpy.run_path({str(TOOL)!r}, run_name="__main__")\n'
        'except SystemExit as end: assert end.code == 0\n'
        'heavy = {"torch", "cv2", "mmengine", "mmdet", "mmpose", "rich"}\n'
        'assert not heavy & set(sys.modules), heavy & set(sys.modules)\n'
    )
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert '--save' in run.stdout


def test_the_embedded_models_run_on_the_demo_images(tmp_path: Path) -> None:
    out = tmp_path / 'out'
    options = ['--demo', '--out-dir', str(out), '--device', 'cpu', '--save', *OUTPUTS]
    command = [sys.executable, str(TOOL), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    info = json.loads((out / 'run.json').read_text())
    assert (info['photos'], info['computed'], info['failed']) == (3, 3, 0)
    assert info['people'] > 0 and len(info['weights_sha256']) == 3
    assert {'read', 'detect', 'pose', 'segment', 'write'} <= set(info['seconds'])
    images = {'grace_hopper', 'astronaut', 'synthetic_crowd'}
    assert {p.name.removesuffix('.json') for p in (out / 'predictions').iterdir()} == images
    record = json.loads((out / 'predictions' / 'astronaut.json').read_text())
    with PIL.Image.open(out / 'visualizations' / 'astronaut.jpg') as drawn:
        assert drawn.size == (record['image']['width'], record['image']['height'])
