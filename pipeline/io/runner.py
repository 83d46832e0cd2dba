"""Images on their way through a run; reading and writing have threads of their own."""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from errno import EDQUOT, ENOSPC, EROFS
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from .. import __version__
from ..runtime.timing import StageTimer
from ..structures import Image, People, size_of
from .atomic import remove, write_bytes, write_json
from .images import decode_image, read_file
from .inputs import Failure, InputImage
from .progress import Reporter
from .records import people_from_record, people_to_record, read_record, record_path
from .run_options import Pipeline, RunOptions, RunReport
from .writers import WRITERS, FinishedImage, ImageWriter, output_path

WRITE_BEHIND = 2  # images that may wait to be written while others are computed
# Errors that every further image would hit as well.
HOPELESS = frozenset({ENOSPC, EDQUOT, EROFS})
T = TypeVar('T')
R = TypeVar('R')


@dataclass
class Job:
    """An image on its way from its file to its results."""

    photo: InputImage
    provenance: dict[str, Any] = field(default_factory=dict)  # empty: the file cannot be read
    record: dict[str, Any] | None = None  # usable: nothing has to be computed
    changed: tuple[str, ...] = ()  # why the record on disk is not usable
    pixels: Callable[[], Image] | None = None  # decodes the file, once
    image: Image | None = None  # to be computed
    boxes: Any = None  # for the pipeline
    people: People | None = None
    error: Exception | None = None
    seconds: float = 0.0  # for all of it, in whatever thread

    def result(self) -> FinishedImage:
        """The people, with the image for the writers that draw.

        Raises:
            Exception: what went wrong with this image.
        """
        if self.error is not None:
            raise self.error
        assert self.pixels is not None
        people = people_from_record(self.record or {}) if self.people is None else self.people
        return FinishedImage(people, self.pixels)


