"""Measure the time and memory of each stage by the number of people.

The images are drawn crowds, and every setting of the config holds. Memory is counted from what the
idle models hold. "found" are the people in the result: a config may drop some, for example by
loop.min_score.

Examples:
    python tools/benchmark.py
    python tools/benchmark.py --people 5 20 50 --size 1280 960 --json benchmark.json
    python tools/benchmark.py --config bmp_v2 --random-weights --device cuda
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def build_parser() -> argparse.ArgumentParser:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(
        'benchmark.py', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--config', default='bmp_compact', help='name in configs/ or file (default: %(default)s)')
    add('--people', type=int, nargs='+', default=[1, 5, 20], metavar='N', help='default: 1 5 20')
    add('--size', type=int, nargs=2, default=(640, 480), metavar=('WIDTH', 'HEIGHT'))
    add('--device', default='cpu', help='cpu, cuda, cuda:1, ... (default: %(default)s)')
    add('--threads', type=int, help='threads of PyTorch and OpenCV (default: their own)')
    add('--repeats', type=int, default=3, help='runs after a warm-up (default: %(default)s)')
    add('--random-weights', action='store_true', help='build the models without their weights')
    add('--json', type=Path, metavar='FILE', help='also write the figures to this file')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table; exit code 2 for wrong arguments."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if min(*args.people, *args.size, args.repeats) < 1:
        parser.error('--people, --size and --repeats must be >= 1')
    from pipeline.benchmark import measure, to_markdown
    from pipeline.io.atomic import write_json
    from pipeline.weights.manifest import CheckpointError

    try:
        figures = measure(
            args.config,
            args.people,
            size=tuple(args.size),
            device=args.device,
            threads=args.threads,
            repeats=args.repeats,
            random_weights=args.random_weights,
        )
    except (ValueError, CheckpointError) as error:
        sys.stderr.write(f'benchmark.py: error: {error}\n')
        return 2
    if args.json:
        write_json(args.json, figures, indent=2)
    sys.stdout.write(to_markdown(figures))
    return 0
