"""Run a pipeline on images: outputs, failures, resume.

An image is done when its record ``predictions/<name>.json`` exists. The record is written after the
other files of the image and states what it was made with. A run skips images that are done with the
same config, weights, boxes, version and file content. The files for the whole run are made from the
records at the end. So you can kill a run at any time and start it again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock, Timeout

from ..runtime.timing import StageTimer
from .annotations import ImageId
from .atomic import write_json, write_text
from .dataset_writers import MergeEntry, write_dataset_files
from .inputs import Failure, InputImage
from .progress import Reporter
from .records import people_from_record, read_record, record_path
from .run_info import describe_run
from .run_options import OutputError, Pipeline, RunOptions, RunReport
from .runner import HOPELESS, JobReader, JobWriter


def run_images(
    pipeline: Pipeline,
    photos: Sequence[InputImage],
    options: RunOptions,
    *,
    failures: Sequence[Failure] = (),
    reporter: Reporter | None = None,
) -> RunReport:
    """Run ``pipeline`` on every image and write what ``options.save`` asks for.

    An image that fails is recorded and the others go on. After Ctrl-C the files for the whole run
    are written for what is done.

    Args:
        pipeline: finds the people.
        photos: in the order of their image ids, as `pipeline.io.inputs.find_images` returns them.
        options: what to write, and where.
        failures: inputs that failed before; they go into ``failures.json`` too.
        reporter: shows the progress; default: log lines.

    Raises:
        OutputError: another run writes to the same folder, or the disk is full or read-only.
    """
    started, timer, reporter = time.time(), StageTimer(), reporter or Reporter()
    report = RunReport(len(photos), list(failures))
    with lock_folder(options.out_dir), disk_errors(options.out_dir):
        write_text(options.out_dir / 'config.py', pipeline.config_text)
        writer = JobWriter(options, timer, report, reporter)
        reporter.start(len(photos))
        try:
            with closing(JobReader(pipeline, options, timer).batches(photos)) as batches:
                for batch in batches:
                    writer.begin(batch.jobs)
                    for todo in batch.attempts(reporter):
                        with todo.computing():
                            people = pipeline.predict_batch(todo.images, todo.boxes, timer)
                            todo.set_people(people)
                    writer.write(batch.jobs)
        except KeyboardInterrupt:
            report.interrupted = True
        finally:
            writer.close()  # what is computed is not lost
            reporter.stop()
        with timer('merge files'):
            report.files = merge(photos, options, report.done)
        report.seconds = {**timer.seconds, 'total': time.time() - started}
        write_failures(options.out_dir, report)
        info = describe_run(pipeline, options, report, started)
        write_json(options.out_dir / 'run.json', info, indent=1)
    return report


def merge(photos: Sequence[InputImage], options: RunOptions, done: frozenset[str]) -> list[Path]:
    """Write the files for the whole run; returns them."""
    ids = options.image_ids
    if ids is None:
        ids = {photo.name: i for i, photo in enumerate(photos, 1)}
    entries = done_entries(options.out_dir, [p for p in photos if p.name in done], ids)
    return write_dataset_files(options.out_dir, sorted(options.save), entries)


def write_failures(out_dir: Path, report: RunReport) -> None:
    """Write ``failures.json``: ``input``, ``error`` (type) and ``message`` of each."""
    write_json(out_dir / 'failures.json', [asdict(f) for f in report.failures], indent=1)


def done_entries(
    out_dir: Path, photos: Sequence[InputImage], image_ids: Mapping[str, ImageId]
) -> Iterator[MergeEntry]:
    """The records of ``photos``, one image in memory; images without an id are left out.

    Raises:
        OutputError: a record is damaged.
    """
    for photo in photos:
        if photo.name not in image_ids:
            continue  # the user's annotations do not have it
        path = record_path(out_dir, photo.name)
        try:
            people = people_from_record(read_record(path) or {})
        except (KeyError, TypeError, ValueError) as error:
            raise OutputError(f'{path} is damaged ({error}); delete it and run again') from error
        yield MergeEntry(photo.name, image_ids[photo.name], people)


@contextmanager
def lock_folder(out_dir: Path) -> Iterator[None]:
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
        if error.errno not in HOPELESS:
            raise
        raise OutputError(
            f'cannot write to {out_dir} ({error.strerror}); what is done stays done: make room and '
            'run the same command again'
        ) from error
