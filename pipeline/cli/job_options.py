"""Options that turn a run into a job of repeatable shards."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import parse_positive

ENGINES = ('local', 'ray')


def add_job_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of jobs."""
    add = add_engine_options(parser)
    add('--shard-size', type=parse_positive, metavar='N', help='images (default: 1000)')
    add('--shard', metavar='I/N', help='only every N-th shard, from the I-th')
    add('--retry-failed', action='store_true', help='compute failed images of done shards again')


def add_engine_options(parser: argparse.ArgumentParser) -> Any:
    """Add the options of workers; returns the function that adds more to their group."""
    group = parser.add_argument_group(
        'several workers', 'repeatable shards; see docs/user_guide/cluster.md'
    )
    add = group.add_argument
    add('--engine', choices=ENGINES, help='local: processes of this machine; ray: a cluster, or '
        'this machine (default with --save parquet or an OUT such as s3://...: local)')  # fmt: skip
    add('--workers', type=parse_count, default=1, metavar='N',
        help='models in memory at a time; 0: one in this process (default: 1)')  # fmt: skip
    add('--gpus-per-worker', type=float, default=0.0, metavar='G', help='such as 1 or 0.25')
    add('--threads', type=parse_positive, metavar='N',
        help='threads of a worker (default: cores / workers; ray: 1)')  # fmt: skip
    add('--address', metavar='HOST:PORT', help='of a Ray cluster (default: RAY_ADDRESS, or a new '
        'one on this machine)')  # fmt: skip
    return add


def parse_count(text: str) -> int:
    """Parse an integer >= 0, for argparse."""
    return 0 if text == '0' else parse_positive(text)


def parse_folder(text: str) -> Path | str:
    """Parse a path, or an address such as ``s3://bucket/folder``, for argparse."""
    return text if '://' in text else Path(text)


def is_job(args: argparse.Namespace) -> bool:
    """Return whether the arguments of ``bmp run`` describe a job."""
    return bool(args.engine or isinstance(args.out_dir, str) or 'parquet' in args.save)
