"""Seconds until something happens: the help text, the import, the models in memory.

Every figure comes from fresh processes; the files they read are in the system's cache after the
first.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from ..config import ROOT
from .case import machine

_LOAD = """
import json, sys, time
start = time.perf_counter()
from pipeline import load_pipeline
load_pipeline(sys.argv[1])
first = time.perf_counter()
load_pipeline(sys.argv[1])
print(json.dumps([first - start, time.perf_counter() - first]))
"""


def measure_start(config: str, repeats: int) -> dict[str, Any]:
    """Medians of wall and processor seconds of starting up.

    ``weights`` is the time of loading the same pipeline a second time, when everything is imported.

    Raises:
        RuntimeError: a process failed; the message holds what it wrote.
    """
    tool = str(ROOT / 'tools' / 'run_bmp.py')
    commands = {
        'help of run_bmp.py': [tool, '--help'],
        'import pipeline': ['-c', 'import pipeline'],
        'imports and weights': ['-c', _LOAD, config],
    }
    rows: dict[str, Any] = {}
    for name, command in commands.items():
        runs = [_run(command) for _ in range(repeats)]
        rows[name] = {
            'wall_s': statistics.median(r[0] for r in runs),
            'cpu_s': statistics.median(r[1] for r in runs),
        }
    loads = [json.loads(r[2].splitlines()[-1]) for r in runs]
    first, again = (statistics.median(v[i] for v in loads) for i in range(2))
    # Its process loads twice; the second time is no part of the start.
    rows['imports and weights']['wall_s'] -= again
    rows['imports and weights']['cpu_s'] *= first / (first + again)
    rows['weights'] = {'wall_s': again, 'cpu_s': None}
    return {'config': config, 'repeats': repeats, **machine(), 'start': rows}


def _run(command: list[str]) -> tuple[float, float, str]:
    """Wall and processor seconds of a fresh interpreter, and what it wrote."""
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    before, start = _children(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    wall, cpu = time.perf_counter() - start, _children() - before
    if done.returncode:
        raise RuntimeError(f'{" ".join(command[:2])} failed:\n{done.stderr[-2000:]}')
    return wall, cpu, done.stdout


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
