"""Build a runner from a training config and the options of `bmp train`."""

from __future__ import annotations

import importlib.util
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import config_file
from ..config_file import ConfigError
from ..resources import ROOT
from ..weights.checkpoints import find_weights
from ..weights.manifest import CheckpointError
from .config_check import AMP_ON_GPU, SettingsError, check_custom_keys, problems_of
from .config_names import typed_dicts, unknown_overrides
from .cpu_processes import join_processes_on_cpu
from .data_check import missing_data

if TYPE_CHECKING:
    from .train_runner import TrainRunner

SCOPES = ('mmdet', 'mmpose', 'mmengine')
LOOPS = {'EpochBasedTrainLoop': 'ResumableEpochLoop', 'IterBasedTrainLoop': 'ResumableIterLoop'}
BF16_ANYWHERE = 'Bf16OptimWrapper'
PLAIN_WRAPPERS = ('OptimWrapper', AMP_ON_GPU, BF16_ANYWHERE)
TENSORBOARD = 'TensorboardVisBackend'
PIPELINES = ('pipeline', 'switch_pipeline')


@dataclass(frozen=True)
class LaunchOptions:
    """Options of the command line. None means the value of the config."""

    # Folder of logs and checkpoints; without a value in the config: work_dirs/<its name>.
    work_dir: Path | None = None
    # Checkpoint to resume from; 'latest': the newest of the work directory.
    resume: Path | Literal['latest'] | None = None
    amp: Literal['bf16', 'fp16'] | None = None  # precision of the forward pass
    accumulate: int | None = None  # batches per update, with accumulated gradients
    # Launcher of the processes; None detects torchrun.
    launcher: Literal['none', 'pytorch', 'slurm'] | None = None
    seed: int | None = None  # random seed; 0 without a value in the config
    tensorboard: bool = False  # write curves for TensorBoard
    quiet: bool = False  # log errors only
    # Dotted name -> value, replacing the config.
    overrides: Mapping[str, object] = field(default_factory=dict)


def build_runner(config_path: Path, options: LaunchOptions) -> TrainRunner:
    """Build a runner with model and hooks, without reading data.

    Args:
        config_path: MMEngine config with `default_scope` `mmdet`, `mmpose` or `mmengine`.
        options: Options of the command line.

    Raises:
        FileNotFoundError: The config does not exist.
        SettingsError: Invalid settings or missing data; the message lists all problems.
        CheckpointError: Weights that the model loads when it is built are refused.
    """
    config, scope = read_config(config_path, options.overrides)
    from mmengine.registry import DefaultScope

    from .checkpoint_loader import use_safe_loader
    from .train_runner import TrainRunner

    use_safe_loader()
    with DefaultScope.overwrite_default_scope(scope):
        problems = [*apply_options(config, config_path, options), *all_problems(config, scope)]
    if problems:
        raise SettingsError(problems)
    if config.launcher == 'pytorch' and not _has_gpu():
        join_processes_on_cpu(config, scope)
    runner: TrainRunner = TrainRunner.from_cfg(config)
    check_custom_keys(config, [name for name, _ in runner.model.named_parameters()])
    return runner


def read_config(path: Path, overrides: Mapping[str, object]) -> tuple[Any, str]:
    """Read the config, apply the overrides, and return it with its default scope.

    Raises:
        FileNotFoundError: The file does not exist.
        SettingsError: The config cannot be read, or has another `default_scope`, or an override is
            unknown.
    """
    found = path if path.is_file() else ROOT / path  # of the package, from any folder
    if not found.is_file():
        raise FileNotFoundError(
            f'no config at {path}; training configs are in configs/detector, configs/pose, '
            'configs/pose2seg and projects/compact_models/configs'
        )
    try:
        config = config_file.read_config(found)
        problems = unknown_overrides(config, overrides)
        config_file.merge_overrides(config, overrides, path)
    except ConfigError as error:
        raise SettingsError([f'cannot be read: {error}']) from error
    scope = config.get('default_scope', 'mmengine')
    if scope not in SCOPES:
        problems.append(f'default_scope = {scope!r}; allowed: {", ".join(SCOPES)}')
    if problems:
        raise SettingsError(problems)
    import_module('pipeline.registry')  # a training config may use any of these names
    if scope != 'mmengine':
        # The OneDL packages print a line about datasets.
        with redirect_stdout(io.StringIO()):
            import_module(f'{scope}.utils').register_all_modules(init_default_scope=False)
    return config, scope


def all_problems(config: Any, scope: str) -> list[str]:
    """Find the problems of settings, transforms and data of a config."""
    problems = problems_of(config, scope, has_gpu=_has_gpu())
    if not problems:
        problems = wrong_transforms(config)
    return [*problems, *missing_data(config)]


def wrong_transforms(config: Any) -> list[str]:
    """Find transforms that reject their settings; building them reads no data."""
    from mmengine.registry import TRANSFORMS

    problems = []
    for section in ('train_dataloader', 'val_dataloader', 'custom_hooks'):
        for place, steps in _pipelines(config.get(section), section):
            for number, step in enumerate(steps):
                try:
                    TRANSFORMS.build(step)
                except (ValueError, TypeError, AssertionError, KeyError) as error:
                    problems.append(f'{place}.{number}: {error}')
    return problems


