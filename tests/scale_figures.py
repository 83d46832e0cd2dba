"""Figures of docs/user_guide/cluster.md: speed of the engines, and the driver of a huge job.

python -m tests.scale_figures speed --images 2000    # the embedded models on drawn images
python -m tests.scale_figures overhead --images 2000    # made-up people
python -m tests.scale_figures driver --shards 1000000    # made-up workers and marks
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from pipeline.io.images import read_image
from pipeline.io.progress import Reporter
from pipeline.scale import run as run_module
from pipeline.scale.job import GROUP_SHARDS, Job
from pipeline.scale.run import JobOptions, run_job
from pipeline.scale.storage import Entry, Folder
from pipeline.scale.tasks import ShardResult
from tests.job_fakes import ScriptedPool, bmp, load_fake, save_numbered
from tests.run_fakes import run as run_plain

ENGINES = (('none', 1), ('local', 1), ('local', 2), ('ray', 1), ('ray', 2))


def run_command(*arguments: object) -> tuple[str, float, float]:
    """Run ``bmp``; returns its output, seconds and CPU seconds with those of its children."""
    begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, '-m', 'pipeline', *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout + done.stderr, time.monotonic() - begin, cpu


def measure_speed(images: int, side: int) -> None:
    """Print images a second of each engine, from its first shard to its last, and CPU seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder, results = Path(name, 'in'), set()
        run_command('draw-crowd', folder, '--num-images', images, '--size', side, side, '--seed', 0)
        shard = max(images // 40, 1)
        for engine, workers in ENGINES:
            out = Path(name, f'{engine}{workers}')
            options = ['--out-dir', out, '--save', 'coco']
            if engine != 'none':
                options += ['--engine', engine, '--workers', workers, '--shard-size', shard]
                options += ['--threads', 1]
            text, seconds, cpu = run_command('run', folder, *options)
            rates = re.findall(r'speed +([\d.]+) images', text) or [images / seconds]
            found = out / ('coco_results.json' if engine == 'none' else 'merged/coco_results.json')
            results.add(found.read_bytes())
            print(
                f'{engine:6} {workers}: {float(rates[0]):6.2f} images a second, {seconds:6.1f} s '
                f'with the start, {1000 * cpu / images:6.1f} CPU ms an image',
                flush=True,
            )
        print('equal results' if len(results) == 1 else 'DIFFERENT RESULTS')


class MadeUpFolder(Folder):
    """Lists the mark of every second shard; writes nothing."""

    def list(self, path: str) -> Iterator[Entry]:
        group = int(path.rpartition('/')[2])
        for shard in range(group * GROUP_SHARDS, (group + 1) * GROUP_SHARDS, 2):
            yield Entry(f'{shard:07}.done', 0, 1e9 + shard)

    def write(self, path: str, data: bytes) -> None:
        pass

    def remove(self, path: str) -> None:
        pass


class MadeUpPool(ScriptedPool):
    """Does nothing, at once."""

    def submit(self, worker: int, task: Any) -> None:
        super().submit(worker, task)
        self.done.clear()


def measure_driver(shards: int) -> None:
    """Print time and memory of a driver whose workers and marks are made up."""
    logging.disable()
    job = Job('/made-up', ('x',), 1000, 1000 * shards, {'config': 'x'})
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = ShardResult(1000)
    with (
        mock.patch('pipeline.scale.job.open_folder', lambda _: MadeUpFolder('/made-up')),
        mock.patch.object(run_module, 'prepare_job', lambda _: job),
        mock.patch.object(
            run_module._Progress, 'add', _add_result(run_module._Progress.add, result)
        ),
    ):
        run_job(JobOptions('/made-up', ('x',)), lambda _: MadeUpPool(), Reporter())
    seconds = time.process_time() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f'{shards} shards, {shards // 2} to do: {seconds:.1f} CPU s, '
        f'{1e6 * seconds / shards:.0f} us a shard, {after / 1024:.0f} MiB, '
        f'{(after - before) / 1024:.0f} more than before'
    )


def measure_overhead(images: int) -> None:
    """Print CPU ms an image of a run and of a job whose three people an image are made up."""
    logging.disable()
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        folder, seconds = save_numbered(Path(name, 'in'), images), {}
        for kind, run in {
            'reading and making people up': lambda: [
                load_fake('', {})(read_image(path)) for path in folder.rglob('*.png')
            ],
            'bmp run, JSON': lambda: run_plain(folder, Path(name, 'plain'), save=('json',)),
            'a job': lambda: bmp(folder, '--workers', 0, '--out-dir', Path(name, 'job'),
                                 '--save', 'parquet'),
        }.items():  # fmt: skip
            start = time.process_time()
            run()
            seconds[kind] = 1000 * (time.process_time() - start) / images
    for kind, milliseconds in seconds.items():
        print(f'{kind}: {milliseconds:.2f} CPU ms an image')


def _add_result(add: Any, result: ShardResult) -> Any:
    return lambda self, task, _: add(self, task, result)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser('python -m tests.scale_figures', description=__doc__)
    parser.add_argument('figure', choices=('speed', 'overhead', 'driver'))
    parser.add_argument('--images', type=int, default=2000)
    parser.add_argument('--side', type=int, default=160)
    parser.add_argument('--shards', type=int, default=1_000_000)
    args = parser.parse_args(argv)
    if args.figure == 'speed':
        measure_speed(args.images, args.side)
    elif args.figure == 'overhead':
        measure_overhead(args.images)
    else:
        measure_driver(args.shards)
    return 0


if __name__ == '__main__':
    sys.exit(main())
