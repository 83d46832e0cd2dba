"""The folder of a job: manifest, parts, marks of the finished shards.

| file | content |
|---|---|
| ``job.json`` | sources, counts and the fingerprint; written last, so the manifest is complete |
| ``manifest/FILE.parquet`` | images of `MANIFEST_SHARDS` shards, one row group per shard |
| ``parts/GROUP/SHARD.parquet`` | results of a shard; the same bytes from every process |
| ``done/GROUP/SHARD.done`` | the part is complete; empty, or the number of failed images |
| ``running/PROCESS.json`` | what a command works on; renewed every `HEARTBEAT_S` |
"""

from __future__ import annotations

import json
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from io import BytesIO
from itertools import islice
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from ..io.atomic import dump_json
from ..io.run_options import OutputError, Pipeline
from ..io.runner import describe_origin
from ..values import shorten
from .sources import Item
from .storage import Folder, open_folder

FORMAT = 'bbox-mask-pose-job/1'
GROUP_SHARDS = 1000  # in a folder of parts or marks
MANIFEST_SHARDS = 100  # in a file of the manifest, which is read as a whole
HEARTBEAT_S = 15.0
STALE_S = 4 * HEARTBEAT_S
RATE_WINDOW_S = 600.0
PENDING, DONE, FAILED = 0, 1, 2  # states of a shard; FAILED: done, with failed images
_ITEM = pa.schema(
    [
        ('name', pa.string()),
        ('path', pa.string()),
        ('image_id', pa.string()),
        ('offset', pa.int64()),
        ('size', pa.int64()),
    ]
)


