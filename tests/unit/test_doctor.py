"""Known problems of an installation, simulated."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import doctor
from pipeline.doctor import LIBRARIES, CheckResult, Probe
from pipeline.weights import manifest

ROOT = Path(__file__).resolve().parents[2]
PINS = {
    'torch': '==2.12.1',
    'torchvision': '==0.27.1',
    'onedl-mmcv': '==2.3.6',
    'opencv-python-headless': '==4.12.0.88',
    'xtcocotools': '==1.14.3',
}


def library(name: str, error: str = '', output: str = '', **values: object) -> CheckResult:
    (found,) = [library for library in LIBRARIES if library.name == name]
    return doctor.check_library(found, Probe(error, values, output), PINS)


def gpu(
    driver: str | None, cuda: str | None, sees_gpu: bool, mmcv: str = 'for 13.0'
) -> CheckResult:
    torch = Probe('', {'cuda': cuda, 'gpu': sees_gpu})
    return doctor.check_gpu(torch, Probe('', {'operators': mmcv}), driver)


def twins(**installed: str) -> CheckResult:
    return doctor.check_twins({k.replace('_', '-'): v for k, v in installed.items()}, PINS)[0]


def versions(torch: str, expected: str) -> CheckResult:
    return doctor.check_versions({'torch': torch}, {'torch': expected})


CASES = {
    'supported python': (doctor.check_python((3, 10)), 'OK', ''),
    'python too old': (doctor.check_python((3, 9)), 'FAIL', 'PYTHON=python3.11'),
    'python too new': (doctor.check_python((3, 13)), 'FAIL', 'PYTHON=python3.11'),
    'torch works': (library('torch', version='2.12.1', cuda='13.0'), 'OK', ''),
    'a clone of sam2 hides the package': (
        library('sam2', 'exit code 1', 'from the parent directory of the sam2 repository'),
        'FAIL',
        'sam2',
    ),
    'two builds of OpenCV': (
        twins(opencv_python='4', opencv_python_headless='4'),
        'WARN',
        'uninstall -y opencv-python-headless opencv-python && ',
    ),
    'two versions of OpenCV': (twins(opencv_python='5', opencv_contrib_python='4'), 'FAIL', '&&'),
    'both mmcv': (twins(mmcv='2.2', onedl_mmcv='2.3'), 'FAIL', 'uninstall -y onedl-mmcv mmcv && '),
    'pins met': (versions('2.12.1+cpu', '==2.12.1'), 'OK', ''),
    'pin not met': (versions('2', '==2.12.1'), 'WARN', 'make repair'),
    'in the range': (versions('2.12.1+cpu', '<2.15,>=2.10'), 'OK', ''),
    'below the range': (versions('2.9', '<2.15,>=2.10'), 'WARN', 'make repair'),
    'nothing to compare with': (doctor.check_versions({}, {}), 'WARN', 'make repair'),
    'configs in the checkout': (doctor.check_configs(ROOT), 'OK', ''),
    'no driver': (gpu(None, '13.0', False), 'OK', ''),
    'CUDA 13, old driver': (gpu('550.54.15', '13.0', False), 'WARN', 'R580'),
    'CPU build of torch': (gpu('580.65.06', None, False), 'WARN', '--gpus all'),
    'mmcv for the CPU': (gpu('580.65', '13.0', True, 'for the CPU'), 'WARN', 'FORCE_CUDA=1'),
    'GPU works': (gpu('580.65.06', '13.0', True), 'OK', ''),
}
BROKEN = [
    ('torch', "No module named 'torch'", 'make repair'),
    ('torchvision', 'operator torchvision::nms does not exist',
     'torch==2.12.1 torchvision==0.27.1'),
    ('torchvision', "No module named 'torch'", 'make repair'),
    ('mmcv', "ModuleNotFoundError: No module named 'mmcv._ext'",
     '--no-cache-dir --no-binary xtcocotools onedl-mmcv==2.3.6'),
    ('mmcv', 'ImportError: _ext.so: undefined symbol: _ZN3c1011StorageImpl', '--no-cache-dir'),
    ('mmcv', "No module named 'mmcv'", 'make repair'),
    ('mmcv', 'the interpreter crashed with signal 11', '--no-cache-dir'),
    ('opencv', 'libGL.so.1: cannot open shared object', 'opencv-python-headless==4.12.0.88'),
    ('xtcocotools', 'ValueError: numpy.dtype size changed, may indicate binary...',
     '--no-binary xtcocotools xtcocotools==1.14.3'),
]  # fmt: skip


@pytest.mark.parametrize(('name', 'error', 'hint'), BROKEN)
def test_broken_libraries(name: str, error: str, hint: str) -> None:
    result = library(name, error)
    assert result.status == 'FAIL' and hint in result.hint


@pytest.mark.parametrize(('result', 'status', 'hint'), CASES.values(), ids=CASES)
def test_known_problems(result: CheckResult, status: str, hint: str) -> None:
    assert result.status == status, result
    assert hint in result.hint
    assert bool(result.hint) == (status != 'OK')


@pytest.mark.parametrize(
    ('code', 'error', 'values'),
    [
        ('report(a=1)\nreport(b=None)', '', {'a': 1, 'b': None}),
        ('report(a=1)\nimport no_such_module_', "No module named 'no_such_module_'", {'a': 1}),
        ('import sys\nsys.exit(3)', 'exit code 3', {}),
        ('import os\nos.abort()', 'crashed with signal 6', {}),
    ],
    ids=['values', 'values before an error', 'silent exit', 'crash'],
)
def test_run_probe(code: str, error: str, values: dict[str, object]) -> None:
    found = doctor.run_probe(code)
    assert error in found.error
    assert bool(error) == bool(found.error)
    assert found.values == values


def test_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('BMP_CHECKPOINTS', str(tmp_path))
    assert doctor.check_weights().status == 'OK'  # those of the repository
    (tmp_path / 'PMPose-b-1.0.0.pth').write_bytes(b'<html>')
    result = doctor.check_weights()
    assert result.status == 'FAIL' and 'PMPose-b-1.0.0.pth (it is a web page' in result.detail
    monkeypatch.setattr(manifest, 'FOLDER', tmp_path)  # of the embedded files
    (tmp_path / 'PMPose-b-1.0.0.pth').unlink()
    result = doctor.check_weights()
    assert result.status == 'FAIL' and 'vitpose_compact.pth (absent)' in result.detail
    (tmp_path / 'manifest.json').write_text('{')
    monkeypatch.setattr(manifest, 'MANIFEST', tmp_path / 'manifest.json')
    assert 'not valid JSON' in doctor.check_weights().detail


def test_ranges_are_those_of_setup_cfg() -> None:
    ranges = doctor.read_ranges()
    assert ranges['mmpose'] == '<1.4,>=1.3.2' and 'pytest' not in ranges
    assert 'huggingface-hub' in ranges  # as pip writes the name


@pytest.mark.parametrize('name', ['pipeline.py', 'pipeline/__init__.py'])
def test_a_file_that_hides_the_package_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('raise AssertionError("not to be run")')
    result = doctor.check_configs(tmp_path)
    assert result.status == 'WARN' and str(tmp_path / name) in result.detail and result.hint


def test_all_checks_survive_an_empty_environment() -> None:
    results = doctor.diagnose(lambda code: Probe("ModuleNotFoundError: No module named 'torch'"))
    assert {x.name for x in LIBRARIES} <= {x.name for x in results if x.status == 'FAIL'}


@pytest.mark.parametrize(('status', 'code'), [('OK', 0), ('WARN', 0), ('FAIL', 1)])
def test_exit_code_and_json(
    status: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hint = '' if status == 'OK' else 'do this'
    monkeypatch.setattr(doctor, 'diagnose', lambda: [CheckResult('torch', status, 'detail', hint)])
    assert doctor.main(['--json']) == code
    assert json.loads(capsys.readouterr().out)[0]['status'] == status
    assert doctor.main([]) == code
    assert ('hint: do this' in capsys.readouterr().out) == (status != 'OK')


def test_it_needs_the_standard_library_only() -> None:
    code = f'import sys; sys.path.insert(0, {str(ROOT)!r}); import pipeline.doctor'
    subprocess.run([sys.executable, '-I', '-S', '-c', code], check=True)
