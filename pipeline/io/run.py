"""Run a pipeline over photos: outputs, failures, resume.

A photo is done when its record ``predictions/<name>.json`` is there; it is written last, after the
other files of the photo, and says what it was made with. A run skips the photos that are done with
the same config, weights, boxes, version and file content; the files for the whole run are made
from the records at the end. So a run may be killed at any time and started again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from errno import EDQUOT, ENOSPC, EROFS
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from .. import __version__
from ..structures import Image, People, size_of
from ..timing import StageTimer
from .ahead import ahead
from .annotations import ImageId, check_boxes
from .atomic import remove, write_bytes, write_json, write_text
from .images import ImageReadError, decode_image, read_file
from .inputs import Failure, Photo
from .merged import MERGED, MergeEntry, write_merged
from .progress import LogReporter, Reporter
from .records import FORMAT, people_from_record, people_to_record
from .run_info import describe_run
from .writers import WRITERS, DonePhoto, PhotoWriter, output_path

# What --save takes; json is always written, because it is what a run resumes from.
OUTPUTS = ('json', *sorted(MERGED), *sorted(WRITERS))
DEFAULT_SAVE = ('json', 'coco', 'overlay')
WRITE_BEHIND = 2  # photos that may wait to be written while others are computed
# Errors that every further photo would hit as well.
_HOPELESS = frozenset({ENOSPC, EDQUOT, EROFS})


class Pipeline(Protocol):
    """What a run needs of a loaded pipeline (see `pipeline.api.LoadedPipeline`)."""

    config_text: str
    weights: dict[str, str]
    device: str
    precision: str
    load_seconds: float

    def __call__(self, image: Image, given: Any, timer: StageTimer | None, /) -> People:
        """People in an RGB uint8 image (H, W, 3).

        ``given`` is what ``RunOptions.check`` made for this photo; None: nothing was given.
        """


class OutputError(RuntimeError):
    """Results cannot be written where the user wants them."""


@dataclass(frozen=True)
class RunOptions:
    """What to write, and where."""

    out_dir: Path
    save: frozenset[str] = frozenset(DEFAULT_SAVE)
    resume: bool = True
    given: Mapping[str, Any] = field(default_factory=dict)  # JSON content by name of the photo
    check: Callable[[Any, tuple[int, int]], Any] = (
        check_boxes  # `given`, (H, W) -> for the pipeline
    )
    image_ids: Mapping[str, ImageId] | None = None  # by name; None: 1, 2, ... in the given order
    config: str = ''  # as the user gave it, for run.json
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = sorted(self.save - set(OUTPUTS))
        if unknown:
            raise ValueError(f'save: unknown {unknown}; choose from {", ".join(OUTPUTS)}')


@dataclass
class RunReport:
    """What happened."""

    photos: int
    failures: list[Failure] = field(default_factory=list)
    done: frozenset[str] = frozenset()  # names of the photos that have a record
    computed: int = 0  # photos that the pipeline ran on
    resumed: int = 0  # photos that were done before
    redone: int = 0  # of `computed`: done before, but with something else
    people: int = 0
    interrupted: bool = False
    seconds: dict[str, float] = field(default_factory=dict)  # per stage, and `total`
    files: list[Path] = field(default_factory=list)  # for the whole run

    @property
    def exit_code(self) -> int:
        """0 all well, 1 an input failed, 130 interrupted."""
        return 130 if self.interrupted else int(bool(self.failures))


def run_photos(
    pipeline: Pipeline,
    photos: Sequence[Photo],
    options: RunOptions,
    *,
    failures: Sequence[Failure] = (),
    reporter: Reporter | None = None,
) -> RunReport:
    """Run ``pipeline`` on every photo and write what ``options.save`` asks for.

    A photo that fails is recorded and the others go on; after Ctrl-C the files for the whole run
    are written for what is done.

    Args:
        pipeline: finds the people.
        photos: in the order of their image ids, as `pipeline.io.inputs.find_photos` gives them.
        options: what to write, and where.
        failures: inputs that failed before; they go into ``failures.json`` too.
        reporter: hears about the progress; default: log lines.

    Raises:
        OutputError: another run writes to the same folder, or the disk is full or read-only.
    """
    started = time.time()
    report = RunReport(len(photos), list(failures))
    with own_folder(options.out_dir), disk_errors(options.out_dir):
        write_text(options.out_dir / 'config.py', pipeline.config_text)
        runner = _Runner(pipeline, options, reporter or LogReporter(), report)
        report.done = done = frozenset(runner.run(photos))
        with runner.timer('merge files'):
            ids = options.image_ids
            if ids is None:
                ids = {photo.name: i for i, photo in enumerate(photos, 1)}
            entries = done_entries(options.out_dir, [p for p in photos if p.name in done], ids)
            report.files = write_merged(options.out_dir, sorted(options.save), entries)
        report.seconds = {**runner.timer.seconds, 'total': time.time() - started}
        write_json(options.out_dir / 'failures.json', failures_json(report.failures), indent=1)
        info = describe_run(pipeline, options.config, options.command, started)
        counts = ('photos', 'computed', 'resumed', 'redone', 'people', 'interrupted')
        info |= {key: getattr(report, key) for key in counts}
        info |= {'failed': len(report.failures), 'save': sorted(options.save)}
        info['seconds'] = {k: round(v, 4) for k, v in report.seconds.items()}
        write_json(options.out_dir / 'run.json', info, indent=1)
    return report


def failures_json(failures: Sequence[Failure]) -> list[dict[str, str]]:
    """Content of ``failures.json``: ``input``, ``error`` (type) and ``message`` of each."""
    return [asdict(failure) for failure in failures]


def record_path(out_dir: Path, name: str) -> Path:
    """Where the record of the photo ``name`` is."""
    return out_dir / 'predictions' / f'{name}.json'


@dataclass(frozen=True)
class _Prepared:
    """What reading a photo gave."""

    made_with: dict[str, Any]
    record: dict[str, Any] | None  # usable, so nothing has to be computed
    changed: tuple[str, ...]  # why there is a record that is not usable
    pixels: Callable[[], Image]  # decoded by now if they are needed
    seconds: float


@dataclass(frozen=True)
class _Written:
    """A photo of which everything is on the disk."""

    people: int
    computed: bool  # False: done before
    seconds: float  # for all of it, in whatever thread


@dataclass
class _Runner:
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
                try:
                    for photo, prepared in ahead(reading, self._prepare, photos):
                        self._waiting.append((photo, self._started(photo, prepared, writing)))
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
                if isinstance(error, OSError) and error.errno in _HOPELESS:
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
        self, photo: Photo, prepared: Future[_Prepared], writing: ThreadPoolExecutor
    ) -> Future[_Written]:
        """Compute a photo, if it is not done yet, and have it written; never raises by itself."""
        try:
            ready = prepared.result()
            if ready.record is not None:
                return writing.submit(self._complete, photo, ready, ready.record)
            self._tell(photo, ready.changed)
            self._forget(photo)
            start = time.perf_counter()
            image = ready.pixels()
            given = self.options.given.get(photo.name)
            checked = None if given is None else self.options.check(given, size_of(image))
            people = self.pipeline(image, checked, self.timer)
            seconds = ready.seconds + time.perf_counter() - start
            return writing.submit(self._save, photo, ready, people, seconds)
        except Exception as error:  # noqa: BLE001 - told in its turn
            failed: Future[_Written] = Future()
            failed.set_exception(error)
            return failed

    def _complete(self, photo: Photo, ready: _Prepared, record: dict[str, Any]) -> _Written:
        """Make what is asked for and missing beside a record; in the writing thread."""
        start = time.perf_counter()
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


def read_record(path: Path) -> dict[str, Any] | None:
    """The record in a file; None if it is damaged or of another version's format."""
    try:
        record = json.loads(path.read_bytes())
    except ValueError:
        return None
    return record if isinstance(record, dict) and record.get('format') == FORMAT else None