def _pipelines(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in PIPELINES and isinstance(value, list):
                yield f'{place}.{key}', value
            else:
                yield from _pipelines(value, f'{place}.{key}')
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _pipelines(value, f'{place}.{number}')


def apply_options(config: Any, config_path: Path, options: LaunchOptions) -> list[str]:
    """Write the options into the config, in place.

    Returns:
        One message per option that cannot be applied.
    """
    default_dir = config.get('work_dir') or str(Path('work_dirs') / config_path.stem)
    config.work_dir = str(options.work_dir or default_dir)
    randomness = config.get('randomness') or {}
    seed = options.seed if options.seed is not None else randomness.get('seed')
    config.randomness = {**randomness, 'seed': 0 if seed is None else seed}
    config.launcher = options.launcher or _launcher(config)
    if options.quiet:
        config.log_level = 'ERROR'
    _use_resumable_loop(config)
    return [
        *_set_precision(config, options.amp),
        *_set_accumulation(config, options.accumulate),
        *_set_tensorboard(config, options.tensorboard),
        *_set_weights(config, config_path, options.resume),
    ]


def _launcher(config: Any) -> str:
    by_torchrun = 'TORCHELASTIC_RUN_ID' in os.environ
    return 'pytorch' if by_torchrun else str(config.get('launcher') or 'none')


def _use_resumable_loop(config: Any) -> None:
    loop = config.get('train_cfg')
    if not loop:
        return
    by_epoch = loop.pop('by_epoch', 'max_iters' not in loop)
    stock = 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop'
    loop.type = LOOPS.get(loop.get('type', stock), loop.get('type'))


def _set_precision(config: Any, amp: str | None) -> list[str]:
    if amp is None:
        return []
    wrapper = config.optim_wrapper
    if wrapper.get('type', 'OptimWrapper') not in PLAIN_WRAPPERS:
        return [f'--amp cannot change optim_wrapper.type = {wrapper.type!r}; set it in the config']
    if amp == 'fp16' and not _has_gpu():
        return ['--amp fp16 needs a GPU; --amp bf16 works without']
    for name in ('dtype', 'loss_scale'):
        wrapper.pop(name, None)
    if amp == 'fp16':
        wrapper.update(type=AMP_ON_GPU, dtype='float16', loss_scale='dynamic')
    else:
        wrapper.type = BF16_ANYWHERE
    return []


def _set_accumulation(config: Any, accumulate: int | None) -> list[str]:
    if accumulate is not None:
        config.optim_wrapper.accumulative_counts = accumulate
    if config.get('optim_wrapper', {}).get('accumulative_counts', 1) != 1:
        hooks = list(config.get('custom_hooks') or [])
        config.custom_hooks = [*hooks, {'type': 'AccumulatedGradientsHook'}]
    return []


def _set_tensorboard(config: Any, is_wanted: bool) -> list[str]:
    if is_wanted:
        visualizer = config.get('visualizer') or {'type': 'Visualizer', 'vis_backends': []}
        backends = [{'type': 'LocalVisBackend'}, {'type': TENSORBOARD}]
        config.visualizer = {**visualizer, 'vis_backends': backends}
    parts = typed_dicts(config.get('visualizer'), 'visualizer')
    places = [place for place, settings in parts if settings['type'] == TENSORBOARD]
    if places and importlib.util.find_spec('tensorboard') is None:
        return [
            f'{places[0]}: TensorBoard is not installed; pip install tensorboard, or omit it '
            '(the JSON log in the work directory has the same numbers)'
        ]
    return []


def _set_weights(config: Any, config_path: Path, resume: Path | str | None) -> list[str]:
    from .train_runner import latest_checkpoint

    work_dir = Path(config.work_dir)
    newest = latest_checkpoint(work_dir)
    if resume is None and config.get('resume'):
        resume = config.get('load_from') or 'latest'
    if isinstance(resume, Path) or resume not in (None, 'latest'):
        config.resume, config.load_from = True, str(resume)
        return [] if Path(resume).is_file() else [f'--resume: no checkpoint at {resume}']
    if resume == 'latest' and newest is not None:
        config.resume, config.load_from = True, str(newest)
        return []
    config.resume = False
    if newest is not None:
        return [
            f'{work_dir} already holds a run (newest checkpoint: {newest.name}); continue with '
            '--resume, or choose another --work-dir'
        ]
    return _find_initial_weights(config, config_path)


def _find_initial_weights(config: Any, config_path: Path) -> list[str]:
    name = config.get('load_from')
    if not isinstance(name, str) or '://' in name:
        return []
    try:
        config.load_from = str(find_weights(name, config_path=config_path).path)
    except CheckpointError as error:
        return [f'load_from: {error}']
    return []


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def leave_processes() -> None:
    """Leave the process group after a run.

    Otherwise threads that still serve other processes may abort this one, and torchrun reports a
    finished run as failed.
    """
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
