"""Train a detector, a pose model or a segmenter with MMEngine's Runner.

The config defines model, data and schedule; its `default_scope` (`mmdet`, `mmpose` or `mmengine`)
selects the registry. All settings and paths are checked before any data is read. To continue a
stopped run, add `--resume`; the final weights equal those of an uninterrupted run. See
docs/user_guide/training_*.md.

Examples:
    bmp train configs/pose/pmpose_b_coco.py --check
    bmp train configs/pose/pmpose_b_coco.py --amp bf16
    torchrun --nproc_per_node 4 -m pipeline train configs/detector/rtmdet-ins_l_insmask_person.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import add_cfg_options, make_parser, parse_cfg_options

if TYPE_CHECKING:
    from ..training.launch import LaunchOptions

PROG = 'bmp train'
LATEST = 'latest'


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = make_parser(PROG, __doc__)
    add = parser.add_argument
    add('config', type=Path, help='training config (MMEngine, Python file)')
    add('--work-dir', type=Path, help='logs and checkpoints (default: `work_dir` of the config, '
        'else work_dirs/<config name>)')  # fmt: skip
    add('--resume', nargs='?', const=LATEST, metavar='CHECKPOINT',
        help='resume from this checkpoint (default: the latest of the work directory, if there is '
        'one)')  # fmt: skip
    add('--amp', choices=('bf16', 'fp16'),
        help='precision of the forward pass; fp16 needs a GPU (default: config)')  # fmt: skip
    add('--accumulate', type=int, metavar='N', help='accumulate the gradients of N batches')
    add('--launcher', choices=('none', 'pytorch', 'slurm'),
        help='job launcher (default: pytorch under torchrun, else none)')  # fmt: skip
    add('--seed', type=int, help='default: config, else 0')
    add('--tensorboard', action='store_true', help='also write curves for TensorBoard')
    add('--threads', type=int, help='CPU threads (default: torch)')
    add('--check', action='store_true', help='check settings, data paths and model, then stop')
    add_cfg_options(parser)
    return parser


def build_options(args: argparse.Namespace) -> LaunchOptions:
    """Convert the command line to `LaunchOptions`."""
    from ..training.launch import LaunchOptions

    return LaunchOptions(
        work_dir=args.work_dir,
        resume=args.resume if args.resume in (None, LATEST) else Path(args.resume),
        amp=args.amp,
        accumulate=args.accumulate,
        launcher=args.launcher,
        seed=args.seed,
        tensorboard=args.tensorboard,
        quiet=args.check,
        overrides=parse_cfg_options(args.cfg_options),
    )


def describe(runner: Any) -> str:
    """Describe the training in a few lines."""
    parameters = list(runner.model.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    frozen = sum(p.numel() for p in parameters if not p.requires_grad)
    optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    rates = [group['lr'] for group in optim_wrapper.param_groups]
    loop, loader = runner.cfg.train_cfg, runner.cfg.train_dataloader
    length = (
        f'{loop.max_epochs} epochs' if loop.get('max_epochs') else f'{loop.max_iters} iterations'
    )
    return '\n'.join([
        f'model       {type(runner.model).__name__}: {trained / 1e6:.2f} M parameters trained, '
        f'{frozen / 1e6:.2f} M frozen',
        f'optimiser   {type(optim_wrapper.optimizer).__name__} in {type(optim_wrapper).__name__}, '
        f'learning rates {min(rates):.3g} to {max(rates):.3g}',
        f'training    {length}, {loader.batch_size} samples per step and process, '
        f'{runner.world_size} processes, seed {runner.seed}',
        f'work dir    {runner.work_dir}',
    ])  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns 2 if settings are wrong or data is missing."""
    args = build_parser().parse_args(argv)
    if args.threads is not None:
        import torch

        torch.set_num_threads(args.threads)
    from ..training.config_check import SettingsError
    from ..training.launch import build_runner, leave_processes
    from ..weights.manifest import CheckpointError

    try:
        runner = build_runner(args.config, build_options(args))
    except SettingsError as error:
        print(f'{args.config}: the training was not started.', file=sys.stderr)
        for problem in error.problems:
            print(f'  - {problem}', file=sys.stderr)
        return 2
    except (ValueError, FileNotFoundError, CheckpointError) as error:
        place = '' if str(args.config) in str(error) else f'{args.config}: '
        print(f'{PROG}: error: {place}{error}', file=sys.stderr)
        return 2
    if args.check:
        print(describe(runner))
        return 0
    try:
        runner.train()
    except CheckpointError as error:
        print(f'{args.config}: {error}', file=sys.stderr)
        return 2
    leave_processes()
    return 0
