"""Run a job of many images to its end, with any pool of workers."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..io.atomic import dump_json
from ..io.images import InputError
from ..io.progress import Reporter, count_of, format_time
from ..io.run_options import OutputError
from ..io.shard import Shard
from .driver import Driver, Pool
from .job import (
    DONE,
    FAILED,
    HEARTBEAT_S,
    PENDING,
    Job,
    Marks,
    check_sources,
    confirm,
    read_job,
    read_running,
    write_manifest,
)
from .sources import list_items
from .storage import open_folder
from .tasks import ShardResult, ShardTask

SHARD_SIZE = 1000


@dataclass(frozen=True)
class JobOptions:
    """What to compute.

    Attributes:
        out: address of the folder of the job.
        sources: see `pipeline.scale.sources.list_items`; paths are absolute.
        shard_size: images in a shard; None: as the job has, or `SHARD_SIZE`.
        part: of the shards, to compute.
        batch: images in a batch.
        retry_failed: compute the failed images of finished shards again.
    """

    out: str
    sources: tuple[str, ...]
    shard_size: int | None = None
    part: Shard = field(default_factory=Shard)
    batch: int = 1
    retry_failed: bool = False


def run_job(
    options: JobOptions, start_pool: Callable[[int], Pool], reporter: Reporter | None = None
) -> Job:
    """Run the shards that are not done; ``start_pool`` gets the largest useful number of workers.

    Raises:
        InputError: A source has no images.
        OutputError: The folder has another job, or cannot be written.
    """
    reporter = reporter or Reporter()
    job = prepare_job(options)
    selected = options.part.select(range(job.shards))
    states = job.read_marks().states
    wanted = {PENDING, FAILED} if options.retry_failed else {PENDING}
    left = sum(states[shard] in wanted for shard in selected)
    reporter.message(
        f'{count_of(job.images, "image")} in {count_of(job.shards, "shard")}; '
        f'{left} of {count_of(len(selected), "shard")} to do'
    )
    progress = _Progress(job, left, reporter)

    def check(fingerprint: dict[str, object]) -> None:
        nonlocal job
        job = confirm(job, fingerprint)

    tasks = (
        ShardTask(job, shard, options.batch, only_failed=states[shard] == FAILED)
        for shard in selected
        if states[shard] in wanted
    )
    pool = start_pool(max(1, left))
    try:
        Driver(pool, tasks, check, progress.add, progress.beat, reporter).run()
    finally:
        pool.close()
        progress.close()
    return job


def prepare_job(options: JobOptions) -> Job:
    """Read the job of the folder, or list the sources and write the manifest of a new one.

    Raises:
        InputError: A source has no images.
        OutputError: The folder has another job, or cannot be written.
    """
    job = read_job(options.out)
    if job is not None:
        check_sources(job, options.sources, options.shard_size)
        job.folder.remove_old_drafts()
        return job
    folder = open_folder(options.out)
    try:
        items = list_items(options.sources, folder.root if folder.is_local else None)
        job = write_manifest(options.out, options.sources, items, options.shard_size or SHARD_SIZE)
    except PermissionError as error:
        raise OutputError(f'cannot write to {options.out} ({error}); choose another') from error
    if not job.images:
        raise InputError(f'no image in {", ".join(options.sources)}')
    return job


class _Progress:
    """Counts the results, logs them and says what is in work."""

    def __init__(self, job: Job, left: int, reporter: Reporter) -> None:
        self._job, self._left, self._reporter = job, left, reporter
        self._started = self._beat = time.monotonic()
        self._file = f'running/{socket.gethostname()}-{os.getpid()}.json'
        self._shards: list[int] = []
        self._done = self._images = 0

    def add(self, task: ShardTask, result: ShardResult | None) -> None:
        """Count and log the result of a shard."""
        assert result is not None, f'{task.name} can be split'
        self._done += 1
        self._images += result.images
        seconds = max(time.monotonic() - self._started, 1e-9)
        for failure in result.failures:
            self._reporter.message(f'failed: {failure}')
        if more := result.failed - len(result.failures):
            self._reporter.message(f'{more} more images of {task.name} failed')
        left = seconds / self._done * (self._left - self._done)
        self._reporter.message(
            f'[{self._done}/{self._left}] {task.name}: {count_of(result.images, "image")}, '
            f'{self._images / seconds:.1f} images a second'
            + (f', ETA {format_time(left)}' if left else '')
        )

    def beat(self, tasks: Sequence[ShardTask]) -> None:
        """Write the shards in work to the folder, now and then."""
        now = time.monotonic()
        if tasks and (not self._shards or now > self._beat + HEARTBEAT_S):
            self._beat, self._shards = now, [task.shard for task in tasks]
            content = {'time': time.time(), 'shards': self._shards}
            self._job.folder.write(self._file, dump_json(content).encode())

    def close(self) -> None:
        """Remove what `beat` has written."""
        if self._shards:
            self._job.folder.remove(self._file)


def describe_status(job: Job, marks: Marks) -> list[str]:
    """Describe the state of a job in lines: shards and images done, running, failed; time left."""
    done, images = marks.count(job, DONE, FAILED)
    with_failures = [shard for shard, state in enumerate(marks.states) if state == FAILED]
    percent = 100 * images / max(job.images, 1)
    running = sorted(set(read_running(job.folder)))
    shown = ', '.join(map(str, running[:10])) + (' ...' if len(running) > 10 else '')
    lines = [
        f'job      {job.out}: {count_of(job.images, "image")} in {count_of(job.shards, "shard")} '
        f'of {job.shard_size}',
        f'done     {count_of(images, "image")}, {count_of(done, "shard")} ({percent:.1f} %)',
        f'running  {count_of(len(running), "shard")}' + (f': {shown}' if running else ''),
    ]
    if with_failures:
        failed = sum(job.read_failed(shard) for shard in with_failures)
        lines.append(
            f'failed   {count_of(failed, "image")} in {count_of(len(with_failures), "shard")}; '
            'again with --retry-failed'
        )
    if rate := marks.rate(job):
        left = format_time((job.images - images) / rate)
        rest = f', {left} left' if done < job.shards else ''
        lines.append(f'speed    {rate:.1f} images a second{rest}')
    return lines
