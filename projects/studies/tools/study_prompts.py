"""Plot mask AP and mean IoU against the number of prompt keypoints and their selection.

Prompts are the labelled keypoints of annotated people (default), or with `--keypoints detected`
the keypoints predicted in round one. Masks are predicted independently. Each image is embedded
once. Computed parts are saved in OUT/photos: the same command resumes an interrupted study, and
further k or methods compute only what is missing.

Examples:
    python projects/studies/tools/study_prompts.py bmp_compact --data annotations.json --k 1 3 17
    python projects/studies/tools/study_prompts.py bmp_v2 --data coco_val2017 --no-box

Writes OUT/prompts.csv, OUT/prompts.png and OUT/prompts.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipeline.config import ResolvedConfig
    from projects.studies.prompts import PromptRow

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # this checkout, installed or not

from pipeline.cli.options import get_overrides, handle_errors, make_parser
from pipeline.segmenters.prompts import METHODS
from projects.studies import common


def build_parser() -> argparse.ArgumentParser:
    """Command line of this tool."""
    parser = make_parser('study_prompts.py', __doc__)
    common.add_arguments(parser, 'outputs/study_prompts')
    add = parser.add_argument
    add(
        '--k', nargs='+', type=int, default=list(range(1, 18)), metavar='K',
        help='maximum number of prompt keypoints (default: 1 to 17)',
    )  # fmt: skip
    add('--methods', nargs='+', choices=METHODS, default=list(METHODS), help='default: all')
    add('--keypoints', choices=('truth', 'detected'), default='truth', help='default: truth')
    add(
        '--box', action=argparse.BooleanOptionalAction,
        help='prompt SAM with the box too (default: setting of the config)',
    )  # fmt: skip
    add(
        '--draw-ties', type=int, metavar='SEED',
        help='rank the labelled keypoints of a person randomly; by default k_most_visible takes '
        'them in the order of COCO, face first, since all are equally visible',
    )  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code."""
    args = build_parser().parse_args(argv)
    with handle_errors('study_prompts.py'):
        return run(args)


def run(args: argparse.Namespace) -> int:
    """Compute what is missing, write the files, print the table.

    Raises:
        ValueError: invalid settings or data.
    """
    from pipeline.build import build_pipeline
    from pipeline.cli.options import make_reporter
    from pipeline.config import load_config
    from projects.studies.images import build_provenance, compute_images, load_study_data
    from projects.studies.prompts import PromptStudy, compute_prompt_rows, make_prompt_settings

    if args.draw_ties is not None and args.keypoints != 'truth':
        raise ValueError('--draw-ties requires --keypoints truth')
    settings = list(make_prompt_settings(args.methods, sorted(set(args.k))))
    dataset = common.find_data(args)
    needed = {'segm'} | ({'keypoints'} if args.keypoints == 'truth' else set())
    if lacking := needed - set(dataset.tasks):
        raise ValueError(f'{dataset.name} has no annotations for {", ".join(sorted(lacking))}')
    options = get_overrides(args)
    if args.box is not None:
        options['segmenter.prompt.use_box'] = args.box
    config = _without_idle_weights(load_config(args.config, options), args.keypoints)
    data = load_study_data(dataset, args.limit)
    built = build_pipeline(config)
    prompt = config.settings.segmenter.prompt
    computed = compute_images(
        data.images,
        args.out / 'photos',
        [s.name for s in settings],
        PromptStudy(built.run, prompt, args.keypoints, args.draw_ties),
        depends_on=build_provenance(config, built, keypoints=args.keypoints, ties=args.draw_ties),
        reporter=make_reporter(),
    )
    common.check_computed(computed)
    rows = compute_prompt_rows(settings, data.images, computed.parts)
    facts = {
        'config': args.config, 'data': dataset.name, 'keypoints': args.keypoints,
        'box': prompt.use_box, 'draw_ties': args.draw_ties, 'photos': len(computed.parts),
    }  # fmt: skip
    common.save_tables(args.out, 'prompts', rows, facts, text=describe(rows), draw=draw)
    _print_table(rows, facts)
    print(describe(rows))
    return common.report(computed.failures, data.notes, args.out)


def draw(rows: Sequence[PromptRow], facts: dict[str, Any]) -> Figure:
    """Draw mask AP and mean IoU of all methods."""
    from projects.studies.charts import draw_lines

    panels = []
    for key, label, number in (
        ('mask_ap', 'mask AP, percent', 'num_people'),
        ('mean_iou', 'mean mask IoU, percent', 'num_prompted'),
    ):
        curves = [
            (
                method,
                [r.num_keypoints for r in rows if r.method == method],
                [100 * (getattr(r, key) or 0) for r in rows if r.method == method],
            )
            for method in dict.fromkeys(r.method for r in rows)
        ]
        title = f'{label.split(",")[0]} (n={getattr(rows[0], number)} people)'
        panels.append((title, label, curves))
    return draw_lines(_title(facts), 'maximum number of prompt keypoints', panels)


def describe(rows: Sequence[PromptRow]) -> str:
    """Summarize the study in one line."""
    known = [r for r in rows if r.mean_iou is not None]
    if not known:
        return 'No people were prompted.'
    iou = max(known, key=lambda r: (r.mean_iou or 0, -r.num_keypoints))
    ap = max(known, key=lambda r: (r.mask_ap or 0, -r.num_keypoints))
    return (
        f'Highest mean IoU {100 * (iou.mean_iou or 0):.1f} with {iou.num_keypoints} by '
        f'{iou.method}; highest mask AP {100 * (ap.mask_ap or 0):.1f} with {ap.num_keypoints} by '
        f'{ap.method}.'
    )


def _title(facts: dict[str, Any]) -> str:
    drawn = ', ties in random order' if facts['draw_ties'] is not None else ''
    source = {'truth': 'labelled keypoints', 'detected': 'detected people and keypoints'}
    box = 'with' if facts['box'] else 'without'
    what = f'{facts["config"]} on {facts["data"]}'
    return f'{what}: prompts from {source[facts["keypoints"]]}{drawn}, {box} box prompt'


def _print_table(rows: Sequence[PromptRow], facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    people = f'{rows[0].num_people} people for AP, {rows[0].num_prompted} for IoU'
    table = Table(title=f'{_title(facts)}\n{people}; mask AP / mean IoU, percent')
    methods = list(dict.fromkeys(r.method for r in rows))
    for name in ('k', *methods):
        table.add_column(name, justify='right')
    for k in dict.fromkeys(r.num_keypoints for r in rows):
        same = {r.method: r for r in rows if r.num_keypoints == k}
        table.add_row(str(k), *(_cell(same[m]) for m in methods))
    Console().print(table)


def _cell(row: PromptRow) -> str:
    figures = (row.mask_ap, row.mean_iou)
    return ' / '.join('–' if v is None else f'{100 * v:.1f}' for v in figures)


def _without_idle_weights(config: ResolvedConfig, keypoints: str) -> ResolvedConfig:
    """With labelled keypoints, detector and pose estimator do nothing and need no weights."""
    if keypoints == 'detected':
        return config
    settings = config.settings
    idle = {
        name: replace(getattr(settings, name), checkpoint=None) for name in ('detector', 'pose')
    }
    return replace(config, settings=replace(settings, **idle))


if __name__ == '__main__':
    sys.exit(main())
