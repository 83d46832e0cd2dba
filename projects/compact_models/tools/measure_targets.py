r"""Print what the embedded compact models reach beside what they should reach.

Runs tools/test.py on a COCO file: the loop with one round, with two, and with two and refining, and
poses in ground-truth boxes.

Examples:
    python projects/compact_models/tools/measure_targets.py person_keypoints.json --images images/
    python projects/compact_models/tools/measure_targets.py data/people/annotations.json \
        --targets held-out --subset val
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))  # this checkout, installed or not

RUNS: dict[str, tuple[str, ...]] = {
    'one round': ('--max-rounds', '1', '--no-refine'),
    'two rounds': ('--max-rounds', '2', '--no-refine'),
    'two rounds, refined': ('--max-rounds', '2', '--refine'),
    'ground-truth boxes': ('--protocol', 'gt_boxes'),
}
TASKS = {'bbox': 'box', 'segm': 'mask', 'keypoints': 'keypoint'}
# Data -> (run, task) -> floor and goal of the AP.
TARGETS: dict[str, dict[tuple[str, str], tuple[float, float]]] = {
    'development': {
        ('two rounds', 'bbox'): (0.32, 0.40),
        ('two rounds', 'segm'): (0.21, 0.28),
        ('two rounds', 'keypoints'): (0.27, 0.36),
        ('ground-truth boxes', 'keypoints'): (0.32, 0.40),
    },
    'held-out': {
        ('two rounds', 'bbox'): (0.38, 0.46),
        ('two rounds', 'keypoints'): (0.39, 0.46),
        ('ground-truth boxes', 'keypoints'): (0.46, 0.54),
    },
}
# Two runs -> tasks whose AP should rise from one to the other.
GAINS = {
    ('one round', 'two rounds'): ('bbox', 'segm'),
    ('two rounds', 'two rounds, refined'): ('keypoints',),
}
Precisions = Mapping[str, Mapping[str, float]]  # run -> task -> AP


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('annotations', type=Path, help='COCO file')
    add('--images', type=Path, help='folder of the images, if it is elsewhere')
    add('--targets', choices=TARGETS, default='development', help='default: %(default)s')
    add('--subset', help="only images with this `subset` and complete boxes, such as 'val'")
    add('--config', default='bmp_compact', help='pipeline (default: %(default)s)')
    add('--work-dir', type=Path, help='keep runs here, where they resume (default: a new folder)')
    return parser


def run(args: argparse.Namespace, name: str, annotations: Path, out: Path) -> dict[str, float]:
    """Run the pipeline over the annotated images; returns the AP of every task.

    Raises:
        RuntimeError: The run failed; holds the end of its messages.
    """
    folder = out / name.replace(', ', '-').replace(' ', '_')
    command = [sys.executable, str(ROOT / 'tools' / 'test.py'), args.config]
    images = args.images or args.annotations.parent
    command += ['--data', str(annotations), '--images', str(images.resolve()), *RUNS[name]]
    command += ['--score', '--out-dir', str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f'{shlex.join(command)} failed: {done.stderr.strip()[-500:]}')
    metrics = json.loads((folder / 'scores.json').read_text())['metrics']
    return {task: metrics[task]['ap'] for task in TASKS if task in metrics}


def judge(value: float, floor: float, goal: float) -> str:
    """Compare a figure with its floor and its goal."""
    if value >= goal:
        return 'goal reached'
    return 'above the floor' if value >= floor else 'below the floor'


def make_table(found: Precisions, targets: Mapping[tuple[str, str], tuple[float, float]]) -> str:
    """Format figures, targets and changes as Markdown."""
    lines = ['| AP | floor | goal | measured | |', '|---|---|---|---|---|']
    for (run_name, task), (floor, goal) in targets.items():
        value = found[run_name][task]
        cells = f'{floor:.3f} | {goal:.3f} | {value:.3f} | {judge(value, floor, goal)}'
        lines.append(f'| {TASKS[task]}, {run_name} | {cells} |')
    tasks = [task for task in TASKS if any(task == name for _, name in targets)]
    for (before, after), wanted in GAINS.items():
        for task in tasks:
            change = round(found[after][task] - found[before][task], 3)
            verdict = 'a gain' if change > 0 else 'a loss' if change < 0 else 'no loss'
            cells = f'{"a gain" if task in wanted else ""} | {change:+.3f} | {verdict}'
            lines.append(f'| {TASKS[task]}, {before} to {after} | no loss | {cells} |')
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 and a message if a run fails."""
    args = build_parser().parse_args(argv)
    if not args.annotations.is_file():
        print(f'measure_targets.py: there is no file {args.annotations}', file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        from projects.compact_models.tools.measure_slices import read_people

        annotations = Path(temporary) / 'annotations.json'
        annotations.write_text(json.dumps(read_people(args.annotations, args.subset)))
        out = args.work_dir or Path(temporary)
        try:
            found = {name: run(args, name, annotations, out) for name in RUNS}
        except RuntimeError as error:
            print(f'measure_targets.py: {error}', file=sys.stderr)
            return 1
    print(make_table(found, TARGETS[args.targets]))
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
