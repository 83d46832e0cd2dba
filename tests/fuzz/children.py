"""Cases in child processes with limits of memory and time."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
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
MEMORY, SECONDS = 2 << 30, 10  # bytes beyond those at the start of the batch; s per case
BATCH = 100  # cases of a process
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
            kind = 'hang' if number == signal.SIGALRM else 'crash'
            outcomes.append(Outcome(kind, f'ended by signal {number}, exit {status >> 8}'))
        done += len(outcomes)
        yield from outcomes


def _run_batch(
    read: Callable[[Path], object], cases: Sequence[bytes], folder: Path, suffix: str, stream: Any
) -> None:
    canary = folder / 'canary'
    canary.mkdir(exist_ok=True)
    os.chdir(canary)  # code that runs leaves a file here
    _fill(path := folder / f'case{suffix}', cases[0])
    size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):  # libraries in C write there
        os.dup2(null, number)
    base = _peak()
    for data in cases:
        _fill(path, data)
        Path('/proc/self/clear_refs').write_text('5')  # the peak starts again
        signal.alarm(SECONDS)  # the default action ends the process, also inside of C code
        outcome = read_case(read, path)
        signal.alarm(0)
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


def _peak() -> int:
    match = re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())
    assert match
    return int(match[1]) * 1024


def read_case(read: Callable[[Path], object], path: Path) -> Outcome:
    """Read a file: a result, a refusal in lines of ours, or a traceback."""
    said = io.StringIO()
    error: BaseException | None = None
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            read(path)
    except SystemExit as end:
        error = end.__context__ or argparse.ArgumentError(None, '')
        if end.code not in (1, 2):
            error = end
    except BaseException as caught:  # noqa: BLE001 - this is what the campaign looks for
        error = caught
    if 'Traceback (most recent' in said.getvalue():
        return Outcome('traceback', said.getvalue())
    if error is None:
        return Outcome('result')
    if is_refusal(error):
        return Outcome('refused', str(error))
    return Outcome('traceback', ''.join(traceback.format_exception(error)))


def is_refusal(error: BaseException) -> bool:
    """Whether this project raises an error on purpose, with a message in short lines."""
    if isinstance(error, argparse.ArgumentError):
        return True
    text = str(error)
    is_short = bool(text) and all(len(line) < 1000 for line in text.splitlines())
    if isinstance(error, OSError):
        return is_short and error.filename is not None
    known = isinstance(error, ValueError) or type(error).__name__ == 'CheckpointError'
    ours = type(error).__module__.startswith(('pipeline.', 'projects.'))
    return is_short and (ours or (known and _raised_by_us(error.__traceback__)))


def _raised_by_us(trace: TracebackType | None) -> bool:
    """Whether the last frame is in this project: a library that fails is no message of ours."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename.startswith(ROOT)
