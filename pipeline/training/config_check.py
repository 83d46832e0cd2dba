"""Checks of a training config before any data is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .config_names import find_type, names_in, nearest, registries, unknown_types, unread_names
from .layer_decay import FACTORS, unmatched_keys

# What MMEngine's `DefaultOptimWrapperConstructor` and `LayerDecayConstructor` read.
PARAMWISE = frozenset({
    'custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'flat_decay_mult',
    'dwconv_decay_mult', 'dcn_offset_lr_mult', 'bypass_duplicate', 'num_layers',
    'layer_decay_rate',
})  # fmt: skip
AMP_ON_GPU = 'AmpOptimWrapper'


class SettingsError(ValueError):
    """A training config with invalid settings; the message has one line per problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__('\n'.join(problems))
        self.problems = list(problems)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(low: int) -> tuple[Callable[[Any], bool], str]:
    return lambda v: _is_number(v) and v == int(v) and v >= low, f'a whole number, {low} or more'


_POSITIVE = (lambda v: _is_number(v) and v > 0, 'a number above 0')
_NOT_NEGATIVE = (lambda v: _is_number(v) and v >= 0, 'a number, 0 or more')
_FLAG = (lambda v: isinstance(v, bool), 'True or False')
_TEXT = (lambda v: v is None or isinstance(v, str), 'a text or None')
# Killing the process while it replaces the only checkpoint would leave none.
_KEEP = (
    lambda v: _whole(2)[0](v) or (_is_number(v) and v == -1),
    '2 or more, or -1 for all: the old one is deleted before the new one is written',
)
FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    'train_dataloader.batch_size': _whole(1),
    'train_dataloader.num_workers': _whole(0),
    'val_dataloader.batch_size': _whole(1),
    'val_dataloader.num_workers': _whole(0),
    'train_cfg.max_epochs': _whole(1),
    'train_cfg.max_iters': _whole(1),
    'train_cfg.val_interval': _whole(1),
    'train_cfg.val_begin': _whole(0),
    'optim_wrapper.optimizer.lr': _POSITIVE,
    'optim_wrapper.optimizer.weight_decay': _NOT_NEGATIVE,
    'optim_wrapper.accumulative_counts': _whole(1),
    'optim_wrapper.clip_grad.max_norm': _POSITIVE,
    'optim_wrapper.clip_grad.clip_value': _POSITIVE,
    'default_hooks.checkpoint.interval': _whole(1),
    'default_hooks.checkpoint.max_keep_ckpts': _KEEP,
    'default_hooks.logger.interval': _whole(1),
    'auto_scale_lr.enable': _FLAG,
    'auto_scale_lr.base_batch_size': _whole(1),
    'randomness.seed': _whole(0),
    'randomness.deterministic': _FLAG,
    'load_from': _TEXT,
    'work_dir': _TEXT,
}


def problems_of(config: Any, scope: str, *, has_gpu: bool) -> list[str]:
    """Find the problems of a training config.

    Args:
        config: MMEngine Config after its custom imports.
        scope: Library of its type names: `mmdet`, `mmpose` or `mmengine`.
        has_gpu: Whether torch has a GPU.

    Returns:
        One message per problem, with the setting, its value and the allowed values.
    """
    return [
        *unread_names(config),
        *missing_parts(config),
        *wrong_values(config),
        *unknown_types(config, scope),
        *wrong_constructor(config, scope),
        *wrong_paramwise(config),
        *wrong_combinations(config, has_gpu=has_gpu),
    ]


def missing_parts(config: Any) -> list[str]:
    """Find missing sections, and incomplete validation settings."""
    needed = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
    problems = [f'{name}: missing; training needs it' for name in needed if not config.get(name)]
    hooks = [
        *(config.get('default_hooks') or {}).items(),
        *enumerate(config.get('custom_hooks') or []),
    ]
    problems += [
        f'hook {name}: its type is missing (in {dict(hook)})'
        for name, hook in hooks
        if isinstance(hook, Mapping) and 'type' not in hook
    ]
    validation = ('val_dataloader', 'val_evaluator', 'val_cfg')
    present = [name for name in validation if config.get(name) is not None]
    if present and len(present) < len(validation):
        absent = sorted(set(validation) - set(present))
        problems.append(
            f'{", ".join(absent)}: missing; validation needs it in addition to {present[0]}'
        )
    return problems


