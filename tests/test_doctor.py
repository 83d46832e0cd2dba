"""Every trap is simulated with invented facts; the real environment stays as it is."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.doctor import CheckResult, diagnose, facts, machine, packages
from pipeline.doctor import __main__ as command_line

ROOT = Path(__file__).resolve().parent.parent
PINS = {
    'torch': '2.12.1',
    'torchvision': '0.27.1',
    'onedl-mmcv': '2.3.6',
    'opencv-python-headless': '4.12.0.88',
    'xtcocotools': '1.14.3',
}
MISSING = facts.Probe("ModuleNotFoundError: No module named 'torch'")


def probe(error: str = '', output: str = '', **values: object) -> facts.Probe:
    return facts.Probe(error, values, output)


def versions(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, '1.0')


def check_mmcv(found: facts.Probe, gpu: bool = False) -> CheckResult:
    return packages.check_mmcv_ops(found, gpu, PINS)


CASES = [
    ('supported python', packages.check_python((3, 10)), 'OK', ''),
    ('python too old', packages.check_python((3, 9)), 'FAIL', 'PYTHON=python3.11'),
    ('python too new', packages.check_python((3, 13)), 'FAIL', 'PYTHON=python3.11'),
    ('torch works', packages.check_torch(probe(version='2.12.1', cuda='13.0')), 'OK', ''),
    ('torch missing', packages.check_torch(MISSING), 'FAIL', 'make repair'),
    (
        'torchvision of another build',
        packages.check_torchvision(
            probe('RuntimeError: operator torchvision::nms does not exist'), PINS
        ),
        'FAIL',
        'torch==2.12.1 torchvision==0.27.1 (both from the same package index)',
    ),
    ('torchvision without torch', packages.check_torchvision(MISSING, PINS), 'FAIL', 'make repair'),
    ('mmcv works', check_mmcv(probe(version='2.3.6', cuda='not available')), 'OK', ''),
    (
        'mmcv without operators',
        check_mmcv(probe("ModuleNotFoundError: No module named 'mmcv._ext'")),
        'FAIL',
        '--no-cache-dir --force-reinstall --no-deps --no-build-isolation onedl-mmcv==2.3.6',
    ),
    (
        'mmcv compiled against another torch',
        check_mmcv(probe('ImportError: _ext.so: undefined symbol: _ZN3c1011StorageImpl')),
        'FAIL',
        '--no-cache-dir',
    ),
    (
        'mmcv missing',
        check_mmcv(probe("ModuleNotFoundError: No module named 'mmcv'")),
        'FAIL',
        'make repair',
    ),
    (
        'mmcv crashes',
        check_mmcv(probe('the interpreter crashed with signal 11')),
        'FAIL',
        '--no-cache-dir',
    ),
    (
        'GPU, but mmcv for the CPU',
        check_mmcv(probe(version='2.3.6', cuda='not available'), gpu=True),
        'WARN',
        'FORCE_CUDA=1',
    ),
    (
        'one OpenCV',
        packages.check_opencv_builds(versions('opencv-python-headless', 'numpy'), PINS),
        'OK',
        '',
    ),
    ('no OpenCV', packages.check_opencv_builds({}, PINS), 'FAIL', 'headless==4.12.0.88'),
    (
        'two OpenCV builds',
        packages.check_opencv_builds(versions('opencv-python', 'opencv-python-headless'), PINS),
        'WARN',
        'uninstall -y opencv-python opencv-python-headless && ',
    ),
    (
        'two OpenCV versions',
        packages.check_opencv_builds({'opencv-python': '5', 'opencv-contrib-python': '4'}, PINS),
        'FAIL',
        'uninstall -y opencv-python opencv-contrib-python && ',
    ),
    (
        'no libGL',
        packages.check_opencv_import(
            probe('ImportError: libGL.so.1: cannot open shared object file'),
            versions('opencv-python'),
            PINS,
        ),
        'FAIL',
        'apt-get install libgl1',
    ),
    (
        'xtcocotools of NumPy 1',
        packages.check_numpy_abi(
            probe('ValueError: numpy.dtype size changed, may indicate binary...', numpy='2.2.6'),
            PINS,
        ),
        'FAIL',
        '--no-binary xtcocotools xtcocotools==1.14.3',
    ),
    (
        'both mmcv',
        packages.check_twins(versions('mmcv', 'onedl-mmcv', 'mmpose'), PINS),
        'FAIL',
        'uninstall -y onedl-mmcv mmcv && ',
    ),
    ('one mmcv', packages.check_twins(versions('onedl-mmcv', 'mmpose'), PINS), 'OK', ''),
    ('chumpy is not needed', packages.check_mmpose(probe(), {}, PINS), 'OK', ''),
    (
        'a clone of sam2 in the way',
        packages.check_sam2(
            probe('RuntimeError: from the parent directory of the sam2 repository'), PINS
        ),
        'FAIL',
        'another folder',
    ),
    ('new setuptools', packages.check_setuptools({'setuptools': '82.0'}, {}), 'WARN', 'setuptools'),
    ('no setuptools', packages.check_setuptools({}, PINS), 'WARN', 'setuptools'),
    ('pins met', packages.check_pins({'torch': '2.12.1+cpu'}, {'torch': '2.12.1'}), 'OK', ''),
    (
        'pin not met',
        packages.check_pins({'torch': '2.13.0'}, {'torch': '2.12.1'}),
        'WARN',
        'make repair',
    ),
    ('no source tree', packages.check_pins({}, {}), 'WARN', 'clone'),
    ('no GPU', machine.check_cuda_driver(probe(cuda='13.0', gpu=False), None), 'OK', ''),
    (
        'CUDA 13, old driver',
        machine.check_cuda_driver(probe(cuda='13.0', gpu=False), '550.54.15'),
        'FAIL',
        'R580 or newer, or install torch and torchvision for CUDA 12.9',
    ),
    (
        'CUDA 13, fitting driver, no GPU',
        machine.check_cuda_driver(probe(cuda='13.0', gpu=False), '580.65.06'),
        'WARN',
        '--gpus all',
    ),
    (
        'CPU build of torch',
        machine.check_cuda_driver(probe(cuda=None, gpu=False), '580.65.06'),
        'WARN',
        'CUDA builds',
    ),
    ('GPU works', machine.check_cuda_driver(probe(cuda='13.0', gpu=True), '580.65.06'), 'OK', ''),
    ('broken torch', machine.check_cuda_driver(MISSING, '580.65.06'), 'WARN', 'make repair'),
    ('full disk', machine.check_disk(Path(), free_gb=1.0), 'WARN', 'cache purge'),
    ('little memory', machine.check_memory(2.0), 'WARN', 'compact'),
]


@pytest.mark.parametrize(
    ('result', 'status', 'cure'), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_traps(result: CheckResult, status: str, cure: str) -> None:
    assert result.status == status, result
    assert cure in result.cure
    assert bool(result.cure) == (status != 'OK')


def test_a_finding_without_cure_is_refused() -> None:
    with pytest.raises(ValueError, match='must name a cure'):
        CheckResult('torch', 'FAIL', 'broken')


def hydra(initialised: bool) -> SimpleNamespace:
    state = SimpleNamespace(is_initialized=lambda: initialised)
    return SimpleNamespace(GlobalHydra=SimpleNamespace(instance=lambda: state))


@pytest.mark.parametrize(
    ('modules', 'status'),
    [
        ({}, 'OK'),
        ({'hydra.core.global_hydra': hydra(False)}, 'OK'),
        ({'hydra.core.global_hydra': hydra(True)}, 'WARN'),
        ({'hydra.core.global_hydra': hydra(True), 'sam2': SimpleNamespace()}, 'OK'),
    ],
    ids=['no hydra', 'free', 'taken by the host application', 'set up by sam2'],
)
def test_hydra_state(modules: dict, status: str) -> None:
    assert packages.check_hydra_state(modules).status == status


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
    found = facts.run_probe(code)
    assert error in found.error
    assert bool(error) == bool(found.error)
    assert found.values == values


def write_manifest(folder: Path, **entry: object) -> None:
    (folder / 'manifest.json').write_text(json.dumps({'models': [{'file': 'a.pth', **entry}]}))


@pytest.mark.parametrize(
    ('content', 'entry', 'status'),
    [
        (b'abc', {'size': 3, 'sha256': hashlib.sha256(b'abc').hexdigest()}, 'OK'),
        (b'abc', {}, 'OK'),
        (b'abc', {'sha256_prefix': hashlib.sha256(b'abc').hexdigest()[:8]}, 'OK'),
        (b'abd', {'sha256_prefix': hashlib.sha256(b'abc').hexdigest()[:8]}, 'FAIL'),
        (b'ab', {'size': 3}, 'FAIL'),
        (b'abd', {'size': 3, 'sha256': hashlib.sha256(b'abc').hexdigest()}, 'FAIL'),
        (None, {'size': 3}, 'WARN'),
        (None, {'embedded': True}, 'FAIL'),
    ],
    ids=[
        'complete',
        'nothing to compare',
        'prefix',
        'other prefix',
        'cut off',
        'damaged',
        'not fetched',
        'lost',
    ],
)
def test_checkpoints(
    tmp_path: Path,
    content: bytes | None,
    entry: dict,
    status: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv('BMP_CHECKPOINTS', raising=False)
    write_manifest(tmp_path, **entry)
    if content is not None:
        (tmp_path / 'downloads').mkdir()
        (tmp_path / 'downloads' / 'a.pth').write_bytes(content)
    result = machine.check_checkpoints(tmp_path)
    assert result.status == status, result
    assert status == 'OK' or 'a.pth' in result.detail


def test_checkpoints_without_readable_manifest(tmp_path: Path) -> None:
    assert machine.check_checkpoints(tmp_path).status == 'WARN'
    (tmp_path / 'manifest.json').write_text('{')
    assert machine.check_checkpoints(tmp_path).status == 'FAIL'


def test_pins_depend_on_the_python_version(tmp_path: Path) -> None:
    (tmp_path / 'a.txt').write_text(
        '# comment\nPillow==13.0 ; python_version >= "3.11"\n'
        'pillow==12.3 ; python_version < "3.11"  # old\nsam2==1.1.0\n'
    )
    assert facts.read_pins(tmp_path, (3, 11)) == {'pillow': '13.0', 'sam2': '1.1.0'}
    assert facts.read_pins(tmp_path, (3, 10)) == {'pillow': '12.3', 'sam2': '1.1.0'}


def test_all_checks_survive_an_empty_environment() -> None:
    results = diagnose(lambda code: facts.Probe("ModuleNotFoundError: No module named 'torch'"))
    assert len({result.name for result in results}) == len(results) == 19
    assert {'torch', 'mmcv-ops', 'sam2'} <= {r.name for r in results if r.status == 'FAIL'}


@pytest.mark.parametrize(('status', 'code'), [('OK', 0), ('WARN', 0), ('FAIL', 1)])
def test_exit_code_and_json(
    status: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = [CheckResult('torch', status, 'detail', '' if status == 'OK' else 'cure')]  # type: ignore[arg-type]
    monkeypatch.setattr(command_line, 'diagnose', lambda: results)
    assert command_line.main(['--json']) == code
    assert json.loads(capsys.readouterr().out)[0]['status'] == status
    assert command_line.main([]) == code
    assert ('cure: cure' in capsys.readouterr().out) == (status != 'OK')


def test_it_needs_the_standard_library_only() -> None:
    code = f'import sys; sys.path.insert(0, {str(ROOT)!r}); import pipeline.doctor.__main__'
    subprocess.run([sys.executable, '-I', '-S', '-c', code], check=True)
