"""Cases in child processes with limits of memory and time."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import json
import linecache
import os
import re
import resource
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = str(Path(__file__).parents[2])
MEMORY = 2 << 30  # bytes beyond those at the start of the process
SECONDS, WAIT = 10, 60  # s of CPU time, and s of any time, for a case
BATCH = 100  # cases of a process
MAX_LINE = 2200  # characters of a line of a message
OUTCOMES = ('result', 'refused', 'traceback', 'hang', 'memory', 'crash', 'canary')
NO_MEMORY = re.compile(r'MemoryError|[Uu]nable to allocate|allocate memory|bad_alloc')


@dataclass(frozen=True)
class Outcome:
    """What a case did; ``text`` is the message or the traceback."""

    kind: str
    text: str = ''


def run_cases(
    read: Callable[[Path], object], cases: Sequence[bytes], folder: Path, suffix: str
) -> Iterator[Outcome]:
    """Yield the outcome of ``read`` on a file of each case, in ``folder``."""
    done = 0
    while done < len(cases):
        pipe, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(pipe)
            with os.fdopen(writer, 'w') as stream:
                _run_batch(read, cases[done : done + BATCH], folder, suffix, stream)
            os._exit(0)
        os.close(writer)
        with os.fdopen(pipe) as stream:
            outcomes = [Outcome(*json.loads(line)) for line in stream if line.endswith(']\n')]
        status = os.waitpid(child, 0)[1]
        if status:
            number = status & 127
            kind = 'hang' if number in (signal.SIGALRM, signal.SIGPROF) else 'crash'
            outcomes.append(Outcome(kind, f'ended by signal {number}, exit {status >> 8}'))
        done += len(outcomes)
        yield from outcomes


def _run_batch(
    read: Callable[[Path], object], cases: Sequence[bytes], folder: Path, suffix: str, stream: Any
) -> None:
    faulthandler.disable()  # a crash is expected and counted
    canary = folder / 'canary'
    canary.mkdir(exist_ok=True)
    os.chdir(canary)  # code that runs leaves a file here
    _fill(path := folder / f'case{suffix}', cases[0])
    size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 2 * MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):  # libraries in C write there
        os.dup2(null, number)
    _restart_peak()
    base = _peak()
    for data in cases:
        _fill(path, data)
        _restart_peak()
        for timer, seconds in ((signal.ITIMER_PROF, SECONDS), (signal.ITIMER_REAL, WAIT)):
            signal.setitimer(timer, seconds)  # its signal ends the process, also in C code
        outcome = read_case(read, path)
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        if NO_MEMORY.search(outcome.text) or _peak() > base + MEMORY:
            outcome = Outcome('memory', f'{_peak() - base} bytes\n{outcome.text}')
        if found := sorted(str(p) for p in canary.rglob('*')):
            outcome = Outcome('canary', f'{found} after {outcome}')
            for name in os.listdir(canary):
                os.remove(canary / name)
        stream.write(json.dumps([outcome.kind, outcome.text]) + '\n')
        stream.flush()


def _fill(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def _restart_peak() -> None:
    """Set the peak to the memory in use; that of the parent can be larger."""
    Path('/proc/self/clear_refs').write_text('5')


def _peak() -> int:
    match = re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())
    assert match
    return int(match[1]) * 1024


def read_case(read: Callable[[Path], object], path: Path) -> Outcome:
    """Read a file: a result, a refusal in lines of ours, or a traceback."""
    said, error = io.StringIO(), None
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            read(path)
    except SystemExit as end:  # of a command, which prints the error that it ends with
        error = end.__context__ or argparse.ArgumentError(None, '')
        text = said.getvalue()
        error = error if end.code in (1, 2) else end
    except BaseException as caught:  # noqa: BLE001 - this is what the campaign looks for
        error, text = caught, str(caught)
    if 'Traceback (most recent' in said.getvalue():
        return Outcome('traceback', said.getvalue())
    if error is None:
        return Outcome('result')
    if text and all(len(x) < MAX_LINE for x in text.splitlines()) and is_refusal(error):
        return Outcome('refused', text)
    return Outcome('traceback', ''.join(traceback.format_exception(error)))


def is_refusal(error: BaseException) -> bool:
    """Whether this project raises an error on purpose."""
    if isinstance(error, OSError):
        return error.filename is not None
    known = isinstance(error, ValueError) or type(error).__name__ == 'CheckpointError'
    ours = type(error).__module__.startswith(('pipeline.', 'projects.', 'argparse'))
    return ours or (known and _raised_by_us(error.__traceback__))


def _raised_by_us(trace: TracebackType | None) -> bool:
    """Whether a statement ``raise`` of this project is last, and not a call that failed."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    file = trace.tb_frame.f_code.co_filename
    line = linecache.getline(file, trace.tb_lineno)
    return file.startswith(ROOT) and line.strip().startswith('raise')
