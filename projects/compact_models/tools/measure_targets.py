"""Print what the embedded compact models reach beside what they should reach.

Runs tools/test.py on one COCO file with boxes, masks and keypoints of all people: the loop with one
round, with two and with two and refining, and masks from three ground-truth keypoints. "Floor" is
what published models of this size or larger reach on similar images, "goal" what is aimed for.

Example:
    python projects/compact_models/tools/measure_targets.py person_keypoints.json --images images/
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))  # this checkout, installed or not

MIN_SIDE = 32  # px; the root of the box area of people whose mask from keypoints counts
RUNS: dict[str, tuple[str, ...]] = {
    'one round': ('--max-rounds', '1', '--no-refine'),
    'two rounds': ('--max-rounds', '2', '--no-refine'),
    'two rounds, refined': ('--max-rounds', '2', '--refine'),
    'three keypoints': (
        *('--protocol', 'gt_keypoints', '--cfg-options', 'segmenter.prompt.use_box=False'),
        'segmenter.prompt.num_keypoints=3',
    ),
}
TASKS = {'bbox': 'box', 'segm': 'mask', 'keypoints': 'keypoint'}


@dataclass(frozen=True)
class Target:
    """A target: AP and AP50, or one number, in [0, 1]."""

    name: str
    goal: tuple[float, ...]
    floor: tuple[float, ...]


AP_TARGETS = {
    'bbox': Target('box AP / AP50', (0.50, 0.80), (0.35, 0.62)),
    'segm': Target('mask AP / AP50', (0.35, 0.65), (0.21, 0.45)),
    'keypoints': Target('keypoint AP / AP50, own boxes', (0.50, 0.75), (0.30, 0.58)),
}
IOU_TARGET = Target(
    f'mean mask IoU from three ground-truth keypoints, people over {MIN_SIDE} px', (0.75,), (0.62,)
)


def build_parser() -> argparse.ArgumentParser:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('annotations', type=Path, help='COCO file with boxes, masks and keypoints of all people')
    add('--images', type=Path, help='folder of the images, if it is elsewhere')
    add('--config', default='bmp_compact', help='pipeline (default: %(default)s)')
    add('--work-dir', type=Path, help='keep runs here, where they resume (default: a new folder)')
    add('--markdown', type=Path, help='write the table to this file as well')
    return parser


def run_test(arguments: Sequence[str], out: Path) -> None:
    """Runs tools/test.py with these arguments, scored, into ``out``.

    Raises:
        RuntimeError: it failed; holds its last words.
    """
    command = [sys.executable, str(ROOT / 'tools' / 'test.py'), *arguments]
    done = subprocess.run(
        [*command, '--score', '--out-dir', str(out)], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f'{shlex.join(command)} failed: {done.stderr.strip()[-500:]}')


def run(args: argparse.Namespace, name: str, out: Path) -> Path:
    """Runs the pipeline over the data set.

    Returns:
        The folder of the run, with results.json and scores.json.

    Raises:
        RuntimeError: the run failed; holds its last words.
    """
    folder = out / name.replace(', ', '-').replace(' ', '_')
    arguments = [args.config, '--data', str(args.annotations.resolve())]
    if args.images is not None:
        arguments += ['--images', str(args.images.resolve())]
    run_test([*arguments, *RUNS[name]], folder)
    return folder


def average_precisions(folder: Path) -> dict[str, tuple[float, float]]:
    """AP and AP50 of each task in a run."""
    metrics = json.loads((folder / 'scores.json').read_text())['metrics']
    return {task: (metrics[task]['ap'], metrics[task]['ap50']) for task in TASKS}


def counts(person: Mapping[str, Any]) -> bool:
    """Whether the mask of a person should be found from keypoints."""
    width, height = person['bbox'][2:]
    is_visible = 2 in person.get('keypoints', [])[2::3]
    return bool(is_visible and width * height > MIN_SIDE**2 and not person.get('iscrowd'))


def mean_iou_of_large_people(folder: Path, annotations: Path) -> tuple[float, int]:
    """Mean IoU of masks from keypoints, and of how many people.

    Those of more than `MIN_SIDE` px who have a visible keypoint; no mask counts as 0.
    """
    from pipeline.evaluation.mask_iou import compute_mean_mask_iou

    ground_truth = json.loads(annotations.read_text())
    rows: Sequence[Mapping[str, Any]] = json.loads((folder / 'results.json').read_text())
    people = [person for person in ground_truth['annotations'] if counts(person)]
    wanted = {person['id'] for person in people}
    chosen = [dict(row) for row in rows if row['annotation_id'] in wanted]
    mean = compute_mean_mask_iou(chosen, people, ground_truth['images'])
    return mean.mean or 0.0, mean.people


def change_verdict(change: float) -> str:
    """How far a gain has come; one that three digits do not show is none, any loss is one."""
    if change < 0:
        return 'a loss'
    return 'goal reached' if round(change, 3) > 0 else 'above the floor'


def verdict(values: Sequence[float], target: Target) -> str:
    """How far the values have come."""
    if all(value >= goal for value, goal in zip(values, target.goal, strict=True)):
        return 'goal reached'
    reached = all(value >= floor for value, floor in zip(values, target.floor, strict=True))
    return 'above the floor' if reached else 'below the floor'


def shown(values: Sequence[float]) -> str:
    """Shares of 1 with three digits."""
    return ' / '.join(f'{value:.3f}' for value in values)


def target_row(target: Target, values: Sequence[float]) -> str:
    """A line of the table."""
    cells = (target.name, shown(target.goal), shown(target.floor), shown(values))
    return f'| {" | ".join(cells)} | {verdict(values, target)} |'


def table(runs: Mapping[str, Mapping[str, tuple[float, float]]], iou: tuple[float, int]) -> str:
    """The whole table as Markdown.

    Args:
        runs: average precisions by task, for the three ways of running the loop.
        iou: mean and number of people.
    """
    lines = ['| | goal | floor | measured | |', '|---|---|---|---|---|']
    lines += [target_row(AP_TARGETS[task], runs['two rounds'][task]) for task in TASKS]
    lines.append(target_row(IOU_TARGET, [iou[0]]))
    one, refined = runs['one round'], runs['two rounds, refined']
    for task, name in TASKS.items():
        change = refined[task][0] - one[task][0]
        word = change_verdict(change)
        cells = (f'{one[task][0]:.3f} to {refined[task][0]:.3f} ({change:+.3f})', word)
        lines.append(
            f'| {name} AP, one round to two refined | a gain | no loss | {" | ".join(cells)} |'
        )
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 and a message when a run fails."""
    args = build_parser().parse_args(argv)
    if not args.annotations.is_file():
        print(f'measure_targets.py: there is no file {args.annotations}', file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        out = args.work_dir or Path(temporary)
        try:
            folders = {name: run(args, name, out) for name in RUNS}
        except RuntimeError as error:
            print(f'measure_targets.py: {error}', file=sys.stderr)
            return 1
        iou = mean_iou_of_large_people(folders.pop('three keypoints'), args.annotations)
        text = table({name: average_precisions(folder) for name, folder in folders.items()}, iou)
    print(text)
    if args.markdown is not None:
        args.markdown.write_text(text + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
