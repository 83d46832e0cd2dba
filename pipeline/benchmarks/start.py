"""Seconds until something happens: the help text, the import, the models in memory.

Every figure comes from fresh processes; the files they read are in the system's cache after the
first.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

from ..config import ROOT
from .case import Seconds, machine

# As run_bmp.py loads. Twice: the second time everything is imported.
_LOAD = """
import json, sys, time
from pipeline import load_pipeline
load_pipeline(sys.argv[1])
start = time.perf_counter(), time.process_time()
load_pipeline(sys.argv[1])
print(json.dumps([time.perf_counter() - start[0], time.process_time() - start[1]]))
"""


def measure_start(config: str, repeats: int) -> dict[str, Any]:
    """Medians of wall and processor seconds of starting up.

    The share of the weights is the time of loading the same pipeline again, all of it imported.

    Raises:
        RuntimeError: a process failed; the message holds what it wrote.
    """
    tool = str(ROOT / 'tools' / 'run_bmp.py')
    commands = {
        'help of run_bmp.py': [tool, '--help'],
        'import pipeline': ['-c', 'import pipeline'],
    }
    rows = {name: _median([_run(c)[0] for _ in range(repeats)]) for name, c in commands.items()}
    both = [_run(['-c', _LOAD, config]) for _ in range(repeats)]
    again = [Seconds(*json.loads(wrote.splitlines()[-1])) for _, wrote in both]
    first = [Seconds(a.wall - b.wall, a.cpu - b.cpu) for (a, _), b in zip(both, again, strict=True)]
    rows |= {'imports and weights': _median(first), 'of these, weights': _median(again)}
    return {'config': config, 'repeats': repeats, **machine(), 'start': rows}


def _median(rows: list[Seconds]) -> dict[str, float]:
    middle = Seconds.median(rows)
    return {'wall_s': middle.wall, 'cpu_s': middle.cpu}


def _run(command: list[str]) -> tuple[Seconds, str]:
    """Time of a fresh interpreter, and what it wrote."""
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    before, start = _children(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    taken = Seconds(time.perf_counter() - start, _children() - before)
    if done.returncode:
        raise RuntimeError(f'{" ".join(command[:2])} failed:\n{done.stderr[-2000:]}')
    return taken, done.stdout


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
