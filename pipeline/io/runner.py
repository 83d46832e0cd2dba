"""Photo after photo through a pipeline; reading and writing have threads of their own."""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from errno import EDQUOT, ENOSPC, EROFS
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from .. import __version__
from ..runtime.timing import StageTimer
from ..structures import Image, People, size_of
from .ahead import ahead
from .atomic import remove, write_bytes, write_json
from .images import ImageReadError, decode_image, read_file
from .inputs import Failure, Photo
from .progress import Reporter
from .records import people_from_record, people_to_record
from .run_options import (
    Pipeline,
    PipelineForMany,
    RunOptions,
    RunReport,
    read_record,
    record_path,
)
from .writers import WRITERS, DonePhoto, PhotoWriter, output_path

WRITE_BEHIND = 2  # photos that may wait to be written while others are computed
# Errors that every further photo would hit as well.
HOPELESS = frozenset({ENOSPC, EDQUOT, EROFS})


@dataclass(frozen=True)
class _Prepared:
    """What reading a photo gave."""

    made_with: dict[str, Any]
    record: dict[str, Any] | None  # usable, so nothing has to be computed
    changed: tuple[str, ...]  # why there is a record that is not usable
    pixels: Callable[[], Image]  # decoded by now if they are needed
    seconds: float


@dataclass
class _Job:
    """A photo on its way."""

    photo: Photo
    ready: _Prepared | None = None  # None: it cannot be read
    image: Image | None = None  # None: nothing is to be computed
    given: Any = None  # for the pipeline
    people: People | None = None
    error: Exception | None = None


@dataclass(frozen=True)
class _Written:
    """A photo of which everything is on the disk."""

    people: int
    computed: bool  # False: done before
    seconds: float  # for all of it, in whatever thread


