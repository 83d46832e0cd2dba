"""The set-up: what it refuses, when it does nothing, and that all pins agree."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import setup_checks
import setup_env
from pipeline.doctor import normalise, read_pins

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / 'requirements'
BUILD_TOOLS = {'setuptools', 'wheel', 'ninja', 'packaging', 'cython'}


@pytest.mark.parametrize(
    ('machine', 'message'),
    [
        ({'python': (3, 9)}, r'Python 3\.9 is not supported.*\n.*python3\.11-venv'),
        ({'python': (3, 13)}, r'Python 3\.13 is not supported.*\n.*PYTHON=python3\.11'),
        ({'missing_modules': ('ensurepip',)}, 'no module ensurepip.*\n.*python3.11-venv'),
        ({'compiler': None}, 'No C.. compiler.*\n.*build-essential'),
        ({'has_headers': False}, 'Python.h.*\n.*python3.11-dev'),
        ({'free_gb': 3.0}, 'Only 3 GB.*\n.*BMP_VENV='),
        ({'posix': False}, 'Windows.*\n.*WSL'),
    ],
    ids=['python 3.9', 'python 3.13', 'no venv', 'no compiler', 'no headers', 'disk', 'windows'],
)
def test_what_cannot_work_is_refused(machine: dict, message: str) -> None:
    with pytest.raises(setup_checks.SetupError, match=message):
        setup_checks.check_machine(setup_checks.Machine(**{'python': (3, 11), **machine}))


@pytest.mark.parametrize('python', [(3, 10), (3, 11), (3, 12)])
def test_supported_machines_pass(python: tuple[int, int]) -> None:
    setup_checks.check_machine(setup_checks.Machine(python=python))


@pytest.mark.parametrize(
    ('log', 'cure'),
    [
        ('OSError: [Errno 28] No space left on device', 'Free disk space'),
        ('c++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1'),
        ('fatal error: Python.h: No such file or directory', 'python3-dev'),
        ("ModuleNotFoundError: No module named 'pkg_resources'", 'setuptools 81'),
        ('The detected CUDA version (12.4) mismatches the version', 'CUDA_VISIBLE_DEVICES='),
        ('Failed to establish a new connection: name resolution', 'HTTPS_PROXY'),
        ('ERROR: No matching distribution found for torch==9', 'package index'),
        ("error: command '/usr/bin/g++' failed with exit code 1", 'build-essential'),
        ('something else', 'docs/install.md'),
    ],
)
def test_probable_cure(log: str, cure: str) -> None:
    assert cure in setup_checks.probable_cure(log)


@pytest.mark.parametrize(
    ('gpu', 'torch_cuda', 'nvcc', 'force', 'note'),
    [
        (False, '13.0', '12.4', None, ''),
        (True, '13.0', '13.1', '1', 'nvcc 13.1'),
        (True, '13.0', '12.4', '0', 'nvcc is 12.4'),
        (True, '13.0', None, '0', 'no nvcc'),
    ],
    ids=['no GPU', 'fitting nvcc', 'other nvcc', 'no nvcc'],
)
def test_cuda_build(
    gpu: bool, torch_cuda: str, nvcc: str | None, force: str | None, note: str
) -> None:
    env, text = setup_checks.cuda_build(gpu, torch_cuda, nvcc)
    assert env.get('FORCE_CUDA') == force
    assert note in text


def test_a_failed_step_shows_the_log_and_a_cure(tmp_path: Path) -> None:
    said: list[str] = []
    installer = setup_env.Installer(tmp_path, said.append, heartbeat_s=0.05)
    code = 'import time; time.sleep(0.3); print("[3/9] c++"); exit("No space left on device")'
    with pytest.raises(setup_checks.SetupError, match=r'(?s)\[3/9\].*Free disk space'):
        installer.run(setup_env.Step('the step', ((sys.executable, '-c', code),)))
    assert said[0] == 'the step'
    assert any('still running' in line for line in said), said


def test_stopping_also_stops_what_the_step_has_started(tmp_path: Path) -> None:
    def stop(line: str) -> None:
        if 'still running' in line and (tmp_path / 'pid').exists():
            raise KeyboardInterrupt

    installer = setup_env.Installer(tmp_path, stop, heartbeat_s=0.05)
    command = ('sh', '-c', f'sleep 60 & echo $! > {tmp_path}/pid; wait')
    with pytest.raises(KeyboardInterrupt):
        installer.run(setup_env.Step('the step', (command,)))
    pid = int((tmp_path / 'pid').read_text())
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline, f'process {pid} is still there'
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except FileNotFoundError:
        return False
    return state != 'Z'  # a zombie waits for its parent only


def test_the_heartbeat_counts_compiled_files(tmp_path: Path) -> None:
    installer = setup_env.Installer(tmp_path)
    installer.log_path.write_text('Collecting a\n[11/190] c++ a.o\n[12/190] c++ b.o\nwarning: x\n')
    assert installer._last_activity(0) == 'compiled 12 of 190 files'
    assert installer._last_activity(installer.log_path.stat().st_size) == 'still running'


@pytest.mark.parametrize(
    ('stamp', 'editable', 'current'),
    [
        ({}, False, False),
        ({'pins': 'other', 'checkout': ''}, False, False),
        ({'pins': 'KEY', 'checkout': ''}, False, True),
        ({'pins': 'KEY', 'checkout': ''}, True, False),
        ({'pins': 'KEY', 'checkout': str(ROOT)}, True, True),
        ({'pins': 'KEY', 'checkout': str(ROOT)}, False, True),
    ],
)
def test_a_matching_stamp_makes_the_set_up_instant(
    tmp_path: Path, stamp: dict[str, str], editable: bool, current: bool
) -> None:
    (tmp_path / 'bin').mkdir()
    (tmp_path / 'bin' / 'python').symlink_to(sys.executable)
    key = setup_env.pins_key()
    text = json.dumps(stamp).replace('KEY', key)
    (tmp_path / setup_env.STAMP).write_text(text)
    wanted = {'pins': key, 'checkout': str(ROOT) if editable else ''}
    assert setup_env.is_current(tmp_path, wanted) == current


def test_the_key_follows_the_pins_and_not_the_comments(tmp_path: Path) -> None:
    for name in setup_env.PIN_FILES:
        (tmp_path / name).write_text((REQUIREMENTS / name).read_text())
    before = setup_env.pins_key(tmp_path)
    assert before == setup_env.pins_key()
    runtime = tmp_path / 'runtime.txt'
    runtime.write_text('# a comment\n\n' + runtime.read_text())
    assert setup_env.pins_key(tmp_path) == before
    runtime.write_text(runtime.read_text().replace('numpy==2.2.6', 'numpy==2.2.5'))
    assert setup_env.pins_key(tmp_path) != before


def test_a_folder_with_other_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / 'thesis.tex').write_text('x')
    with pytest.raises(setup_checks.SetupError, match='not a Python environment'):
        setup_env.ensure_venv(setup_env.Installer(tmp_path))
    assert (tmp_path / 'thesis.tex').exists()


def setup_cfg_requirements() -> dict[str, Requirement]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / 'setup.cfg', encoding='utf-8')
    text = parser['options']['install_requires'] + ''.join(
        parser['options.extras_require'].values()
    )
    parsed = [Requirement(line) for line in text.splitlines() if line.strip()]
    return {normalise(requirement.name): requirement for requirement in parsed}


@pytest.mark.parametrize('python', [(3, 10), (3, 11), (3, 12)])
def test_the_pins_lie_in_the_ranges_of_setup_cfg(python: tuple[int, int]) -> None:
    pins = read_pins(REQUIREMENTS, python, skip=('constraints.txt',))
    ranges = setup_cfg_requirements()
    assert set(ranges) == set(pins) - BUILD_TOOLS
    outside = [str(r) for name, r in ranges.items() if not r.specifier.contains(pins[name])]
    assert not outside


def test_nothing_is_pinned_twice() -> None:
    direct = read_pins(REQUIREMENTS, skip=('constraints.txt',))
    others = tuple(name for name in setup_env.PIN_FILES if name != 'constraints.txt')
    assert not set(direct) & set(read_pins(REQUIREMENTS, skip=others))
    assert {path.name for path in REQUIREMENTS.glob('*.txt')} == set(setup_env.PIN_FILES)


def test_no_package_index_is_named() -> None:
    files = [ROOT / 'Makefile', ROOT / 'setup.cfg', ROOT / 'pyproject.toml', ROOT / '.ci' / 'run']
    files += [*REQUIREMENTS.glob('*'), *(ROOT / 'tools').glob('setup_*.py')]
    for path in files:
        text = path.read_text('utf-8')
        assert not re.search(r'https?://|--(extra-)?index-url|find-links', text), path


def test_make_help_needs_no_environment() -> None:
    result = subprocess.run(['make', 'help'], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ('demo', 'test', 'lint', 'types', 'doctor', 'clean'):
        assert f'make {target}' in result.stdout