@dataclass(frozen=True)
class Batch:
    """Jobs that run at the same time."""

    jobs: list[Job]

    @property
    def images(self) -> list[Image]:
        """The images to compute."""
        return [job.image for job in self.jobs if job.image is not None]

    @property
    def boxes(self) -> list[Any]:
        """What the pipeline gets with each of `images`."""
        return [job.boxes for job in self.jobs if job.image is not None]

    def attempts(self, reporter: Reporter) -> Iterator[Batch]:
        """The jobs that have an image; when they fail as one batch, each on its own."""
        todo = [job for job in self.jobs if job.image is not None]
        if todo:
            yield Batch(todo)
        error = todo[0].error if len(todo) > 1 else None
        if error is not None:
            reporter.message(f'{len(todo)} images failed in one batch ({error}): one by one')
            for job in todo:
                job.error = None
                yield Batch([job])

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Time the block and keep its error, for each of the jobs."""
        start = time.perf_counter()
        try:
            yield
        except Exception as error:  # noqa: BLE001 - one image must not stop the others
            for job in self.jobs:
                job.error = error
        for job in self.jobs:
            job.seconds += (time.perf_counter() - start) / len(self.jobs)

    def set_people(self, people: Sequence[People]) -> None:
        """Keep the people of each of `images`."""
        for job, found in zip(self.jobs, people, strict=True):
            job.people = found


class JobReader:
    """Reads the next images while the present ones are computed."""

    def __init__(self, pipeline: Pipeline, options: RunOptions, timer: StageTimer) -> None:
        self._options, self._timer = options, timer
        self._made_with = {
            'config': _sha256(pipeline.config_text.encode()),
            'weights': _sha256(json.dumps(pipeline.weights, sort_keys=True).encode()),
            'precision': pipeline.precision,
            'version': __version__,
        }

    def batches(self, photos: Iterable[InputImage]) -> Generator[Batch, None, None]:
        """Jobs with what their files hold, ``batch_images`` at a time."""
        size = self._options.batch_images
        with (
            ThreadPoolExecutor(1) as pool,
            closing(prefetch(pool, self._read, photos, size)) as jobs,
        ):
            while batch := list(islice(jobs, size)):
                yield Batch(batch)

    def _read(self, photo: InputImage) -> Job:
        """Read an image, and decode it if it is not done yet; in the reading thread."""
        start, job = time.perf_counter(), Job(photo)
        try:
            with self._timer('read'):
                data = read_file(photo.path)
            boxes = self._options.boxes.get(photo.name)
            job.pixels = self._decoder(data, photo.path)
            job.provenance = self._made_with | {
                'boxes': None if boxes is None else _sha256(json.dumps(boxes).encode()),
                'photo': _sha256(data),
            }
            self._find_record(job)
            if job.record is None:
                image = job.pixels()
                if boxes is not None:
                    job.boxes = self._options.check(boxes, size_of(image))
                job.image = image
        except Exception as error:  # noqa: BLE001 - reported when it is the image's turn
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
        """Give the job its record, or why the one on disk is not usable."""
        path = record_path(self._options.out_dir, job.photo.name)
        if not self._options.resume or not path.is_file():
            return
        record = read_record(path)
        if record is None:
            job.changed = ('content of the prediction',)
            return
        before = record.get('made_with', {})
        job.changed = tuple(k for k, value in job.provenance.items() if before.get(k) != value)
        job.record = None if job.changed else record


class JobWriter:
    """Writes the last images while the next ones are computed, and counts them."""

    def __init__(
        self, options: RunOptions, timer: StageTimer, report: RunReport, reporter: Reporter
    ) -> None:
        self._options, self._timer, self._report, self._reporter = options, timer, report, reporter
        self._writers = [WRITERS[choice] for choice in sorted(options.save & set(WRITERS))]
        self._reasons: set[str] = set()
        self._waiting: deque[tuple[Job, Future[int]]] = deque()
        self._pool = ThreadPoolExecutor(1)
        self._done: set[str] = set()

    def begin(self, jobs: Sequence[Job]) -> None:
        """Remove what is outdated about the images that are going to be computed."""
        for job in jobs:
            if job.provenance and job.record is None:
                self._report_change(job)
                remove(record_path(self._options.out_dir, job.photo.name))
                for writer in WRITERS.values():
                    remove(self._path(writer, job))

    def write(self, jobs: Sequence[Job]) -> None:
        """Write the results of the jobs in the background.

        Raises:
            OSError: one of `HOPELESS`; any other error is a failure of its image alone.
        """
        self._waiting += [(job, self._pool.submit(self._save, job)) for job in jobs]
        self._finish(WRITE_BEHIND)

    def close(self) -> None:
        """Wait until everything is written."""
        try:
            self._finish(0)
        finally:
            self._pool.shutdown()
            self._report.done = frozenset(self._done)

    def _finish(self, limit: int) -> None:
        """Report what is written, in order; wait until at most ``limit`` images are not."""
        while self._waiting and (len(self._waiting) > limit or self._waiting[0][1].done()):
            job, writing = self._waiting[0]
            try:
                people = writing.result()
            except Exception as error:
                if isinstance(error, OSError) and error.errno in HOPELESS:
                    self._waiting.clear()
                    raise
                self._count_failure(job.photo, error)
            else:
                self._count(job, people)
            self._waiting.popleft()

    def _count_failure(self, photo: InputImage, error: Exception) -> None:
        failure = Failure.of(photo.path, error)
        self._report.failures.append(failure)
        self._reporter.message(f'failed: {failure.described()}')
        self._reporter.photo(photo.name, 'failed')

    def _count(self, job: Job, people: int) -> None:
        self._done.add(job.photo.name)
        self._report.people += people
        self._report.computed += job.record is None
        self._report.resumed += job.record is not None
        self._reporter.photo(job.photo.name, f'{people} people, {job.seconds:.2f} s')

    def _save(self, job: Job) -> int:
        """Write what is asked for and missing, the record last; in the writing thread."""
        start = time.perf_counter()
        if job.error is None and job.record is not None:
            writers = [w for w in self._writers if not self._path(w, job).is_file()]
            people = len(job.record['people'])
            if writers:
                self._write(job, job.result(), writers)
        else:
            people = self._save_new(job, job.result())
        job.seconds += time.perf_counter() - start
        return people

    def _save_new(self, job: Job, done: FinishedImage) -> int:
        with self._timer('write'):
            record = people_to_record(done.people)
            record |= {'input': job.photo.name, 'made_with': job.provenance}
        self._write(job, done, self._writers)
        with self._timer('write'):
            write_json(record_path(self._options.out_dir, job.photo.name), record)
        return len(done.people)

    def _write(self, job: Job, done: FinishedImage, writers: Sequence[ImageWriter]) -> None:
        for writer in writers:
            if writer.needs_image:
                done.image()  # so that its time counts as reading
            with self._timer('write'):
                write_bytes(self._path(writer, job), writer.render(done))

    def _report_change(self, job: Job) -> None:
        """Say, once per reason, why images that were done are computed again."""
        if not job.changed:
            return
        self._report.redone += 1
        reason = ', '.join(job.changed)
        if reason not in self._reasons:
            self._reasons.add(reason)
            self._reporter.message(
                f'{job.photo.name}: done before with other {reason}, so it is computed again '
                '(the same holds for every image with the same change)'
            )

    def _path(self, writer: ImageWriter, job: Job) -> Path:
        return output_path(self._options.out_dir, writer, job.photo.name)


def prefetch(
    pool: Executor, prepare: Callable[[T], R], items: Iterable[T], depth: int
) -> Generator[R, None, None]:
    """What ``prepare`` returns for every item, in order; the next ``depth`` are being prepared.

    What has not begun is cancelled when the caller stops.
    """
    rest: Iterator[T] = iter(items)
    begun: deque[Future[R]] = deque()
    try:
        begun.extend(pool.submit(prepare, item) for item in islice(rest, depth + 1))
        while begun:
            yield begun.popleft().result()
            begun.extend(pool.submit(prepare, item) for item in islice(rest, 1))
    finally:
        for future in begun:
            future.cancel()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
