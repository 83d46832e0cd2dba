"""What a worker does for one shard: read, predict, write the part and its mark."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from ..io.images import ImageReadError, decode_image, read_file
from ..io.inputs import Failure, InputImage
from ..io.progress import Reporter
from ..io.run_options import Pipeline
from ..io.runner import Job as ImageJob
from ..io.runner import computing, list_attempts, prefetch
from ..runtime.timing import StageTimer
from .job import Job, part_path
from .schema import fail, from_parquet, succeed, to_parquet
from .sources import Item
from .storage import is_address, read_range, retry

READERS, READ_AHEAD = 16, 32  # threads and images, from object stores
DECODE_TRIES = 3  # of a remote file, whose body may be cut
SHOWN = 5  # failures of a shard in the log
KILLER = 'WorkerDied: the worker process died twice while it computed this image'


@dataclass(frozen=True)
class ShardResult:
    """What a worker reports about a shard."""

    images: int
    failed: int = 0
    failures: tuple[str, ...] = ()  # the first of them


@dataclass(frozen=True)
class ShardTask:
    """A shard to compute; calling it does.

    Attributes:
        job: of the shard.
        shard: number.
        batch: images in a batch.
        only_failed: compute the images again that failed before, and keep the others.
        killers: images (position in the shard) that are not computed, since they kill workers.
        probe: compute only these images (start, stop) and write nothing, to find such an image.
    """

    job: Job
    shard: int
    batch: int = 1
    only_failed: bool = False
    killers: tuple[int, ...] = ()
    probe: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """Name in messages."""
        part = '' if self.probe is None else f', images {self.probe[0]} to {self.probe[1] - 1}'
        return f'shard {self.shard}{part}'

    @property
    def limits(self) -> tuple[int, int]:
        """First image and the one after the last."""
        return self.probe or (0, self.job.size_of(self.shard))

    def split(self) -> list[ShardTask]:
        """Return two probes that cover the images of this task; none if it is one image."""
        start, stop = self.limits
        middle = (start + stop) // 2
        if self.probe and middle == start:
            return []
        halves = [(start, middle), (middle, stop)]
        return [replace(self, probe=(a, b)) for a, b in halves if a < b]

    def __call__(self, pipeline: Pipeline) -> ShardResult:
        """Compute the images and write the part and its mark, unless this is a probe."""
        rows = self._read_rows() if self.only_failed else {}
        start, stop = self.limits
        items = self.job.read_items(self.shard)
        first = self.job.shard_size * self.shard
        for i in self.killers:
            rows[i] = fail(first + i, items[i], KILLER)
        todo = [i for i in range(start, stop) if i not in rows]
        computed = predict(pipeline, [items[i] for i in todo], self.batch)
        for i, image_job in zip(todo, computed, strict=True):
            rows[i] = _make_row(first + i, items[i], image_job, pipeline.min_score)
        if self.probe:
            return ShardResult(0)
        ordered = [rows[i] for i in range(start, stop)]
        failures = [f'{row["path"]}: {row["error"]}' for row in ordered if row.get('error')]
        self.job.write_part(self.shard, to_parquet(ordered), len(failures))
        return ShardResult(len(ordered), len(failures), tuple(failures[:SHOWN]))

    def _read_rows(self) -> dict[int, dict[str, Any]]:
        """Read the rows of the images that did not fail."""
        rows = from_parquet(self.job.folder.read(part_path(self.shard))).to_pylist()
        return {i: row for i, row in enumerate(rows) if row['error'] is None}


def predict(pipeline: Pipeline, items: Sequence[Item], batch: int) -> Iterator[ImageJob]:
    """Read, decode and predict images in batches; the next ones are read meanwhile."""
    remote = any(is_address(item.path) for item in items)
    readers, ahead = (READERS, READ_AHEAD) if remote else (1, batch)
    with (
        ThreadPoolExecutor(readers) as pool,
        ThreadPoolExecutor(1) as decoder,
        closing(prefetch(pool, _read, items, ahead)) as read,
        closing(prefetch(decoder, _decode, read, batch)) as decoded,
    ):
        while jobs := list(islice(decoded, batch)):
            for todo in list_attempts(jobs, Reporter()):
                with computing(todo):
                    images = [job.image for job in todo if job.image is not None]
                    found = pipeline.predict_candidates(images, [None] * len(todo), StageTimer())
                    for job, candidates in zip(todo, found, strict=True):
                        job.candidates = candidates
            yield from jobs


def _make_row(index: int, item: Item, job: ImageJob, min_score: float | None) -> dict[str, Any]:
    error = job.error
    if error is None and job.candidates is not None:
        try:
            sha256 = str(job.provenance['photo'])
            return succeed(index, item, sha256, job.candidates, min_score)
        except ValueError as wrong:
            error = wrong
    failure = Failure.from_error(item.path, error or RuntimeError('no result'))
    return fail(index, item, f'{failure.error}: {failure.message}')


def _read(item: Item) -> tuple[Item, bytes | Exception]:
    try:
        return item, _read_bytes(item)
    except Exception as error:  # noqa: BLE001 - a row with the error
        return item, error


def _read_bytes(item: Item) -> bytes:
    if not is_address(item.path) and item.offset < 0:
        return read_file(item.path)
    try:
        return retry(lambda: read_range(item.path, item.offset, item.size))
    except FileNotFoundError:
        step = 'check the address'
        raise ImageReadError(item.path, 'no such file or directory', step) from None


def _decode(read: tuple[Item, bytes | Exception]) -> ImageJob:
    item, data = read
    job = ImageJob(InputImage(Path(item.path), item.name, Path()))
    tries = DECODE_TRIES if is_address(item.path) else 1
    while isinstance(data, bytes):
        tries -= 1
        try:
            job.image = decode_image(data, item.path)
            job.provenance = {'photo': hashlib.sha256(data).hexdigest()}
            return job
        except ImageReadError as error:
            data = _read(item)[1] if tries else error
    job.error = data
    return job