def wrong_values(config: Any) -> list[str]:
    """Find values of the usual settings with the wrong type or out of range."""
    problems = []
    for dotted, (is_right, allowed) in FIELDS.items():
        value, is_given = value_at(config, dotted)
        if is_given and value is not None and not is_right(value):
            problems.append(f'{dotted} = {value!r}; give {allowed}')
    return problems


def value_at(config: Any, dotted: str) -> tuple[Any, bool]:
    """Look up a dotted name; returns (value, whether it exists)."""
    node = config
    for part in dotted.split('.'):
        if not isinstance(node, Mapping) and node is not config:
            return None, False
        if node.get(part) is None:
            return None, False
        node = node.get(part)
    return node, True


def wrong_constructor(config: Any, scope: str) -> list[str]:
    """Find an optimizer constructor that is not registered."""
    name, is_given = value_at(config, 'optim_wrapper.constructor')
    if not is_given:
        return []
    kinds = [r for kind, r in registries(scope).items() if kind.endswith('wrapper constructor')]
    if find_type(name, kinds) is not None:
        return []
    known = [name for registry in kinds for name in names_in(registry)]
    return [f'optim_wrapper.constructor: no {name!r} is known{nearest(name, known)}']


def wrong_paramwise(config: Any) -> list[str]:
    """Find settings per parameter that no constructor reads."""
    settings, is_given = value_at(config, 'optim_wrapper.paramwise_cfg')
    if not is_given:
        return []
    place = 'optim_wrapper.paramwise_cfg'
    problems = [
        f'{place}.{name}: nothing reads it{nearest(name, PARAMWISE)}'
        for name in settings
        if name not in PARAMWISE
    ]
    for key, factors in (settings.get('custom_keys') or {}).items():
        problems += [
            f'{place}.custom_keys[{key!r}]: nothing reads {name!r}{nearest(name, FACTORS)}'
            for name in factors
            if name not in FACTORS
        ]
    return problems


def wrong_combinations(config: Any, *, has_gpu: bool) -> list[str]:
    """Find settings that contradict each other or the hardware."""
    problems = []
    for loader in ('train_dataloader', 'val_dataloader'):
        settings = config.get(loader) or {}
        if settings.get('persistent_workers') and not settings.get('num_workers'):
            problems.append(f'{loader}: persistent_workers needs num_workers of 1 or more')
    sampler = (config.get('train_dataloader') or {}).get('sampler') or {}
    size, _ = value_at(config, 'train_dataloader.batch_size')
    if sampler.get('batch_size', size) != size:
        problems.append(
            f'train_dataloader.sampler.batch_size = {sampler["batch_size"]}; it must be that of '
            f'the batches, {size}; otherwise the mix of datasets differs'
        )
    best, wants_best = value_at(config, 'default_hooks.checkpoint.save_best')
    if wants_best and config.get('val_evaluator') is None:
        problems.append(f'default_hooks.checkpoint.save_best = {best!r} needs validation')
    if (config.get('randomness') or {}).get('diff_rank_seed'):
        problems.append(
            'randomness.diff_rank_seed: leave it out; processes draw different numbers anyway'
        )
    wrapper, _ = value_at(config, 'optim_wrapper.type')
    if wrapper == AMP_ON_GPU and not has_gpu:
        problems.append(f'optim_wrapper.type = {wrapper!r} needs a GPU; --amp bf16 works without')
    if not has_gpu and config.get('launcher', 'none') != 'none' and _has_sync_bn(config.model):
        problems.append('SyncBN needs a GPU; with several processes on a CPU set norm_cfg to BN')
    return problems


def _has_sync_bn(node: Any) -> bool:
    if isinstance(node, Mapping):
        return node.get('type') == 'SyncBN' or any(_has_sync_bn(v) for v in node.values())
    return isinstance(node, (list, tuple)) and any(_has_sync_bn(v) for v in node)


def check_custom_keys(config: Any, parameters: Iterable[str]) -> None:
    """Reject custom keys that match no parameter.

    Args:
        config: MMEngine Config.
        parameters: Parameter names of the model.

    Raises:
        SettingsError: A key is part of no name.
    """
    keys, is_given = value_at(config, 'optim_wrapper.paramwise_cfg.custom_keys')
    unmatched = unmatched_keys(keys, parameters) if is_given else []
    if unmatched:
        place = 'optim_wrapper.paramwise_cfg.custom_keys'
        raise SettingsError(
            [f'{place}[{k!r}]: matches no parameter of the model' for k in unmatched]
        )
