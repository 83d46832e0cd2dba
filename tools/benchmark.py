"""Measure the pipeline on this machine: time, memory, and how far both are from what is possible.

The people of a photo are scripted: every model runs at its full cost, but who is found does not
depend on the weights (`pipeline/benchmarks/played.py`), so random weights do.

Examples:
    python tools/benchmark.py stages --people 20 --size 1280 960
    python tools/benchmark.py sweep --over people size --plot sweep.png --markdown sweep.md
    python tools/benchmark.py schedule --config bmp_v2 --random-weights --people 20
    python tools/benchmark.py floor
    python tools/benchmark.py start
    python tools/benchmark.py memory --size 4000 3000 --people 60
    python tools/benchmark.py scoring --images 5000
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

from run_bmp import parse_pairs

PEOPLE = (1, 5, 10, 20, 50, 100)
SIZES = (640, 1280, 2000, 4000)
ROUNDS = (1, 2, 3, 4)
PRECISIONS = ('fp32', 'bf16')


def build_parser() -> argparse.ArgumentParser:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        'benchmark.py', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='mode', required=True)
    stages = commands.add_parser('stages', help='time of each stage and peak memory')
    sweep = commands.add_parser('sweep', help='the same along people, size, rounds and precision')
    schedule = commands.add_parser(
        'schedule', help="our loop against the reference's order of work, results compared"
    )
    floor = commands.add_parser('floor', help='each stage against the rates of this processor')
    for command in (stages, sweep, schedule, floor):
        _add_case(command)
    _add_sweep(sweep)
    schedule.add_argument(
        '--same-process',
        action='store_true',
        help='measure memory in the timed runs as well, not in processes of their own',
    )
    start = commands.add_parser('start', help='seconds of --help, of imports and of weights')
    start.add_argument('--config', default='bmp_compact')
    start.add_argument('--repeats', type=int, default=3)
    memory = commands.add_parser('memory', help='peak memory on one large photo, true boxes given')
    memory.add_argument('--config', default='bmp_compact')
    memory.add_argument('--people', type=int, default=60)
    memory.add_argument('--seed', type=int, default=0)
    memory.add_argument('--device', default='cpu')
    memory.add_argument('--refine', action='store_true', help='with the refining pass')
    memory.add_argument('--random-weights', action='store_true', help='no checkpoints needed')
    _add_size(memory, (4000, 3000))
    scoring = commands.add_parser('scoring', help='seconds of our scorer and of pycocotools')
    scoring.add_argument('--images', type=int, default=5000)
    scoring.add_argument('--people', type=int, default=4, help='per image, on average')
    scoring.add_argument('--seed', type=int, default=0)
    for command in commands.choices.values():
        command.add_argument('--json', type=Path, help='write the figures to this file')
        command.add_argument('--markdown', type=Path, help='write the tables to this file')
    return parser


def _add_case(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add('--config', default='bmp_compact', help='pipeline by name or file (default: bmp_compact)')
    add('--people', type=int, default=20)
    add('--rounds', type=int, default=2, help='each finds an equal share of the people')
    add('--precision', choices=('fp32', 'bf16', 'fp16'), help='default: that of the config')
    add('--random-weights', action='store_true', help='no checkpoints needed; times are the same')
    add('--device', default='cpu')
    add('--threads', type=int, default=1, help='of PyTorch and OpenCV (default: 1)')
    add('--repeats', type=int, default=3, help='runs after the warm-up; medians are told')
    add('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='more settings')
    _add_size(command, (640, 480))


def _add_size(command: argparse.ArgumentParser, size: tuple[int, int]) -> None:
    command.add_argument('--size', type=int, nargs=2, default=size, metavar=('WIDTH', 'HEIGHT'))


def _add_sweep(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add('--over', nargs='+', default=('people', 'size', 'rounds', 'precision'),
        choices=('people', 'size', 'rounds', 'precision'),
        help='axes, each alone; the other settings stay (default: all)')  # fmt: skip
    add('--over-people', type=int, nargs='+', default=PEOPLE, metavar='N')
    add('--over-size', type=int, nargs='+', default=SIZES, metavar='PX', help='longer side, 4:3')
    add('--over-rounds', type=int, nargs='+', default=ROUNDS, metavar='N')
    add('--over-precision', nargs='+', default=PRECISIONS, choices=('fp32', 'bf16', 'fp16'))
    add('--plot', type=Path, help='write the curves to this PNG')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen measurement; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.mode == 'sweep' and args.plot and set(args.over) == {'precision'}:
        parser.error('--plot draws people, size and rounds; add one of them to --over')
    from pipeline.manifest import CheckpointError

    try:
        figures = _measure(args)
    except (ValueError, CheckpointError) as error:
        sys.stderr.write(f'benchmark.py: {error}\n')
        return 2
    from pipeline.benchmarks.report import to_markdown
    from pipeline.io.atomic import write_text

    text = to_markdown(args.mode, figures)
    if args.json:
        write_text(args.json, json.dumps(figures, indent=2) + '\n')
    if args.markdown:
        write_text(args.markdown, text)
    if args.mode == 'sweep' and args.plot:
        from pipeline.benchmarks.plots import draw_sweep
        from pipeline.evaluation.charts import save_chart

        save_chart(args.plot, draw_sweep, figures)
    sys.stdout.write(text)
    return 0


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    if args.mode == 'start':
        from pipeline.benchmarks.start import measure_start

        return measure_start(args.config, args.repeats)
    if args.mode == 'scoring':
        from pipeline.benchmarks.scoring import measure_scoring

        return measure_scoring(args.images, args.people, args.seed)
    if args.mode == 'memory':
        return _memory(args)
    return _measure_loop(args)


def _memory(args: argparse.Namespace) -> dict[str, Any]:
    from pipeline.benchmarks.memory import measure_memory

    options: dict[str, Any] = {'runtime.device': args.device, 'loop.refine': args.refine}
    if args.random_weights:
        options |= {f'{part}.checkpoint': None for part in ('detector', 'pose', 'segmenter')}
    return measure_memory(args.config, options, tuple(args.size), args.people, args.seed)


def _measure_loop(args: argparse.Namespace) -> dict[str, Any]:
    from pipeline.benchmarks.case import Case

    width, height = args.size
    case = Case(
        args.config, width, height, args.people, args.rounds, args.precision,
        random_weights=args.random_weights, device=args.device, threads=args.threads,
        options=parse_pairs(args.cfg_options, 'write KEY=VALUE'),
    )  # fmt: skip
    if args.mode == 'floor':
        from pipeline.benchmarks.floor import measure_floor

        return measure_floor(case, args.repeats)
    if args.mode == 'schedule':
        from pipeline.benchmarks.schedule import compare_schedules

        return compare_schedules(case, args.repeats, own_process=not args.same_process)
    from pipeline.benchmarks.stages import measure_case, sweep

    if args.mode == 'stages':
        return {**measure_case(case, args.repeats), 'case': case.facts()}
    parts = [sweep(case, axis, vars(args)[f'over_{axis}'], args.repeats) for axis in args.over]
    return {'case': case.facts(), 'repeats': args.repeats, 'sweeps': parts}


if __name__ == '__main__':
    sys.exit(main())
