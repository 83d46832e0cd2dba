"""Plot box, mask and keypoint AP against the number of rounds, with and without refinement.

Every image runs once with the largest number of rounds; the state after round r equals the result
of a run with `loop.max_rounds=r`. Computed parts are saved in OUT/photos: the same command resumes
an interrupted study.

Examples:
    python projects/studies/tools/study_rounds.py bmp_compact --data annotations.json --rounds 3
    python projects/studies/tools/study_rounds.py bmp_v2 --data ochuman_val --rounds 4 --refine both

Writes OUT/rounds.csv, OUT/rounds.png, OUT/rounds.json, and for every setting the COCO results
OUT/results_<rounds>[-refined].json for tools/score.py and tools/compare_results.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from projects.studies.rounds import RoundRow

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # this checkout, installed or not

from pipeline.cli.options import get_overrides, handle_errors, make_parser
from projects.studies import common

REFINE = {'off': (False,), 'on': (True,), 'both': (False, True)}


def build_parser() -> argparse.ArgumentParser:
    """Command line of this tool."""
    parser = make_parser('study_rounds.py', __doc__)
    common.add_arguments(parser, 'outputs/study_rounds')
    add = parser.add_argument
    add('--rounds', type=int, default=3, metavar='N', help='rounds 1 to N (default: 3)')
    add('--refine', choices=tuple(REFINE), default='both', dest='refinement', help='default: both')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code."""
    args = build_parser().parse_args(argv)
    with handle_errors('study_rounds.py'):
        return run(args)


def run(args: argparse.Namespace) -> int:
    """Compute what is missing, write the files, print the table.

    Raises:
        ValueError: invalid settings or data.
    """
    from pipeline.build import build_pipeline
    from pipeline.cli.options import make_reporter
    from pipeline.config import load_config
    from pipeline.io.atomic import write_json
    from projects.studies.images import (
        build_provenance,
        compute_images,
        load_study_data,
        select_annotations,
    )
    from projects.studies.rounds import (
        RoundStudy,
        compute_round_rows,
        make_round_settings,
        select_results,
    )

    options = get_overrides(args)
    config = load_config(args.config, options | {'loop.max_rounds': args.rounds})
    # A round depends neither on the number of rounds nor on the refinement setting.
    free = {'loop.max_rounds': None, 'loop.refine': False}
    any_rounds = load_config(args.config, options | free)
    settings = make_round_settings(args.rounds, REFINE[args.refinement])
    dataset = common.find_data(args)
    data = load_study_data(dataset, args.limit)
    built = build_pipeline(config)
    computed = compute_images(
        data.images,
        args.out / 'photos',
        [s.name for s in settings],
        RoundStudy(built.run),
        depends_on=build_provenance(any_rounds, built),
        reporter=make_reporter(),
    )
    common.check_computed(computed)
    for setting in settings:
        name = f'results_{setting.name}.json'
        write_json(args.out / name, select_results(setting, computed.parts))
    annotations = select_annotations(data, computed.parts)
    rows = compute_round_rows(settings, computed.parts, annotations, dataset.tasks)
    facts = {
        'config': args.config, 'data': dataset.name, 'photos': len(computed.parts),
        'device': built.device,
    }  # fmt: skip
    common.save_tables(args.out, 'rounds', rows, facts, text=describe(rows), draw=draw)
    _print_table(rows, facts)
    print(describe(rows))
    return common.report(computed.failures, data.notes, args.out)


def draw(rows: Sequence[RoundRow], facts: dict[str, Any]) -> Figure:
    """Draw AP and AR of each task, and the time."""
    from pipeline.evaluation.metrics import TASK_NAMES
    from projects.studies.charts import draw_lines

    panels = []
    for task in dict.fromkeys(r.task for r in rows):
        curves = [
            (f'{label}{", refined" if refine else ""}', *_curve(rows, task, refine, key, 100))
            for refine in dict.fromkeys(r.refine for r in rows)
            for label, key in (('AP', 'ap'), ('AR', 'ar'))
        ]
        panels.append((TASK_NAMES[task], 'percent', curves))
    first = rows[0].task
    times = [
        ('refined' if refine else 'not refined', *_curve(rows, first, refine, _TIME, 1))
        for refine in dict.fromkeys(r.refine for r in rows)
    ]
    panels.append((f'time ({facts["device"]})', 'seconds per image, all rounds', times))
    title = (
        f'{facts["config"]} on {facts["data"]}: rounds of the loop '
        f'({facts["photos"]} images, n={rows[0].num_annotated} people)'
    )
    return draw_lines(title, 'rounds', panels)


_TIME = 'seconds_per_photo'


def _curve(
    rows: Sequence[RoundRow], task: str, refine: bool, key: str, factor: float
) -> tuple[list[int], list[float]]:
    chosen = [r for r in rows if r.task == task and r.refine == refine]
    return [r.rounds for r in chosen], [factor * (getattr(r, key) or 0) for r in chosen]


def describe(rows: Sequence[RoundRow]) -> str:
    """Summarize the best setting per task and its gain in one line."""
    parts = []
    for task in dict.fromkeys(r.task for r in rows):
        of_task = [r for r in rows if r.task == task]
        best = max(of_task, key=lambda r: (r.ap or 0, -r.rounds))
        refined = ' refined' if best.refine else ''
        gain = 100 * ((best.ap or 0) - (of_task[0].ap or 0))
        parts.append(
            f'{task}: {100 * (best.ap or 0):.1f} with {best.rounds} '
            f'round{"s"[: best.rounds - 1]}{refined} ({gain:+.1f} against one round)'
        )
    return 'Highest AP: ' + '; '.join(parts)


def _print_table(rows: Sequence[RoundRow], facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from pipeline.evaluation.metrics import format_percent

    people = rows[0].num_annotated
    subject = f'{facts["config"]} on {facts["data"]}'
    title = f'{subject}: {facts["photos"]} images, {people} people; AP / AR, percent'
    table = Table(title=title)
    tasks = list(dict.fromkeys(r.task for r in rows))
    for name in ('rounds', 'refined', *tasks, 'results', 's/image'):
        table.add_column(name, justify='right')
    for first in (r for r in rows if r.task == tasks[0]):
        same = [r for r in rows if (r.rounds, r.refine) == (first.rounds, first.refine)]
        table.add_row(
            str(first.rounds),
            'yes' if first.refine else 'no',
            *(f'{format_percent(r.ap)} / {format_percent(r.ar)}' for r in same),
            str(first.num_results),
            f'{first.seconds_per_photo:.2f}',
        )
    Console().print(table)


if __name__ == '__main__':
    sys.exit(main())