def done_entries(
    out_dir: Path, photos: Sequence[Photo], image_ids: Mapping[str, ImageId]
) -> Iterator[MergeEntry]:
    """What the records of ``photos`` say, one photo in memory; photos without an id are left out.

    Raises:
        OutputError: a record is damaged.
    """
    for photo in photos:
        if photo.name not in image_ids:
            continue  # the user's annotations do not have it
        path = record_path(out_dir, photo.name)
        record = read_record(path)
        try:
            people = people_from_record(record or {})
        except (KeyError, TypeError, ValueError) as error:
            raise OutputError(f'{path} is damaged ({error}); delete it and run again') from error
        yield MergeEntry(photo.name, image_ids[photo.name], people)


@contextmanager
def own_folder(out_dir: Path) -> Iterator[None]:
    """The folder, made if needed, for this process alone.

    Raises:
        OutputError: another process has it, or it cannot be written to.
    """
    lock = FileLock(out_dir / '.lock', timeout=0)
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise OutputError(
            f'another run is writing to {out_dir}; wait for it or choose another --out-dir'
        ) from None
    except OSError as error:
        raise OutputError(
            f'cannot write to {out_dir} ({error.strerror}); choose another --out-dir'
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def disk_errors(out_dir: Path) -> Iterator[None]:
    """Turn errors of a full or read-only disk into `OutputError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _HOPELESS:
            raise
        raise OutputError(
            f'cannot write to {out_dir} ({error.strerror}); what is done stays done: make room and '
            'run the same command again'
        ) from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
