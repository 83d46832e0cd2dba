"""Compare PoseMaskRefine with the correction clicks of SAM, at small scale.

Fine-tunes the compact SAM 2.1 with each strategy and seed for the same number of steps, and scores
each on unseen images with prompts of 1, 2, 3, 5 and all visible keypoints. Existing results are
kept: the same command resumes an interrupted study, and several processes can split the work
(--strategies, --seeds). Table and plot contain all existing results.

Examples:
    python projects/studies/tools/study_pose_mask_refine.py --steps 250 --threads 1
    python projects/studies/tools/study_pose_mask_refine.py --report docs/img/pose_mask_refine.png
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))  # this checkout, installed or not

BASE, UNIFORM, REFINE = (
    f'projects/compact_models/configs/pose_mask_refine_{name}.py'
    for name in ('base', 'uniform', 'refine')
)
Clicks = dict[str, Any]
# Name -> config, and changes of its clicks.
STRATEGIES: dict[str, tuple[str, Clicks]] = {
    'base': (BASE, {}),
    'uniform': (UNIFORM, {}),
    'refine': (REFINE, {}),
    'refine-most-visible': (REFINE, {'choice': 'most_visible'}),
    'refine-half-keypoints': (REFINE, {'keypoint_prob': 0.5}),
    'refine-sampled-first': (REFINE, {'first_click': 'sampled'}),
    'keypoint-then-uniform': (REFINE, {'keypoint_prob': 0.0}),
}
MAIN = ('base', 'uniform', 'refine')
COUNTS = ('1', '2', '3', '5', 'all')
SETS = {'dev': 'people of the development images', 'val': 'held-out people of the training set'}


def build_parser() -> argparse.ArgumentParser:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--strategies', nargs='+', choices=tuple(STRATEGIES), default=list(MAIN))
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--steps', type=int, default=250, help='training steps of each run')
    parser.add_argument(
        '--data-root',
        type=Path,
        default=Path('data'),
        help='contains train/ and dev/ (default: data)',
    )
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/pose2seg/study'))
    parser.add_argument('--threads', type=int, help='CPU threads (default: set by PyTorch)')
    parser.add_argument(
        '--report', type=Path, metavar='PNG', help='do not train; print the table, plot to PNG'
    )
    return parser


def study_config(strategy: str, seed: int, args: argparse.Namespace) -> Any:
    """Build the MMEngine config of one run."""
    from mmengine.config import Config

    path, clicks = STRATEGIES[strategy]
    config = Config.fromfile(str(ROOT / path))
    config.model.clicks = {**config.model.get('clicks', {}), **clicks}
    config.work_dir = str(args.work_dir / f'{strategy}_{seed}')
    config.randomness = {'seed': seed}
    config.train_cfg.max_iters = args.steps
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.dataset.data_root = str(args.data_root)
    warmup = min(20, args.steps // 4)
    config.param_scheduler = [
        {'type': 'LinearLR', 'start_factor': 0.05, 'by_epoch': False, 'end': warmup},
        {
            'type': 'CosineAnnealingLR',
            'by_epoch': False,
            'begin': warmup,
            'T_max': args.steps - warmup,
            'eta_min_ratio': 0.1,
        },
    ]
    # `run` computes the scores; save a checkpoint only at the end.
    config.val_cfg.type = 'ValLoop'
    config.train_cfg.val_interval = args.steps + 1
    config.default_hooks.checkpoint.interval = args.steps
    config.resume = False
    return config


def run(strategy: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train (except the baseline) and score one model."""
    import time

    from mmengine.runner import Runner

    runner = Runner.from_cfg(study_config(strategy, seed, args))
    started = time.process_time()
    if strategy != 'base':
        runner.train()
    spent = time.process_time() - started
    scores = {'val': runner.val(), 'dev': runner.test()}
    return {'strategy': strategy, 'seed': seed, 'steps': args.steps, 'cpu_s': spent, **scores}


def find_result_file(work_dir: Path, strategy: str, seed: int) -> Path:
    """Return the file with the scores of a run."""
    return work_dir / f'{strategy}_{seed}.json'


def read_results(work_dir: Path) -> list[dict[str, Any]]:
    """Read all existing results."""
    results = [json.loads(p.read_text()) for p in work_dir.glob('*.json')]
    order = list(STRATEGIES)
    return sorted(results, key=lambda row: (order.index(row['strategy']), row['seed']))


def summarize(results: Sequence[dict[str, Any]], which: str) -> dict[str, dict[str, list[float]]]:
    """Group the results: strategy -> number of keypoints -> mean IoU of each seed."""
    table: dict[str, dict[str, list[float]]] = {}
    for row in results:
        for count in COUNTS:
            scores = table.setdefault(row['strategy'], {}).setdefault(count, [])
            scores.append(row[which][f'pose2seg/iou_{count}'])
    return table


def render_tables(results: Sequence[dict[str, Any]]) -> str:
    """Render tables of mean IoU: mean over seeds, and half of the range."""
    import numpy as np

    lines = []
    for which, description in SETS.items():
        people = int(results[0][which]['pose2seg/people'])
        lines += [f'Mean IoU, {people} {description}:', '']
        lines += ['| strategy | seeds | ' + ' | '.join(f'k = {c}' for c in COUNTS) + ' |']
        lines += ['|---|--:|' + '--:|' * len(COUNTS)]
        for strategy, scores in summarize(results, which).items():
            cells = [
                f'{np.mean(v):.3f}' + (f' ± {np.ptp(v) / 2:.3f}' if len(v) > 1 else '')
                for v in scores.values()
            ]
            lines.append(f'| {strategy} | {len(scores["1"])} | ' + ' | '.join(cells) + ' |')
        lines.append('')
    return '\n'.join(lines)


def plot(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Plot IoU against the number of keypoints: mean over seeds, band from minimum to maximum."""
    import matplotlib as mpl

    mpl.use('Agg')
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(1, len(SETS), figsize=(9.5, 3.8), sharey=True)
    for axis, which in zip(axes, SETS, strict=True):
        for strategy, scores in summarize(results, which).items():
            if strategy != 'base' and len(scores['1']) < 2:  # no spread
                continue
            rows = np.array([scores[count] for count in COUNTS])
            axis.plot(COUNTS, rows.mean(1), marker='o', label=strategy)
            axis.fill_between(COUNTS, rows.min(1), rows.max(1), alpha=0.2)
        axis.set_title(f'{int(results[0][which]["pose2seg/people"])} {SETS[which]}', fontsize=10)
        axis.set_xlabel('visible keypoints in the prompt')
        axis.grid(alpha=0.3)
    axes[0].set_ylabel('mean IoU')
    axes[0].legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, then print the tables.

    Returns:
        0; 2 without results.
    """
    args = build_parser().parse_args(argv)
    args.work_dir.mkdir(parents=True, exist_ok=True)
    if args.report is None:
        from pipeline.io.atomic import write_json

        if args.threads is not None:
            import torch

            torch.set_num_threads(args.threads)
        logging.getLogger().setLevel(logging.INFO)
        for seed in args.seeds:
            for strategy in args.strategies:
                file = find_result_file(args.work_dir, strategy, 0 if strategy == 'base' else seed)
                if not file.exists():
                    write_json(file, run(strategy, seed, args), indent=2)
    results = read_results(args.work_dir)
    if not results:
        print(f'no results in {args.work_dir}; run without --report first', file=sys.stderr)
        return 2
    print(render_tables(results))
    if args.report is not None:
        plot(results, args.report)
    return 0


if __name__ == '__main__':
    sys.exit(main())
