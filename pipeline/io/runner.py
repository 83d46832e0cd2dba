"""Reading and writing of the images of a run in background threads."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from errno import EDQUOT, ENOSPC, EROFS
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from .. import __version__
from ..candidates import Candidates
from ..runtime.timing import StageTimer
from ..structures import Image, People, size_of
from .atomic import remove, write_bytes, write_json
from .images import decode_image, read_file
from .inputs import Failure, InputImage
from .progress import Reporter, count_of
from .records import FORMAT, candidates_to_record, people_from_record, read_record, record_path
from .run_options import Pipeline, RunOptions, RunReport
from .writers import WRITERS, FinishedImage, output_path, remove_outputs

WRITE_BEHIND = 2  # images in the queue of the writing thread
LARGE_BYTES = 100_000_000  # of an image that does not wait in that queue, for the memory
# Errors that also affect every later image.
DISK_ERRORS = frozenset({ENOSPC, EDQUOT, EROFS})
T = TypeVar('T')
R = TypeVar('R')


@dataclass
class Job:
    """State of an image from its file to its results."""

    input: InputImage
    provenance: dict[str, Any] = field(default_factory=dict)  # empty: the file cannot be read
    record: dict[str, Any] | None = None  # up to date: the image is done
    changed: tuple[str, ...] = ()  # reasons why the record on disk is outdated
    pixels: Callable[[], Image] | None = None  # decodes the file, once
    image: Image | None = None  # None: nothing to compute
    boxes: Any = None  # result of ``RunOptions.check``
    candidates: Candidates | None = None
    error: Exception | None = None
    seconds: float = 0.0  # in all threads


def list_attempts(jobs: Sequence[Job], reporter: Reporter) -> Iterator[list[Job]]:
    """Yield the jobs with an image as one batch; if that fails, one by one."""
    todo = [job for job in jobs if job.image is not None]
    if todo:
        yield todo
    error = todo[0].error if len(todo) > 1 else None
    if error is not None:
        reporter.message(f'a batch of {len(todo)} images failed ({error}); retrying one by one')
        for job in todo:
            job.error = None
            yield [job]


def describe_origin(pipeline: Pipeline) -> dict[str, Any]:
    """What predictions depend on, apart from their image."""
    return {
        'config': _sha256(pipeline.config_key.encode()),
        'weights': _sha256(json.dumps(pipeline.weights, sort_keys=True).encode()),
        'precision': pipeline.precision,
        'version': __version__,
    }


@contextmanager
def computing(jobs: Sequence[Job]) -> Iterator[None]:
    """Store the time and the error of the block in each job."""
    start = time.perf_counter()
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the other images continue
        for job in jobs:
            job.error = error
    for job in jobs:
        job.seconds += (time.perf_counter() - start) / len(jobs)


class JobReader:
    """Reads the next images while the pipeline computes the current ones."""

    def __init__(self, pipeline: Pipeline, options: RunOptions, timer: StageTimer) -> None:
        self._options, self._timer = options, timer
        self._provenance = describe_origin(pipeline)

    def batches(self, images: Iterable[InputImage]) -> Generator[list[Job], None, None]:
        """Yield batches of ``batch_images`` jobs with the content of their files."""
        size = self._options.batch_images
        with (
            ThreadPoolExecutor(1) as pool,
            closing(prefetch(pool, self._read, images, size)) as jobs,
        ):
            while batch := list(islice(jobs, size)):
                yield batch

    def _read(self, source: InputImage) -> Job:
        """Read an image in the reading thread; decode it if it is not done."""
        start, job = time.perf_counter(), Job(source)
        try:
            with self._timer('read'):
                data = read_file(source.path)
            boxes = self._options.boxes.get(source.name)
            job.pixels = self._decoder(data, source.path)
            job.provenance = self._provenance | {
                'boxes': None if boxes is None else _sha256(json.dumps(boxes).encode()),
                'photo': _sha256(data),
            }
            self._find_record(job)
            if job.record is None:
                image = job.pixels()
                if boxes is not None:
                    job.boxes = self._options.check(boxes, size_of(image))
                job.image = image
        except Exception as error:  # noqa: BLE001 - reported in the order of the images
            job.error = error
        job.seconds = time.perf_counter() - start
        return job

    def _decoder(self, data: bytes, path: Path) -> Callable[[], Image]:
        @cache
        def pixels() -> Image:
            with self._timer('read'):
                return decode_image(data, path)

        return pixels

    def _find_record(self, job: Job) -> None:
        """Set the record of the job, or the reasons why the one on disk is outdated."""
        path = record_path(self._options.out_dir, job.input.key)
        if not self._options.resume or not path.is_file():
            return
        record = read_record(path)
        if record is None or record.get('format') != FORMAT:
            part = 'content' if record is None else 'format'
            job.changed = (f'{part} of the prediction',)
            return
        before = record.get('made_with', {})
        job.changed = tuple(k for k, value in job.provenance.items() if before.get(k) != value)
        job.record = None if job.changed else record


class JobWriter:
    """Writes and counts the last images while the pipeline computes the next ones."""

    def __init__(
        self,
        pipeline: Pipeline,
        options: RunOptions,
        timer: StageTimer,
        report: RunReport,
        reporter: Reporter,
    ) -> None:
        self._options, self._timer, self._report, self._reporter = options, timer, report, reporter
        self._min_score = pipeline.min_score
        self._written_with = options.written_with(pipeline.min_score)
        self._writers = [WRITERS[choice] for choice in sorted(options.save & set(WRITERS))]
        self._reasons: set[str] = set()
        self._waiting: deque[tuple[Job, Future[dict[str, Any]]]] = deque()
        self._pool = ThreadPoolExecutor(1)
        self._done: set[str] = set()

    def begin(self, jobs: Sequence[Job]) -> None:
        """Remove outdated outputs of the images to compute."""
        for job in jobs:
            if job.provenance and job.record is None:
                self._report_change(job)
                remove(record_path(self._options.out_dir, job.input.key))
                remove_outputs(self._options.out_dir, job.input.key)

    def write(self, jobs: Sequence[Job]) -> None:
        """Write the results of the jobs in the background.

        Raises:
            OSError: One of `DISK_ERRORS`; other errors are failures of their image.
        """
        self._waiting += [(job, self._pool.submit(self._save, job)) for job in jobs]
        large = any(job.image is not None and job.image.size > LARGE_BYTES for job in jobs)
        self._finish(0 if large else WRITE_BEHIND)

    def close(self) -> None:
        """Wait for the writing thread."""
        try:
            self._finish(0)
        finally:
            self._pool.shutdown()
            self._report.done = frozenset(self._done)

    def _finish(self, limit: int) -> None:
        """Report finished images in order; wait until at most ``limit`` are in the queue."""
        while self._waiting and (len(self._waiting) > limit or self._waiting[0][1].done()):
            job, writing = self._waiting[0]
            try:
                record = writing.result()
            except Exception as error:
                if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                    self._waiting.clear()
                    raise
                self._count_failure(job.input, error)
            else:
                self._count(job, record)
            self._waiting.popleft()

    def _count_failure(self, source: InputImage, error: Exception) -> None:
        failure = Failure.from_error(source.path, error)
        self._report.failures.append(failure)
        self._reporter.message(f'failed: {failure.describe()}')
        self._reporter.update(source.name, 'failed')

    def _count(self, job: Job, record: Mapping[str, Any]) -> None:
        people, dropped = len(record['people']), len(record['dropped'])
        self._done.add(job.input.name)
        self._report.people += people
        self._report.empty += people == 0
        self._report.dropped += dropped
        self._report.computed += job.record is None
        self._report.resumed += job.record is not None
        self._reporter.update(
            job.input.name, f'{count_of(people, "person", "people")}, {job.seconds:.2f} s'
        )

    def _save(self, job: Job) -> dict[str, Any]:
        """Write the missing outputs and the record, in the writing thread."""
        start = time.perf_counter()
        if job.error is not None:
            raise job.error
        if job.record is None:
            record = self._save_new(job)
        else:
            record = job.record
            if record['written_with'] != self._written_with:
                from .earlier_runs import rewrite_record

                out_dir, key = self._options.out_dir, job.input.key
                record = rewrite_record(out_dir, key, record, self._min_score, self._written_with)
            self._write(job, partial(people_from_record, record))
        job.seconds += time.perf_counter() - start
        return record

    def _save_new(self, job: Job) -> dict[str, Any]:
        assert job.candidates is not None
        people = job.candidates.keep(self._min_score)
        with self._timer('write'):
            record = candidates_to_record(job.candidates, self._min_score)
        self._write(job, lambda: people)
        record |= {
            'input': job.input.name,
            'source': os.path.abspath(job.input.path),
            'seconds': round(job.seconds, 4),
            'made_with': job.provenance,
            'written_with': self._written_with,
        }
        with self._timer('write'):
            write_json(record_path(self._options.out_dir, job.input.key), record)
        return record

    def _write(self, job: Job, get_people: Callable[[], People]) -> None:
        """Write the outputs that are not in the folder."""
        paths = {w: output_path(self._options.out_dir, w, job.input.key) for w in self._writers}
        missing = {writer: path for writer, path in paths.items() if not path.is_file()}
        if not missing:
            return
        assert job.pixels is not None
        done = FinishedImage(get_people(), job.pixels, self._options.style, job.candidates)
        for writer, path in missing.items():
            if writer.needs_image:
                done.image()  # decode outside of the timer
            with self._timer('write'):
                write_bytes(path, writer.render(done))

    def _report_change(self, job: Job) -> None:
        """Report, once per reason, why finished images are computed again."""
        if not job.changed:
            return
        self._report.redone += 1
        reason = ', '.join(job.changed).replace('photo', 'image')  # the key keeps its name
        if reason not in self._reasons:
            self._reasons.add(reason)
            self._reporter.message(
                f'{job.input.name}: {reason} changed, computing it again (reported once for all '
                'images with this change)'
            )


def prefetch(
    pool: Executor, prepare: Callable[[T], R], items: Iterable[T], depth: int
) -> Generator[R, None, None]:
    """Yield the result of ``prepare`` for every item; the next ``depth`` run in the background.

    The rest is cancelled if the caller stops.
    """
    rest: Iterator[T] = iter(items)
    futures: deque[Future[R]] = deque()
    try:
        futures.extend(pool.submit(prepare, item) for item in islice(rest, depth + 1))
        while futures:
            yield futures.popleft().result()
            futures.extend(pool.submit(prepare, item) for item in islice(rest, 1))
    finally:
        for future in futures:
            future.cancel()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
