"""Mutated checkpoints: each is read, or refused in one line, within limits of memory and time.

python -m tests.fuzz.fuzz_checkpoints --seed 0 --count 1000
"""

from __future__ import annotations

import argparse
import io
import os
import random
import resource
import signal
import sys
import tempfile
import traceback
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from pipeline.weights.loading import load_state
from pipeline.weights.manifest import CheckpointError

MEMORY, SECONDS = 2 << 30, 10  # more memory than the process has at the start
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)
CODE = (
    b'cbuiltins\nexec\n',
    b'cos\nsystem\n',
    b'cnumpy\nndarray\n',
    b'ctorch\nload\n',
    b'c__main__\nx\n',
)


def seeds() -> list[bytes]:
    """Checkpoints in both formats, with all that the reader knows."""
    state = {
        'a': torch.arange(60.0).reshape(3, 4, 5),
        'b.c': torch.ones(2).half(),
        'n': torch.tensor(3),
    }
    meta = {'k': np.float64(3), 'sizes': np.arange(6).reshape(2, 3), 'names': ('x', {'y'})}
    contents: list[Any] = [
        state,
        {'state_dict': state, 'meta': meta, 'message_hub': {'loss': HistoryBuffer([1.0], [1])}},
        {'state_dict': {'w': torch.nn.Parameter(torch.ones(3, 3)).T}, 'counts': Counter([1, 1])},
    ]
    files = []
    for content in contents:
        for new in (True, False):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=new)
            files.append(buffer.getvalue())
    return files


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Change, insert, remove, repeat or cut bytes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at, size = rng.randrange(len(changed) + 1), rng.choice((1, 2, 4, 8, 64))
        part = bytes(changed[at : at + size])
        noise = bytes(
            rng.choice((rng.choice(INTERESTING), rng.randrange(256))) for _ in range(size)
        )
        new = rng.choice((noise, noise, b'', part * 2, rng.choice(CODE), part[::-1]))
        changed[at : at + size] = new
    return bytes(changed[: rng.randrange(len(changed) + 1)] if rng.random() < 0.05 else changed)


def mutate_file(data: bytes, rng: random.Random) -> bytes:
    """Mutate the file, or one member of an archive whose checksums then are right."""
    if not data.startswith(b'PK') or rng.random() < 0.2:
        return mutate_bytes(data, rng)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, 'w') as new:
        names = old.namelist()
        chosen = rng.choice([name for name in names if name.endswith('data.pkl')] * 9 + names)
        for name in names:
            content = old.read(name)
            new.writestr(name, mutate_bytes(content, rng) if name == chosen else content)
    return out.getvalue()


def read_in_child(path: Path, canary: Path) -> str:
    """Read a file in a forked process; returns 'read', 'refused', or what went wrong."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.chdir(canary)
        size = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY,) * 2)
        signal.alarm(SECONDS)
        try:
            load_state(path)
            answer = 'read'
        except CheckpointError as error:
            answer = 'refused' if '\n' not in str(error) else f'several lines: {error}'
        except BaseException:  # noqa: BLE001  # any other outcome is a fault
            answer = traceback.format_exc()
        os.write(writer, answer.encode()[:4000])
        os._exit(0)
    os.close(writer)
    with open(reader, 'rb') as pipe:
        answer = pipe.read().decode()
    status = os.waitpid(child, 0)[1]
    if status:
        return f'killed by {signal.Signals(status & 127).name}'
    return 'a file was written' if any(canary.iterdir()) else answer


def main(seed: int, count: int) -> int:
    """Try ``count`` mutations and print the counts; returns 1 after a fault."""
    counts: Counter[str] = Counter()
    torch.set_num_threads(1)  # threads do not survive a fork
    with tempfile.TemporaryDirectory() as folder:
        canary, path = Path(folder, 'canary'), Path(folder, 'w.pth')
        canary.mkdir()
        files = seeds()
        for number in range(count):
            rng = random.Random(f'{seed}-{number}')
            data = mutate_file(rng.choice(files), rng)
            path.write_bytes(data)
            answer = read_in_child(path, canary)
            fault = answer not in ('read', 'refused')
            counts['fault' if fault else answer] += 1
            if fault:
                kept = Path(tempfile.gettempdir(), f'checkpoint_{seed}_{number}.pth')
                kept.write_bytes(data)
                sys.stderr.write(f'{kept}: {answer}\n')
    sys.stdout.write(f'checkpoints, seed {seed}: {count} tries, {dict(counts)}\n')
    return int(counts['fault'] > 0)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--count', type=int, default=1000)
    args = parser.parse_args()
    sys.exit(main(args.seed, args.count))
