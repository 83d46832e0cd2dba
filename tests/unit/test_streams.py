"""Output survives any terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = """
import sys
from pipeline.cli.streams import robust_output
with robust_output():
    for number in range(3000):
        print(number, 'ü \\u2603 \\udcff')
        print('e\\u2192', file=sys.stderr)
open(sys.argv[1], 'w').write('done')
"""
CASES = {
    'ascii': ('python "$1" "$2"', 'ascii:strict', '0 \\xfc \\u2603 \\udcff'),
    'latin-1': ('python "$1" "$2" 2>/dev/null', 'latin-1:strict', '0 \xfc \\u2603 \\udcff'),
    'utf-8': ('python "$1" "$2"', 'utf-8:strict', '0 \xfc \u2603 \\udcff'),
    'closed pipe': ('python "$1" "$2" | head -1', 'utf-8:strict', '0 \xfc \u2603 \\udcff'),
    'both closed pipes': ('python "$1" "$2" 2>&1 | true', 'ascii:strict', ''),
    'no stdout': ('python "$1" "$2" >&-', 'utf-8:strict', ''),
    'nothing open': ('python "$1" "$2" <&- >&- 2>&-', 'utf-8:strict', ''),
}


@pytest.mark.parametrize('name', CASES)
def test_output(name: str, tmp_path: Path) -> None:
    line, encoding, first = CASES[name]
    (tmp_path / 'code.py').write_text(CODE)
    command = f'set -o pipefail; {line.replace("python", sys.executable)}'
    done = subprocess.run(
        ['bash', '-c', command, 'bash', tmp_path / 'code.py', tmp_path / 'done'],
        env={'PYTHONPATH': str(ROOT), 'PYTHONIOENCODING': encoding, 'PATH': '/usr/bin:/bin'},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'done').read_text() == 'done'  # the work goes on
    assert done.stdout.decode(encoding.split(':')[0]).partition('\n')[0] == first
    assert b'Traceback' not in done.stderr and b'Exception' not in done.stderr


@pytest.mark.parametrize('options', ['--help', 'run --help', 'score --help', '--version'])
def test_help_into_a_closed_pipe(options: str) -> None:
    done = subprocess.run(
        ['bash', '-c', f'set -o pipefail; {sys.executable} -m pipeline {options} | true'],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b'')


def test_a_full_disk_is_an_error() -> None:
    done = subprocess.run(
        ['bash', '-c', f'{sys.executable} -m pipeline --version > /dev/full'],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0 and b'No space left' in done.stderr