@dataclass(frozen=True)
class Job:
    """A job in its folder.

    Attributes:
        out: address of the folder.
        sources: of the images.
        shard_size: images in a shard; the last one may have fewer.
        images: in all.
        made_with: fingerprint of config, weights and version; empty: not known yet.
    """

    out: str
    sources: tuple[str, ...]
    shard_size: int
    images: int
    made_with: Mapping[str, Any]

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.images // self.shard_size)

    @property
    def folder(self) -> Folder:
        """The folder."""
        return open_folder(self.out)

    def size_of(self, shard: int) -> int:
        """Return the number of images of a shard."""
        return min(self.shard_size, self.images - shard * self.shard_size)

    def read_items(self, shard: int) -> list[Item]:
        """Read the images of a shard from the manifest."""
        data = _read_manifest(self.folder, shard // MANIFEST_SHARDS)
        table = parquet.ParquetFile(pa.BufferReader(data)).read_row_group(shard % MANIFEST_SHARDS)
        return [Item(**row) for row in table.to_pylist()]

    def write_part(self, shard: int, data: bytes, failed: int) -> None:
        """Write the results of a shard, then its mark."""
        self.folder.write(part_path(shard), data)
        self.folder.write(mark_path(shard), str(failed).encode() if failed else b'')

    def read_failed(self, shard: int) -> int:
        """Read the number of failed images of a finished shard."""
        return int(self.folder.read(mark_path(shard)) or 0)

    def read_marks(self) -> Marks:
        """List the marks of all groups of shards, a request or more for each."""
        marks = Marks(bytearray(self.shards), array('d', bytes(8 * self.shards)))
        for group in range(-(-self.shards // GROUP_SHARDS)):
            for entry in self.folder.list(f'done/{group:04}'):
                number = entry.name.removesuffix('.done')
                if number.isdecimal() and int(number) < self.shards:
                    marks.states[int(number)] = FAILED if entry.size else DONE
                    marks.times[int(number)] = entry.modified
        return marks


@dataclass(frozen=True)
class Marks:
    """State and time of the mark of each shard; 9 bytes a shard."""

    states: bytearray
    times: array[float]

    def count(self, job: Job, *states: int) -> tuple[int, int]:
        """Count the shards in one of the states, and their images."""
        shards = sum(self.states.count(state) for state in states)
        images = shards * job.shard_size
        if self.states and self.states[-1] in states:
            images -= job.shard_size - job.size_of(job.shards - 1)
        return shards, images

    def rate(self, job: Job) -> float:
        """Images a second in the last ten minutes of work; 0: not known."""
        last = max(self.times, default=0.0)
        recent = [t for t in self.times if t > last - RATE_WINDOW_S and t]
        seconds = last - min(recent, default=last)
        return (len(recent) - 1) * job.shard_size / seconds if seconds > 0 else 0.0


@lru_cache(1)
def _read_manifest(folder: Folder, number: int) -> bytes:
    return folder.read(f'manifest/{number:05}.parquet')


def part_path(shard: int) -> str:
    """Return the path of the results of a shard."""
    return f'parts/{shard // GROUP_SHARDS:04}/{shard:07}.parquet'


def mark_path(shard: int) -> str:
    """Return the path of the mark of a shard."""
    return f'done/{shard // GROUP_SHARDS:04}/{shard:07}.done'


def describe_pipeline(pipeline: Pipeline) -> dict[str, Any]:
    """Return what the rows of an image depend on, apart from the image."""
    return describe_origin(pipeline) | {'min_score': pipeline.min_score}


def read_job(out: str) -> Job | None:
    """Read the job of a folder; None: there is none.

    Raises:
        OutputError: ``job.json`` is of another version or damaged.
    """
    folder = open_folder(out)
    try:
        content = json.loads(folder.read('job.json'))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise OutputError(f'{out}/job.json is damaged ({error}); use another --out-dir') from error
    if content.pop('format', None) != FORMAT:
        raise OutputError(f'{out}/job.json is of another version; use another --out-dir')
    return Job(folder.address, **content | {'sources': tuple(content['sources'])})


def write_manifest(out: str, sources: Sequence[str], items: Iterable[Item], shard_size: int) -> Job:
    """Write the manifest and return the job; one file of it at a time is in memory."""
    folder, rest, images = open_folder(out), iter(items), 0
    number = 0
    while True:
        buffer, before = BytesIO(), images
        with parquet.ParquetWriter(buffer, _ITEM, compression='zstd') as writer:
            for _ in range(MANIFEST_SHARDS):
                rows = [asdict(item) for item in islice(rest, shard_size)]
                if not rows:
                    break
                writer.write_table(pa.Table.from_pylist(rows, _ITEM), shard_size)
                images += len(rows)
        if images == before:
            return Job(folder.address, tuple(sources), shard_size, images, {})
        folder.write(f'manifest/{number:05}.parquet', buffer.getvalue())
        number += 1


def confirm(job: Job, made_with: Mapping[str, Any]) -> Job:
    """Write the fingerprint of a new job, or compare it with that of the job.

    Raises:
        OutputError: The folder has results of another config, other weights or another version.
    """
    stored = job if job.made_with else read_job(job.out)
    if stored is None:
        job = replace(job, made_with=dict(made_with))
        content = {k: v for k, v in asdict(job).items() if k != 'out'}
        job.folder.write('job.json', dump_json({'format': FORMAT, **content}, indent=1).encode())
        return job
    check_sources(stored, job.sources, job.shard_size)
    changed = [k for k in made_with if stored.made_with.get(k) != made_with[k]]
    if changed:
        raise OutputError(
            f'{job.out} holds another job: {", ".join(changed)} changed; choose another --out-dir'
        )
    return stored


def check_sources(job: Job, sources: Sequence[str], shard_size: int | None) -> None:
    """Check that a job is the one that a command describes.

    Raises:
        OutputError: It has other sources or shards.
    """
    if job.sources != tuple(sources):
        raise OutputError(
            f'{job.out} holds another job: its source is {shorten(list(job.sources))}, not '
            f'{shorten(list(sources))}; choose another --out-dir'
        )
    if shard_size not in (None, job.shard_size):
        raise OutputError(
            f'{job.out} holds a job with --shard-size {job.shard_size}, not {shard_size}; leave '
            'the option out, or choose another --out-dir'
        )


def read_running(folder: Folder) -> Iterator[int]:
    """Read the shards that processes work on now."""
    for entry in folder.list('running'):
        try:
            content = json.loads(folder.read(f'running/{entry.name}'))
        except (FileNotFoundError, ValueError):
            continue
        if content['time'] > time.time() - STALE_S:
            yield from content['shards']
