"""Jobs of many images: run them in repeatable shards, show their state, merge their results.

Examples:
    bmp run images/ --engine local --workers 4 --out-dir outputs/job
    bmp run s3://bucket/list.parquet --engine ray --workers 32 --out-dir s3://bucket/job
    bmp status outputs/job
    bmp merge outputs/job --save coco csv parquet
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..io.images import WrongInputError
from ..io.inputs import Failure, InputError
from ..io.progress import Reporter, count_of
from ..io.run import lock_folder, write_failures
from ..io.run_options import DEFAULT_SAVE, RunReport
from ..io.shard import Shard
from ..scale.driver import Driver, Pool
from ..scale.job import FAILED, Job, read_job
from ..scale.local_pool import InlinePool, LocalPool, WorkerConfig, load_worker
from ..scale.merge import KINDS, merge_job
from ..scale.run import JobOptions, describe_status, run_job
from ..scale.storage import is_address
from ..video.inputs import VideoInput, split_videos
from .options import get_overrides, handle_errors, make_parser
from .summary import print_summary

if TYPE_CHECKING:
    from ..video.run import VideoOptions
    from .dataset_run import DatasetRequest

make_loader: Callable[..., Callable[[], Any]] = partial  # replaced in tests


def main(argv: Sequence[str]) -> int:
    """Run ``status`` or ``merge``, the first argument; returns the exit code."""
    action, *rest = argv
    prog = f'bmp {action}'
    parser = make_parser(prog, __doc__)
    parser.add_argument('out', metavar='OUT', help='folder of the job, or its address')
    if action == 'merge':
        parser.add_argument('--save', nargs='+', choices=KINDS, default=['coco', 'csv', 'parquet'],
                            metavar='KIND', help=f'any of {", ".join(KINDS)} (default: coco csv '
                            'parquet); into OUT/merged')  # fmt: skip
        parser.add_argument('--partial', action='store_true', help='merge the shards that are done')
    args = parser.parse_args(rest)
    with handle_errors(prog):
        job = read_job(args.out)
        if job is None:
            raise InputError(f'{args.out}: no job.json; check the path')
        if action == 'merge':
            print_merged(job, args.save, partial=args.partial)
        else:
            print('\n'.join(describe_status(job, job.read_marks())))
    return 0


def print_merged(job: Job, kinds: Sequence[str], *, partial: bool = False) -> None:
    """Merge a job and print counts and files."""
    report = merge_job(job, kinds, partial=partial)
    print(f'{count_of(report.images, "image")}: {count_of(report.people, "person", "people")}, '
          f'{len(report.failures)} failed')  # fmt: skip
    for file in report.files:
        print(file)


def run_images(
    args: argparse.Namespace,
    out_dir: Path | str,
    build_video_options: Callable[[argparse.Namespace, Path], VideoOptions],
) -> int:
    """Run ``bmp run`` as a job; returns the exit code."""
    videos, others, absent = split_videos(args.inputs, args.frames, only_videos=args.videos)
    if absent:
        raise WrongInputError('\n'.join(failure.describe() for failure in absent))
    if videos:
        if others or not isinstance(out_dir, Path):
            raise ValueError('with --engine, run videos without images, and with a path as OUT')
        return run_videos(args, videos, build_video_options(args, out_dir))
    check_options(args)
    options = JobOptions(
        out=str(out_dir),
        sources=tuple(make_absolute(source) for source in args.inputs),
        shard_size=args.shard_size,
        part=Shard.parse(args.shard) if args.shard else Shard(),
        batch=args.batch_images,
        retry_failed=args.retry_failed,
    )
    config = make_absolute(args.config) if Path(args.config).is_file() else args.config
    load = make_loader(load_worker, config, get_overrides(args))
    try:
        job = run_job(options, partial(start_pool, args, load))
    except KeyboardInterrupt:
        print('interrupted: run the same command again to continue')
        raise
    marks = job.read_marks()
    print('\n'.join(describe_status(job, marks)))
    kinds = [] if args.save is DEFAULT_SAVE else args.save
    if kinds and not args.shard:
        print_merged(job, kinds)
    return int(FAILED in options.part.select(marks.states))


@dataclass(frozen=True)
class CallTask:
    """A video, or a part of a data set, as the task of a worker."""

    name: str
    call: Callable[[Any], RunReport]

    def __call__(self, pipeline: Any) -> RunReport:
        """Compute it; finished images and frames are not computed again."""
        return self.call(pipeline)


def run_tasks(
    args: argparse.Namespace, load: Callable[[], Any], tasks: Sequence[CallTask]
) -> RunReport:
    """Run tasks with the workers of the arguments; returns their images, videos and failures."""
    total = RunReport(0)

    def add(task: CallTask, report: RunReport | None) -> None:
        if report is None:
            text = f'{task.name}: the worker died twice; see its memory'
            report = RunReport(1, [Failure(task.name, 'WorkerDied', text)])
        total.images += report.images
        total.videos += report.videos
        total.failures += report.failures

    pool = start_pool(args, load, len(tasks))
    try:
        Driver(pool, iter(tasks), lambda _: None, add).run()
    finally:
        pool.close()
    return total


def run_videos(
    args: argparse.Namespace, videos: Sequence[VideoInput], options: VideoOptions
) -> int:
    """Run ``bmp track`` with a task for each video; returns the exit code."""
    load = make_loader(load_worker, args.config, get_overrides(args))
    tasks = [CallTask(str(v.source), partial(compute_video, v, options)) for v in videos]
    with lock_folder(options.out_dir):
        report = run_tasks(args, load, tasks)
    report.videos.sort()
    write_failures(options.out_dir, report.failures)
    print_summary(report, options.out_dir)
    return report.exit_code


def compute_video(video: VideoInput, options: VideoOptions, pipeline: Any) -> RunReport:
    """Compute a video in a worker."""
    from ..video.run import run_video

    report = RunReport(0)
    try:
        report.videos.append(run_video(pipeline, video, options, Reporter()))
    except Exception as error:  # noqa: BLE001 - the other videos continue
        report.failures.append(Failure.from_error(str(video.source), error))
    return report


def run_parts(args: argparse.Namespace, request: DatasetRequest) -> None:
    """Run ``bmp test`` with a part of the data set for each worker, into ``OUT/shards``."""
    from .protocols import load_protocol

    load = partial(load_protocol, request.config, request.cfg_options, request.protocol)
    shards = [Shard(i + 1, args.workers) for i in range(args.workers)]
    parts = [replace(request, shard=shard) for shard in shards]
    run_tasks(args, load, [CallTask(f'part {p.shard}', partial(compute_part, p)) for p in parts])


def compute_part(request: DatasetRequest, pipeline: Any) -> RunReport:
    """Compute a part of a data set in a worker."""
    from .dataset_run import run_dataset

    return run_dataset(request, load=lambda *_: pipeline, reporter=Reporter()).run


def start_pool(args: argparse.Namespace, load: Callable[[], Any], most: int) -> Pool:
    """Start the workers of the arguments, but no more than ``most``."""
    workers = min(args.workers, most)
    if args.engine == 'ray':
        from ..scale.ray_pool import RayPool

        config = WorkerConfig(load, args.threads or 1, args.gpus_per_worker)
        return RayPool(config, max(workers, 1), args.address)
    cores = len(os.sched_getaffinity(0))
    config = WorkerConfig(load, args.threads or max(1, cores // max(args.workers, 1)),
                          args.gpus_per_worker)  # fmt: skip
    return LocalPool(config, workers) if workers else InlinePool(config)


def check_options(args: argparse.Namespace) -> None:
    """Check that a job supports the options.

    Raises:
        ValueError: It does not.
    """
    wrong = sorted(set(args.save) - set(KINDS))
    if wrong and args.save is not DEFAULT_SAVE:
        raise ValueError(
            f'--save {" ".join(wrong)}: a job writes {", ".join(KINDS)}; leave out --engine for '
            'other files'
        )
    if args.boxes or args.coco_ids or args.demo:
        raise ValueError(
            '--boxes, --coco-ids and --demo do not work with --engine; give the ids in a table '
            'with columns path and image_id'
        )
    if not args.resume:
        raise ValueError('--no-resume does not work with --engine; choose another --out-dir')
    if args.address and args.engine != 'ray':
        raise ValueError('--address needs --engine ray')


def make_absolute(source: str) -> str:
    """Return a source that means the same in every process."""
    text = source.removeprefix('@')
    if is_address(text) or text == '-':
        return source
    return source[: len(source) - len(text)] + os.path.abspath(os.path.expanduser(text))