@dataclass
class Runner:
    """Three things at a time: the next photo is read, one is computed, the last one is written."""

    pipeline: Pipeline
    options: RunOptions
    reporter: Reporter
    report: RunReport
    timer: StageTimer = field(default_factory=StageTimer)

    def __post_init__(self) -> None:
        self._made_with = {
            'config': _sha256(self.pipeline.config_text.encode()),
            'weights': _sha256(json.dumps(self.pipeline.weights, sort_keys=True).encode()),
            'precision': self.pipeline.precision,
            'version': __version__,
        }
        self._writers = [WRITERS[choice] for choice in sorted(self.options.save & set(WRITERS))]
        self._told: set[str] = set()
        self._done: set[str] = set()
        self._waiting: deque[tuple[Photo, Future[_Written]]] = deque()

    def run(self, photos: Sequence[Photo]) -> set[str]:
        """Names of the photos that are done."""
        self.reporter.start(len(photos))
        try:
            with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
                size = self.options.batch_images
                try:
                    with closing(ahead(reading, self._prepare, photos, size)) as stream:
                        while group := list(islice(stream, size)):
                            self._waiting.extend(self._started(group, writing))
                            self._finish(WRITE_BEHIND)
                    self._finish(0)
                except KeyboardInterrupt:
                    self.report.interrupted = True
                    self._finish(0)  # what is computed is not lost
        finally:
            self.reporter.stop()
        return self._done

    def _finish(self, limit: int) -> None:
        """Report what is written, in order; wait until at most ``limit`` photos are not."""
        while self._waiting and (len(self._waiting) > limit or self._waiting[0][1].done()):
            photo, writing = self._waiting[0]
            try:
                written = writing.result()
            except Exception as error:
                # Whatever is wrong with one photo must not stop the others, except what they share.
                if isinstance(error, OSError) and error.errno in HOPELESS:
                    self._waiting.clear()
                    raise
                self._failed(photo, error)
            else:
                self._succeeded(photo, written)
            self._waiting.popleft()

    def _failed(self, photo: Photo, error: Exception) -> None:
        failure = Failure.of(photo.path, error)
        self.report.failures.append(failure)
        self.reporter.message(f'failed: {failure.described()}')
        self.reporter.photo(photo.name, 'failed')

    def _succeeded(self, photo: Photo, written: _Written) -> None:
        self._done.add(photo.name)
        self.report.people += written.people
        self.report.computed += written.computed
        self.report.resumed += not written.computed
        self.reporter.photo(photo.name, f'{written.people} people, {written.seconds:.2f} s')

    def _prepare(self, photo: Photo) -> _Prepared:
        """Read a photo, and decode it if it is not done yet; in the reading thread."""
        start = time.perf_counter()
        with self.timer('read'):
            data = read_file(photo.path)
        given = self.options.given.get(photo.name)
        made_with = self._made_with | {
            # Boxes of the user in most runs; the name is part of the records' format.
            'boxes': None if given is None else _sha256(json.dumps(given).encode()),
            'photo': _sha256(data),
        }

        @cache
        def pixels() -> Image:
            with self.timer('read'):
                return decode_image(data, photo.path)

        record, changed = self._usable_record(photo, made_with)
        if record is None:
            with suppress(ImageReadError):  # told in turn, when asked again
                pixels()
        return _Prepared(made_with, record, changed, pixels, time.perf_counter() - start)

    def _started(
        self, group: Sequence[tuple[Photo, Future[_Prepared]]], writing: ThreadPoolExecutor
    ) -> list[tuple[Photo, Future[_Written]]]:
        """Compute the photos that are not done yet, and have all of them written."""
        jobs = [self._loaded(photo, prepared) for photo, prepared in group]
        todo = [(job, job.image) for job in jobs if job.image is not None]
        start = time.perf_counter()
        self._compute(todo)
        seconds = (time.perf_counter() - start) / max(len(todo), 1)
        return [(job.photo, self._submitted(job, seconds, writing)) for job in jobs]

    def _loaded(self, photo: Photo, prepared: Future[_Prepared]) -> _Job:
        job = _Job(photo)
        try:
            ready = job.ready = prepared.result()
            if ready.record is None:
                self._tell(photo, ready.changed)
                self._forget(photo)
                image, given = ready.pixels(), self.options.given.get(photo.name)
                if given is not None:
                    job.given = self.options.check(given, size_of(image))
                job.image = image
        except Exception as error:  # noqa: BLE001 - told in its turn
            job.error = error
        return job

    def _compute(self, todo: Sequence[tuple[_Job, Image]]) -> None:
        """Find the people of each photo, or what is wrong with it."""
        pipeline = self.pipeline
        if len(todo) > 1 and isinstance(pipeline, PipelineForMany):
            images, given = [image for _, image in todo], [job.given for job, _ in todo]
            try:
                found = pipeline.together(images, given, self.timer)
                for (job, _), people in zip(todo, found, strict=True):
                    job.people = people
                return
            except Exception as error:  # noqa: BLE001 - one photo must not cost the others theirs
                self.reporter.message(f'{len(todo)} photos failed together ({error}): one by one')
        for job, image in todo:
            try:
                job.people = pipeline(image, job.given, self.timer)
            except Exception as error:  # noqa: BLE001 - told in its turn
                job.error = error

    def _submitted(
        self, job: _Job, seconds: float, writing: ThreadPoolExecutor
    ) -> Future[_Written]:
        if job.error is not None or job.ready is None:
            failed: Future[_Written] = Future()
            failed.set_exception(job.error)
            return failed
        if job.people is None:
            return writing.submit(self._complete, job.photo, job.ready)
        seconds += job.ready.seconds
        return writing.submit(self._save, job.photo, job.ready, job.people, seconds)

    def _complete(self, photo: Photo, ready: _Prepared) -> _Written:
        """Make what is asked for and missing beside a record; in the writing thread."""
        start = time.perf_counter()
        record = ready.record or {}
        missing = [w for w in self._writers if not self._path(w, photo).is_file()]
        if missing:
            self._write(photo, DonePhoto(people_from_record(record), ready.pixels), missing)
        seconds = ready.seconds + time.perf_counter() - start
        return _Written(len(record['people']), computed=False, seconds=seconds)

    def _save(self, photo: Photo, ready: _Prepared, people: People, seconds: float) -> _Written:
        """Write everything about a computed photo, its record last; in the writing thread."""
        start = time.perf_counter()
        with self.timer('write'):
            record = people_to_record(people)
            record |= {'input': photo.name, 'made_with': ready.made_with}
        self._write(photo, DonePhoto(people, ready.pixels), self._writers)
        with self.timer('write'):
            write_json(record_path(self.options.out_dir, photo.name), record)
        return _Written(len(people), True, seconds + time.perf_counter() - start)

    def _usable_record(
        self, photo: Photo, made_with: dict[str, Any]
    ) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
        """The record of a photo, or why the one that is there cannot be used."""
        path = record_path(self.options.out_dir, photo.name)
        if not self.options.resume or not path.is_file():
            return None, ()
        record = read_record(path)
        if record is None:
            return None, ('content of the prediction',)
        before = record.get('made_with', {})
        changed = tuple(key for key, value in made_with.items() if before.get(key) != value)
        return (None, changed) if changed else (record, ())

    def _tell(self, photo: Photo, changed: Sequence[str]) -> None:
        """Say, once, why photos that were done are computed again."""
        if not changed:
            return
        self.report.redone += 1
        reason = ', '.join(changed)
        if reason not in self._told:
            self._told.add(reason)
            self.reporter.message(
                f'{photo.name}: done before with other {reason}, so it is computed again '
                '(and so is every photo of which the same is true)'
            )

    def _forget(self, photo: Photo) -> None:
        """Remove what was written about the photo, so that nothing outdated stays beside it."""
        remove(record_path(self.options.out_dir, photo.name))
        for writer in WRITERS.values():
            remove(self._path(writer, photo))

    def _write(self, photo: Photo, done: DonePhoto, writers: Sequence[PhotoWriter]) -> None:
        for writer in writers:
            if writer.needs_image:
                done.image()  # so that its time counts as reading
            with self.timer('write'):
                write_bytes(self._path(writer, photo), writer.render(done))

    def _path(self, writer: PhotoWriter, photo: Photo) -> Path:
        return output_path(self.options.out_dir, writer, photo.name)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
