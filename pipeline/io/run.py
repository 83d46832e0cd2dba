"""Run a pipeline on images: outputs, failures, resume.

An image is done when its record ``predictions/<output>.json`` exists. A run writes the record after
the other files of the image. It skips images that are done with the same config, weights, boxes,
version and file content; another minimum score or drawing style only writes their files again. The
files for the whole run are written from the records at the end. You can kill a run at any time and
start it again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from ..runtime.timing import StageTimer
from .atomic import write_json, write_text
from .dataset_writers import write_dataset_files
from .inputs import Failure, InputImage
from .output_names import name_outputs
from .progress import Reporter
from .records import MergeEntry, parse_record, people_from_record, record_path
from .run_info import describe_run
from .run_options import OutputError, Pipeline, RunOptions, RunReport
from .runner import DISK_ERRORS, JobReader, JobWriter, computing, list_attempts

if TYPE_CHECKING:
    from .coco_checks import ImageId


def run_images(
    pipeline: Pipeline,
    images: Sequence[InputImage],
    options: RunOptions,
    *,
    failures: Sequence[Failure] = (),
    reporter: Reporter | None = None,
) -> RunReport:
    """Run ``pipeline`` on every image and write the outputs of ``options.save``.

    A failed image does not stop the run. After Ctrl-C, the files for the whole run are written for
    the images that are done.

    Args:
        pipeline: Predicts the people.
        images: In the order of their image ids, as `pipeline.io.inputs.find_images` returns them.
        options: Output folder and options.
        failures: Earlier failed inputs; they are also written to ``failures.json``.
        reporter: Shows the progress; default: log lines.

    Raises:
        OutputError: Another run writes to the same folder, or the disk is full or read-only.
    """
    started, timer, reporter = time.time(), StageTimer(), reporter or Reporter()
    report = RunReport(len(images), list(failures), min_score=pipeline.min_score)
    with lock_folder(options.out_dir), disk_errors(options.out_dir):
        if not options.full_names:
            images = _prepare_folder(pipeline, images, options, reporter)
        write_text(options.out_dir / 'config.py', pipeline.config_text)
        writer = JobWriter(pipeline, options, timer, report, reporter)
        reporter.start(len(images))
        try:
            with closing(JobReader(pipeline, options, timer).batches(images)) as batches:
                for jobs in batches:
                    writer.begin(jobs)
                    for todo in list_attempts(jobs, reporter):
                        with computing(todo):
                            arrays = [job.image for job in todo if job.image is not None]
                            boxes = [job.boxes for job in todo]
                            found = pipeline.predict_candidates(arrays, boxes, timer)
                            for job, candidates in zip(todo, found, strict=True):
                                job.candidates = candidates
                    writer.write(jobs)
        except KeyboardInterrupt:
            report.interrupted = True
        finally:
            writer.close()  # writes the computed images
            reporter.stop()
        with timer('merge files'):
            report.files = write_run_files(images, options, report.done)
        report.seconds = {**timer.seconds, 'total': time.time() - started}
        write_failures(options.out_dir, report.failures)
        info = describe_run(pipeline, options, report, started)
        write_json(options.out_dir / 'run.json', info, indent=1)
    return report


def _prepare_folder(
    pipeline: Pipeline, images: Sequence[InputImage], options: RunOptions, reporter: Reporter
) -> list[InputImage]:
    """Name the files of the images; with files of earlier runs, apply the options to these."""
    if not (options.out_dir / 'predictions').is_dir():
        return name_outputs(options.out_dir, images, {})
    from .earlier_runs import find_records, rewrite_others

    images = name_outputs(options.out_dir, images, find_records(options.out_dir, images))
    rewrite_others(pipeline, images, options, reporter)
    return images


def write_run_files(
    images: Sequence[InputImage], options: RunOptions, done: frozenset[str]
) -> list[Path]:
    """Write the files for the whole run and return their paths."""
    ids = options.image_ids
    if ids is None:
        ids = {image.name: i for i, image in enumerate(images, 1)}
    entries = read_entries(options.out_dir, images, done, ids)
    return write_dataset_files(options.out_dir, sorted(options.save), entries)


def write_failures(out_dir: Path, failures: Iterable[Failure]) -> Path:
    """Write ``failures.json``: ``input``, ``error`` (type) and ``message`` of each failure."""
    path = out_dir / 'failures.json'
    write_json(path, [asdict(failure) for failure in failures], indent=1)
    return path


def read_entries(
    out_dir: Path,
    images: Sequence[InputImage],
    done: frozenset[str],
    image_ids: Mapping[str, ImageId],
) -> Iterator[MergeEntry]:
    """Read the records of the images that are done and have an id, one at a time.

    Raises:
        OutputError: A record is damaged.
    """
    for image in images:
        if image.name not in done or image.name not in image_ids:
            continue
        path = record_path(out_dir, image.key)
        try:
            record = parse_record(path) or {}  # checked before, or written by this run
            people = people_from_record(record)
            dropped = len(record['dropped'])
        except (KeyError, TypeError, ValueError) as error:
            raise OutputError(f'{path} is damaged ({error}); delete it and run again') from error
        image_id, seconds = image_ids[image.name], record.get('seconds')
        yield MergeEntry(image.name, image_id, people, dropped, seconds, image.key)


@contextmanager
def lock_folder(out_dir: Path) -> Iterator[None]:
    """Create the folder and lock it for this process.

    Raises:
        OutputError: Another process has the lock, or the folder is not writable.
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
    """Convert errors of a full or read-only disk to `OutputError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise OutputError(
            f'cannot write to {out_dir} ({error.strerror}); free disk space and run the same '
            'command again to continue'
        ) from error
