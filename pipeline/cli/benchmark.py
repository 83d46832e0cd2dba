"""Measure the time and memory of each stage by the number of people.

The images are synthetic crowds; all settings of the config apply. Memory is measured relative to
the idle models. "found" counts the people in the result, after filters such as loop.min_score.

Examples:
    bmp benchmark
    bmp benchmark --people 5 20 50 --size 1280 960 --json benchmark.json
    bmp benchmark --config bmp_v2 --random-weights --device cuda
    bmp benchmark video --help
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .options import handle_errors, make_parser

PROG = 'bmp benchmark'


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = make_parser(PROG, __doc__)
    add = parser.add_argument
    add('--config', default='bmp_compact', help='name in configs/ or file (default: %(default)s)')
    add('--people', type=int, nargs='+', default=[1, 5, 20], metavar='N', help='default: 1 5 20')
    add('--size', type=int, nargs=2, default=(640, 480), metavar=('WIDTH', 'HEIGHT'))
    add('--device', default='cpu', help='cpu, cuda, cuda:1, ... (default: %(default)s)')
    add('--threads', type=int, help='threads of PyTorch and OpenCV (default: unchanged)')
    add('--repeats', type=int, default=3, help='runs after a warm-up (default: %(default)s)')
    add('--random-weights', action='store_true', help='build the models without their weights')
    add('--json', type=Path, metavar='FILE', help='also write the measurements to this file')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table; exit code 2 for wrong arguments or weights."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ['video']:
        from .benchmark_video import main as measure_video

        return measure_video(arguments[1:])
    parser = build_parser()
    args = parser.parse_args(arguments)
    if min(*args.people, *args.size, args.repeats) < 1:
        parser.error('--people, --size and --repeats must be >= 1')
    from ..benchmark import measure, to_markdown
    from ..io.atomic import write_json

    with handle_errors(PROG, failed=2):
        measurements = measure(
            args.config,
            args.people,
            size=tuple(args.size),
            device=args.device,
            threads=args.threads,
            repeats=args.repeats,
            random_weights=args.random_weights,
        )
        if args.json:
            write_json(args.json, measurements, indent=2)
    print(to_markdown(measurements), end='')
    return 0
