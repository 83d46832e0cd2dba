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
from functools import partial
from pathlib import Path
from typing import Any

from ..io.inputs import InputError
from ..io.progress import count_of
from ..io.run_options import DEFAULT_SAVE
from ..scale.driver import Pool
from ..scale.job import Job, read_job
from ..scale.local_pool import InlinePool, LocalPool, WorkerConfig
from ..scale.merge import KINDS, merge_job
from ..scale.run import JobOptions, describe_status, run_job
from ..scale.storage import is_address
from ..scale.worker import load_worker
from .job_options import JOB_OUTPUTS
from .options import get_overrides, handle_errors, make_parser

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
            print('\n'.join(describe_status(job)))
    return 0


def print_merged(job: Job, kinds: Sequence[str], *, partial: bool = False) -> None:
    """Merge a job and print counts and files."""
    report = merge_job(job, kinds, partial=partial)
    print(f'{count_of(report.images, "image")}: {count_of(report.people, "person", "people")}, '
          f'{len(report.failures)} failed')  # fmt: skip
    for file in report.files:
        print(file)


def run_images(args: argparse.Namespace, out_dir: Path | str) -> int:
    """Run ``bmp run`` as a job; returns the exit code."""
    check_options(args)
    options = JobOptions(
        out=str(out_dir),
        sources=tuple(make_absolute(source) for source in args.inputs),
        shard_size=args.shard_size,
        part=parse_shard(args.shard),
        batch=args.batch_images,
        retry_failed=args.retry_failed,
    )
    config = make_absolute(args.config) if Path(args.config).is_file() else args.config
    load = make_loader(load_worker, config, get_overrides(args))
    try:
        job, report = run_job(options, partial(start_pool, args, load))
    except KeyboardInterrupt:
        print('interrupted: run the same command again to continue')
        raise
    print('\n'.join(describe_status(job)))
    kinds = [] if args.save is DEFAULT_SAVE else args.save
    if kinds and not args.shard:
        print_merged(job, kinds)
    return int(bool(report.failed))


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
    if args.save is not DEFAULT_SAVE and (wrong := sorted(set(args.save) - set(JOB_OUTPUTS))):
        raise ValueError(
            f'--save {" ".join(wrong)}: a job writes {", ".join(JOB_OUTPUTS)}; leave out --engine '
            'for other files'
        )
    if args.boxes or args.coco_ids or args.demo:
        raise ValueError(
            '--boxes, --coco-ids and --demo do not work with --engine; give the ids in a table '
            'with columns path and image_id'
        )
    if args.address and args.engine != 'ray':
        raise ValueError('--address needs --engine ray')


def make_absolute(source: str) -> str:
    """Return a source that means the same in every process."""
    text = source.removeprefix('@')
    if is_address(text) or text == '-':
        return source
    return source[: len(source) - len(text)] + os.path.abspath(os.path.expanduser(text))


def parse_shard(text: str | None) -> tuple[int, int]:
    """Parse the value of ``--shard``.

    Raises:
        ValueError: It is not i/n with 1 <= i <= n.
    """
    from .dataset_run import Shard

    shard = Shard.parse(text or '1/1')
    return shard.index, shard.count
