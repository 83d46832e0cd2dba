"""Files of a whole job from its parts: COCO, CSV, one Parquet."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from ..io.atomic import atomic_file
from ..io.dataset_writers import DATASET_WRITERS, write_dataset_files
from ..io.inputs import Failure
from ..io.run import write_failures
from ..io.run_options import OutputError
from .job import DONE, FAILED, Job, mark_path, part_path
from .schema import SCHEMA, from_parquet, to_entry

KINDS = ('parquet', *DATASET_WRITERS)
GROUP_ROWS = 1000  # in a row group of the merged Parquet file
ROWS = 100  # in memory at once as Python objects
MERGED = 'merged'


@dataclass
class MergeReport:
    """Counts and files of a merge."""

    images: int = 0
    people: int = 0
    failures: list[Failure] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


def merge_job(job: Job, kinds: Iterable[str], *, partial: bool = False) -> MergeReport:
    """Write the files of ``kinds`` and ``failures.json`` to the folder ``merged`` of the job.

    Raises:
        OutputError: Shards are not done, unless ``partial``; or a part is damaged.
    """
    kinds, states = set(kinds), job.read_marks().states
    shards = [shard for shard, state in enumerate(states) if state in (DONE, FAILED)]
    if len(shards) < job.shards and not partial:
        raise OutputError(
            f'{job.out}: {len(shards)} of {job.shards} shards are done; run the job first, or '
            'pass --partial'
        )
    report = MergeReport()
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(job.folder.join(MERGED)) if job.folder.is_local else Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            parts: Iterator[pa.Table] = (read_part(job, shard) for shard in shards)
            if 'parquet' in kinds:
                path = out / 'results.parquet'
                stream = stack.enter_context(atomic_file(path))
                parts = _copy(parts, stack.enter_context(parquet.ParquetWriter(stream, SCHEMA)))
                report.files.append(str(path))
            rows = _read_rows(parts, report)
            entries = (to_entry(row) for row in rows if row['error'] is None)
            report.files += map(str, write_dataset_files(out, kinds - {'parquet'}, entries))
            for _ in rows:  # without such files, nothing has consumed them
                pass
        report.files.append(str(write_failures(out, report.failures)))
        if not job.folder.is_local:
            names = [Path(file).name for file in report.files]
            for file, name in zip(report.files, names, strict=True):
                job.folder.put(file, f'{MERGED}/{name}')
            report.files = [f'{job.out}/{MERGED}/{name}' for name in names]
    return report


def read_part(job: Job, shard: int) -> pa.Table:
    """Read the results of a shard.

    Raises:
        OutputError: They are not those of the images of the shard.
    """
    path = part_path(shard)
    first = shard * job.shard_size
    try:
        table = from_parquet(job.folder.read(path))
        if table['index'].to_pylist() != list(range(first, first + job.size_of(shard))):
            raise ValueError('it has other images')
        return table
    except (OSError, ValueError, pa.ArrowException) as error:
        raise OutputError(
            f'{job.out}/{path} is damaged ({error}); remove {mark_path(shard)} and run again'
        ) from error


def _copy(parts: Iterable[pa.Table], writer: Any) -> Iterator[pa.Table]:
    """Yield the parts, and write their rows in equal groups, whatever the size of the shards."""
    rest = SCHEMA.empty_table()
    for part in parts:
        rest = pa.concat_tables([rest, part])
        while rest.num_rows >= GROUP_ROWS:
            writer.write_table(rest.slice(0, GROUP_ROWS).combine_chunks())
            rest = rest.slice(GROUP_ROWS)
        yield part
    writer.write_table(rest.combine_chunks())


def _read_rows(parts: Iterable[pa.Table], report: MergeReport) -> Iterator[dict[str, Any]]:
    for part in parts:
        for batch in part.to_batches(ROWS):
            for row in batch.to_pylist():
                report.images += 1
                report.people += len(row['people'])
                if row['error'] is not None:
                    kind, _, message = row['error'].partition(': ')
                    report.failures.append(Failure(row['path'], kind, message))
                yield row
