"""The installation: checked requirements, stamp and consistent pins."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import setup_env

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / 'requirements'
BUILD_TOOLS = {'setuptools', 'wheel', 'ninja', 'cython'}
DIRECT = [name for name in setup_env.PIN_FILES if name != 'constraints.txt']


FACTS: dict[str, object] = {
    'sys.version_info': (3, 11),
    'find_spec': lambda _: True,
    'shutil.which': lambda _: '/usr/bin/c++',
    'shutil.disk_usage': lambda _: shutil._ntuple_diskusage(9, 6, 100e9),
}
MISSING: dict[str, tuple[str, object, str]] = {
    'old': ('sys.version_info', (3, 9), r'Python 3\.9 is not supported.*\n.*python3\.11-venv'),
    'new': ('sys.version_info', (3, 13), r'Python 3\.13 is not supported.*\n.*PYTHON=python3\.11'),
    'no venv': ('find_spec', lambda _: None, r'no ensurepip.*\n.*-venv'),
    'no compiler': ('shutil.which', lambda _: None, 'No C.. compiler.*\n.*build-essential'),
    'no headers': ('sysconfig.get_paths', lambda: {'include': '/x'}, 'Python.h.*\n.*-dev'),
    'disk': (
        'shutil.disk_usage', lambda _: shutil._ntuple_diskusage(9, 6, 3e9), 'Only 3 GB.*\n.*VENV=',
    ),
}  # fmt: skip


@pytest.fixture
def good_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'Python.h').write_text('')
    for name, fact in FACTS.items():
        monkeypatch.setattr(f'setup_env.{name}', fact)
    monkeypatch.setattr('setup_env.sysconfig.get_paths', lambda: {'include': str(tmp_path)})


@pytest.mark.usefixtures('good_machine')
def test_a_good_machine_passes(tmp_path: Path) -> None:
    setup_env.check_machine(tmp_path / 'venv')


@pytest.mark.usefixtures('good_machine')
@pytest.mark.parametrize(('place', 'value', 'message'), MISSING.values(), ids=MISSING)
def test_missing_requirements_are_errors(
    place: str, value: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f'setup_env.{place}', value)
    with pytest.raises(setup_env.SetupError, match=message):
        setup_env.check_machine(tmp_path / 'venv')


def test_a_failed_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(setup_env.SetupError, match=r'failed: the step\n  Hint: .*installation.md'):
        setup_env.Installer(tmp_path).run('the step', [sys.executable, '-c', 'exit(3)'])


@pytest.mark.parametrize(
    ('versions', 'force', 'note'),
    [
        ('False;13;12', None, ''),
        ('True;13;13', '1', ''),
        ('True;13;12', '0', 'nvcc is 12'),
        ('True;13;', '0', 'nvcc is absent'),
    ],
    ids=['no GPU', 'fitting nvcc', 'other nvcc', 'no nvcc'],
)
def test_build_variables(
    versions: str, force: str | None, note: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv('MAX_JOBS', '3')
    monkeypatch.setattr(setup_env.Installer, 'output', lambda *_: versions)
    variables = setup_env.build_variables(setup_env.Installer(tmp_path))
    assert variables.get('FORCE_CUDA') == force and variables['MAX_JOBS'] == '3'
    assert note in capsys.readouterr().out


def test_stopping_a_step_stops_its_child_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = subprocess.Popen.wait

    def stop(process: subprocess.Popen) -> int:
        monkeypatch.setattr(subprocess.Popen, 'wait', wait)
        while not (tmp_path / 'pid').exists():
            time.sleep(0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, 'wait', stop)
    script = f'sleep 60 & echo $! > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; wait'
    with pytest.raises(KeyboardInterrupt):
        setup_env.Installer(tmp_path).run('the step', ['sh', '-c', script])
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
    with pytest.raises(setup_env.SetupError, match='is not a Python environment'):
        setup_env.ensure_venv(setup_env.Installer(tmp_path))
    assert (tmp_path / 'thesis.tex').exists()


def read_pins(names: Iterable[str], python: str = '3.11') -> dict[str, str]:
    """Pinned versions in files of `requirements/`, for one version of Python."""
    text = '\n'.join((REQUIREMENTS / name).read_text('utf-8') for name in names)
    lines = [line.partition('#')[0].strip() for line in text.splitlines()]
    pins = [Requirement(line) for line in lines if line]
    return {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix('==')
        for pin in pins
        if pin.marker is None or pin.marker.evaluate({'python_version': python})
    }


def setup_cfg_requirements(python: str) -> dict[str, Requirement]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / 'setup.cfg', encoding='utf-8')
    extras = parser['options.extras_require'].values()
    text = parser['options']['install_requires'] + ''.join(extras)
    parsed = [Requirement(line) for line in text.splitlines() if line.strip()]
    return {
        canonicalize_name(part.name): part
        for part in parsed
        if part.marker is None or part.marker.evaluate({'python_version': python})
    }


@pytest.mark.parametrize('python', ['3.10', '3.11', '3.12'])
def test_the_pins_lie_in_the_ranges_of_setup_cfg(python: str) -> None:
    pins = read_pins(DIRECT, python)
    ranges = setup_cfg_requirements(python)
    assert set(ranges) == set(pins) - BUILD_TOOLS
    outside = [str(r) for name, r in ranges.items() if not r.specifier.contains(pins[name])]
    assert not outside


def test_nothing_is_pinned_twice() -> None:
    assert not set(read_pins(DIRECT)) & set(read_pins(['constraints.txt']))
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
