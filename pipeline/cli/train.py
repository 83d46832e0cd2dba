"""Train a detector, a pose model or a segmenter with MMEngine's Runner.

The config decides everything: model, data, schedule, and by `default_scope` (`mmdet`, `mmpose`
or `mmengine`) whose names it uses. All settings and paths are checked before any data is read.
A run that was stopped or killed goes on with the same command plus `--resume`, and ends with the
same weights as one that was not. See docs/training.md.

Examples:
    python tools/train.py configs/pose/pmpose_b_coco.py --check
    python tools/train.py configs/pose/pmpose_b_coco.py --amp bf16
    torchrun --nproc_per_node 4 tools/train.py configs/detector/rtmdet-ins_l_insmask_person.py
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.training.launch import LaunchOptions

LATEST = 'latest'


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, help='training config (MMEngine, Python file)')
    parser.add_argument(
        '--work-dir',
        type=Path,
        help='logs and checkpoints (default: `work_dir` of the config, else work_dirs/<its name>)',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const=LATEST,
        metavar='CHECKPOINT',
        help='go on from this checkpoint; without a name from the newest of the work directory, '
        'or from the start if there is none',
    )
    parser.add_argument(
        '--amp',
        choices=('bf16', 'fp16'),
        help='precision of the forward pass; fp16 needs a GPU (default: as in the config)',
    )
    parser.add_argument(
        '--accumulate', type=int, metavar='N', help='add up the gradients of N batches per update'
    )
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm'),
        help='who starts the processes (default: torchrun is noticed, else none)',
    )
    parser.add_argument('--seed', type=int, help='seed (default: that of the config, else 0)')
    parser.add_argument(
        '--tensorboard', action='store_true', help='write curves for TensorBoard as well'
    )
    parser.add_argument('--threads', type=int, help='CPU threads (default: what torch chooses)')
    parser.add_argument(
        '--check', action='store_true', help='check settings, data paths and model, then stop'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='values that replace those of the config, e.g. train_dataloader.batch_size=8',
    )
    return parser


def parse_overrides(pairs: Sequence[str]) -> dict[str, object]:
    """Turns `KEY=VALUE` words into a dict for `Config.merge_from_dict`.

    Args:
        pairs: words such as `model.backbone.widen_factor=0.25`.

    Returns:
        Dotted key -> value; a value is read as a Python literal, else kept as text.

    Raises:
        ValueError: if a word has no `=` or an empty key.
    """
    overrides: dict[str, object] = {}
    for pair in pairs:
        key, separator, text = pair.partition('=')
        if not separator or not key:
            raise ValueError(f'--cfg-options got {pair!r}; write KEY=VALUE, e.g. randomness.seed=1')
        try:
            overrides[key] = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            overrides[key] = text
    return overrides


def options_of(args: argparse.Namespace) -> LaunchOptions:
    """The command line as `LaunchOptions`.

    Raises:
        ValueError: a word of --cfg-options is no KEY=VALUE.
    """
    from pipeline.training.launch import LaunchOptions

    return LaunchOptions(
        work_dir=args.work_dir,
        resume=args.resume if args.resume in (None, LATEST) else Path(args.resume),
        amp=args.amp,
        accumulate=args.accumulate,
        launcher=args.launcher,
        seed=args.seed,
        tensorboard=args.tensorboard,
        quiet=args.check,
        overrides=parse_overrides(args.cfg_options),
    )


def summary(runner: Any) -> str:
    """What would be trained, in a few lines."""
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
        f'training    {length}, {loader.batch_size} samples a step and process, '
        f'{runner.world_size} processes, seed {runner.seed}',
        f'work dir    {runner.work_dir}',
    ])  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and trains.

    Returns:
        0; 2 after a message if settings are wrong or data is absent.
    """
    args = build_parser().parse_args(argv)
    if args.threads is not None:
        import torch

        torch.set_num_threads(args.threads)
    from pipeline.training.config_check import SettingsError
    from pipeline.training.launch import build_runner, leave_processes

    try:
        runner = build_runner(args.config, options_of(args))
    except SettingsError as error:
        print(f'{args.config}: nothing was started.', file=sys.stderr)
        for problem in error.problems:
            print(f'  - {problem}', file=sys.stderr)
        return 2
    except (ValueError, FileNotFoundError) as error:
        print(f'{args.config}: {error}', file=sys.stderr)
        return 2
    if args.check:
        print(summary(runner))
    else:
        runner.train()
        leave_processes()
    return 0
