"""Measure the loop in the order of work of the reference and in that of the package.

The people of the image are scripted: every model runs at its full cost, but its weights do not
affect which people are found. Random weights suffice.

Examples:
    python -m projects.reference_schedule --people 20
    python -m projects.reference_schedule --config bmp_v2 --random-weights --size 1280 960
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .case import Case


def build_parser() -> argparse.ArgumentParser:
    """Command line of the comparison."""
    parser = argparse.ArgumentParser(
        'python -m projects.reference_schedule',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('--config', default='bmp_compact', help='name in configs/ or file (default: %(default)s)')
    add('--people', type=int, default=20)
    add('--size', type=int, nargs=2, default=(640, 480), metavar=('WIDTH', 'HEIGHT'))
    add('--rounds', type=int, default=2, help='each finds an equal part of the people')
    add('--random-weights', action='store_true', help='no checkpoints needed; times are the same')
    add('--device', default='cpu')
    add('--threads', type=int, default=1, help='of PyTorch and OpenCV (default: 1)')
    add('--repeats', type=int, default=3, help='runs after the warm-up; medians are reported')
    add(
        '--same-process',
        action='store_true',
        help='measure memory in the timed runs as well, not in processes of their own',
    )
    add('--json', type=Path, help='also write the figures to this file')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table; exit code 2 for wrong arguments."""
    args = build_parser().parse_args(argv)
    from pipeline.io.atomic import write_json
    from pipeline.weights.manifest import CheckpointError

    from .schedule import compare_schedules, to_markdown

    try:
        case = Case(
            config=args.config,
            width=args.size[0],
            height=args.size[1],
            people=args.people,
            rounds=args.rounds,
            random_weights=args.random_weights,
            device=args.device,
            threads=args.threads,
        )
        figures = compare_schedules(case, args.repeats, own_process=not args.same_process)
    except (ValueError, CheckpointError) as error:
        sys.stderr.write(f'reference_schedule: error: {error}\n')
        return 2
    if args.json:
        write_json(args.json, figures, indent=2)
    sys.stdout.write(to_markdown(figures))
    return 0


if __name__ == '__main__':
    sys.exit(main())
