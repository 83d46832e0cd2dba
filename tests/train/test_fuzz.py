"""The campaigns of `tests/fuzz`: short runs with fixed seeds, and that they notice every fault."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.cli.options import handle_errors
from pipeline.config import ConfigError
from tests.fuzz import children

ROOT = Path(__file__).parents[2]


def refuse(path: Path) -> None:
    raise ConfigError(f'{path}: no')


def fail_in_a_library(path: Path) -> None:
    int(path.read_text())


def fail_in_a_command(path: Path) -> None:
    with handle_errors('bmp'):
        int(path.read_text())


def swallow(path: Path) -> None:
    """Fill the memory and say nothing."""
    bytearray(b'x') * (children.MEMORY * 5 // 4)


def loop_for_ever(path: Path) -> None:
    while True:
        pass


READS: dict[str, Callable[[Path], object]] = {
    'result': Path.read_bytes,
    'refused': refuse,
    'traceback': fail_in_a_library,
    'traceback of a command': fail_in_a_command,
    'hang': loop_for_ever,
    'hang while it waits': lambda path: signal.pause(),
    'memory': lambda path: bytearray(1 << 40),
    'memory in use': swallow,
    'crash': lambda path: os.kill(os.getpid(), signal.SIGSEGV),
    'canary': lambda path: Path('code-ran').touch(),
}


@pytest.mark.parametrize('name', READS)
def test_outcomes_are_told_apart(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, 'SECONDS', 1)
    monkeypatch.setattr(children, 'WAIT', 1 + 59 * (name != 'hang while it waits'))
    monkeypatch.setattr(children, 'MEMORY', 1 << 27)
    outcomes = list(children.run_cases(READS[name], [b'a', b'b'], tmp_path, '.json'))
    assert [outcome.kind for outcome in outcomes] == [name.split()[0]] * 2, outcomes


@pytest.mark.parametrize(
    ('words', 'last'),
    [
        ('tests.fuzz --count 700', r'all +7\d\d'),
        ('tests.fuzz.kill --count 3', '3 kills in . runs of 12 images, seed 0: same files'),
    ],
)
def test_short_campaigns(words: str, last: str, tmp_path: Path) -> None:
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, '-m', *words.split()]
    keep = ['--keep', str(tmp_path)] if 'kill' not in words else []
    done = subprocess.run([*command, *keep], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    assert re.match(last, done.stdout.splitlines()[-1]), done.stdout
