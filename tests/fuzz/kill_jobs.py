"""Kill jobs at random moments and run them again: the merged files equal those of one whole run.

A victim is the driver, a worker, or Ray's node process; it gets SIGKILL.

python -m tests.fuzz.kill_jobs --count 50 --seed 0
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.job_fakes import bmp, merged, save_numbered

IMAGES, SHARD, SECONDS = 30, 3, 0.03  # images, of a shard, and s of the model per image
LIMIT_S = 300.0
RUN = 'import sys; from tests.job_fakes import bmp; sys.exit(bmp(*sys.argv[1:]))'


def start(folder: Path, out: Path, engine: str) -> subprocess.Popen[bytes]:
    """Start a job in a process of its own."""
    log = out.with_suffix('.log').open('ab')
    options = ['--engine', engine, '--workers', '2', '--shard-size', str(SHARD)]
    return subprocess.Popen(
        [sys.executable, '-c', RUN, str(folder), *options, '--out-dir', str(out)],
        stdout=log,
        stderr=log,
        env={**os.environ, 'FAKE_S': str(SECONDS)},
    )


def list_processes(root: int) -> dict[int, str]:
    """List the processes below ``root``: pid -> command line."""
    parents, commands = {}, {}
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            stat = (folder / 'stat').read_text()
            commands[int(folder.name)] = (folder / 'cmdline').read_text().replace('\0', ' ')
        except OSError:
            continue  # it has ended
        parents[int(folder.name)] = int(stat.rpartition(')')[2].split()[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: commands[pid] for pid in found - {root}}


def choose_victim(process: subprocess.Popen[bytes], rng: random.Random) -> tuple[str, int]:
    """Choose the driver, a worker, or the node process of Ray, of those that are there."""
    victims = {'driver': [process.pid], 'worker': [], 'node': []}
    for pid, command in list_processes(process.pid).items():
        if 'ray::_Actor' in command or 'spawn_main' in command:
            victims['worker'].append(pid)
        elif '/raylet ' in command:
            victims['node'].append(pid)
    kind = rng.choice([kind for kind, pids in victims.items() if pids])
    return kind, rng.choice(victims[kind])


def end(process: subprocess.Popen[bytes], seen: set[int]) -> None:
    """Kill what a killed driver left of its own processes."""
    seen |= set(list_processes(process.pid))
    process.kill()
    process.wait()
    time.sleep(0.5)
    for pid in seen:
        command = Path(f'/proc/{pid}/cmdline')
        if command.exists() and ('ray' in command.read_text() or 'spawn' in command.read_text()):
            os.kill(pid, signal.SIGKILL)


def attack(
    folder: Path, out: Path, engine: str, seconds: float, most: int, rng: random.Random
) -> Iterator[str]:
    """Run a job and kill its processes at up to ``most`` random moments; yields which."""
    process, seen = start(folder, out, engine), set[int]()
    try:
        for _ in range(most):
            try:
                process.wait(rng.uniform(0.1, 0.8) * seconds)
                break
            except subprocess.TimeoutExpired:
                seen |= set(list_processes(process.pid))
                kind, pid = choose_victim(process, rng)
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(pid, signal.SIGKILL)
                    yield f'{engine} {kind}'
        process.wait(LIMIT_S)  # the driver goes on without its worker
    finally:
        end(process, seen)


def finish(folder: Path, out: Path, engine: str) -> float:
    """Run a job to its end; returns the seconds."""
    begin, process = time.monotonic(), start(folder, out, engine)
    try:
        assert process.wait(LIMIT_S) == 1, out.with_suffix('.log').read_text()
    finally:
        end(process, set())
    return time.monotonic() - begin


def main(argv: Sequence[str] | None = None) -> int:
    """Kill and repeat jobs until ``--count`` kills are done; prints how many, returns 0."""
    parser = argparse.ArgumentParser('python -m tests.fuzz.kill_jobs', description=__doc__)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--count', type=int, default=50)
    parser.add_argument('--engines', nargs='+', default=['local', 'ray'])
    args = parser.parse_args(argv)
    rng, kills, jobs = random.Random(args.seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as name:
        folder, whole, out = (Path(name, part) for part in ('in', 'whole', 'out'))
        save_numbered(folder, IMAGES)
        assert bmp(folder, '--engine', 'local', '--workers', 0, '--out-dir', whole) == 1
        expected = merged(whole)
        seconds = {}
        for engine in args.engines:
            seconds[engine] = finish(folder, out, engine)
            assert merged(out) == expected, f'{engine}: the files differ'
            shutil.rmtree(out)
        while kills.total() < args.count:
            engine, most = rng.choice(args.engines), args.count - kills.total()
            for kind in attack(folder, out, engine, seconds[engine], min(most, 6), rng):
                kills[kind] += 1
                print(kills.total(), kind, flush=True)
            if rng.random() < 0.6 or kills.total() == args.count:
                finish(folder, out, engine)
                assert merged(out) == expected, 'the files differ'
                shutil.rmtree(out)
                jobs += 1
    counts = ', '.join(f'{kind} {count}' for kind, count in sorted(kills.items()))
    print(f'{kills.total()} kills in {jobs} jobs of {IMAGES} images, seed {args.seed}: same files; '
          f'{counts}')  # fmt: skip
    return 0


if __name__ == '__main__':
    sys.exit(main())
