"""Run a pipeline over photos: outputs, failures, resume.

A photo is done when its record ``predictions/<name>.json`` is there; it is written last, after the
other files of the photo, and says what it was made with. A run skips the photos that are done with
the same config, weights, boxes, version and file content; the files for the whole run are made
from the records at the end. So a run may be killed at any time and started again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock, Timeout

from .annotations import ImageId
from .atomic import write_json, write_text
from .inputs import Failure, Photo
from .merged import MergeEntry, write_merged
from .progress import LogReporter, Reporter
from .records import people_from_record
from .run_info import describe_run
from .run_options import Pipeline, RunOptions, RunReport, read_record, record_path
from .runner import HOPELESS, Runner


class OutputError(RuntimeError):
    """Results cannot be written where the user wants them."""


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
        runner = Runner(pipeline, options, reporter or LogReporter(), report)
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
        if error.errno not in HOPELESS:
            raise
        raise OutputError(
            f'cannot write to {out_dir} ({error.strerror}); what is done stays done: make room and '
            'run the same command again'
        ) from error
