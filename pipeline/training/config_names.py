"""Unknown names in a training config: top-level names, types and arguments.

MMEngine ignores unknown top-level names. It reports other unknown names one by one, often only
after loading the data.
"""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

# Read by the runner directly from the config, in addition to its arguments.
EXTRA_KEYS = frozenset({
    'custom_imports', 'sync_bn', 'find_unused_parameters', 'model_wrapper_cfg', 'compile',
    'activation_checkpointing', 'efficient_conv_bn_eval',
})  # fmt: skip
# Names from old configs, or plausible guesses, and the location of the setting.
ELSEWHERE = {
    'optimizer': 'optim_wrapper.optimizer',
    'optimizer_config': 'optim_wrapper.clip_grad',
    'clip_grad': 'optim_wrapper.clip_grad',
    'fp16': '--amp fp16',
    'amp': '--amp',
    'lr': 'optim_wrapper.optimizer.lr',
    'lr_config': 'param_scheduler',
    'data': 'train_dataloader and val_dataloader',
    'batch_size': 'train_dataloader.batch_size',
    'num_workers': 'train_dataloader.num_workers',
    'runner': 'train_cfg',
    'workflow': 'train_cfg',
    'total_epochs': 'train_cfg.max_epochs',
    'max_epochs': 'train_cfg.max_epochs',
    'max_iters': 'train_cfg.max_iters',
    'evaluation': 'val_cfg and val_evaluator',
    'checkpoint_config': 'default_hooks.checkpoint',
    'log_config': 'default_hooks.logger',
    'hooks': 'custom_hooks',
    'ema': 'custom_hooks (EMAHook)',
    'seed': 'randomness.seed',
    'resume_from': '--resume PATH',
    'dist_params': 'env_cfg.dist_cfg',
    'cudnn_benchmark': 'env_cfg.cudnn_benchmark',
}
SECTIONS = (
    'model', 'train_dataloader', 'val_dataloader', 'optim_wrapper', 'param_scheduler',
    'train_cfg', 'val_cfg', 'val_evaluator', 'default_hooks', 'custom_hooks', 'visualizer',
    'log_processor',
)  # fmt: skip
# Sections whose `type` is not a registered class.
OTHER_TYPES = frozenset({'nms', 'metainfo', 'dataset_info'})
# Arguments of the builder, not of the class.
BUILDER_ARGUMENTS = {
    'hook': {'priority'},
    'optimizer wrapper': {'constructor', 'paramwise_cfg', 'optimizer'},
    'optim wrapper': {'constructor', 'paramwise_cfg', 'optimizer'},
    'parameter scheduler': {'convert_to_iter_based'},
    'loop': {'by_epoch'},
}
# Registries whose classes receive the settings unchanged.
CHECKED = frozenset({
    'hook', 'optimizer', 'optimizer wrapper', 'optim wrapper', 'parameter scheduler', 'loop',
    'transform', 'dataset', 'data sampler', 'metric',
})  # fmt: skip
# A config with all of these was saved in a work directory by a run.
WRITTEN_BY_A_RUN = frozenset({'launcher', 'work_dir', 'resume'})


def nearest(name: str, known: Iterable[str]) -> str:
    """Return '; did you mean ...?' if a known name is close, else ''."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)
    return f'; did you mean {close[0]}?' if close else ''


@functools.cache
def runner_keys() -> frozenset[str]:
    """Return the top-level names that MMEngine's runner reads."""
    from mmengine.runner import Runner

    return frozenset(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'} | EXTRA_KEYS


def unread_names(config: Any) -> list[str]:
    """Find top-level names in the config files that nothing reads.

    Args:
        config: MMEngine Config read from a file.

    Returns:
        One message per name.
    """
    defined: set[str] = set()
    read: set[str] = set(runner_keys())
    for path, text in _files(config.text):
        tree = ast.parse(text)
        read |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not _is_stored(n)}
        read |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        if 'site-packages' not in path:
            defined |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and _is_stored(n)}
    if WRITTEN_BY_A_RUN <= defined and '_base_' not in defined:
        return []  # a saved config also has the helper names of all its bases
    unread = sorted(name for name in defined - read if name in config)
    return [f'{name}: nothing reads it{_hint(name)}' for name in unread]


def unknown_overrides(config: Any, overrides: Mapping[str, Any]) -> list[str]:
    """Find overrides of names that are neither in the config nor read by the runner."""
    known = set(config) | runner_keys()
    roots = {dotted.split('.')[0] for dotted in overrides}
    return [
        f'--cfg-options {root}: no such setting{_hint(root) or nearest(root, known)}'
        for root in sorted(roots - known)
    ]


def _is_stored(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def _hint(name: str) -> str:
    if name in ELSEWHERE:
        return f'; set {ELSEWHERE[name]}'
    return nearest(name, runner_keys())


def _files(text: str) -> Iterator[tuple[str, str]]:
    """Yield (path, content) of the files that MMEngine joined into the text of a config."""
    path, lines = '', list[str]()
    for line in text.splitlines():
        if line.endswith('.py') and Path(line).is_file():
            if path:
                yield path, '\n'.join(lines)
            path, lines = line, []
        else:
            lines.append(line)
    if path:
        yield path, '\n'.join(lines)


def registries(scope: str) -> dict[str, Any]:
    """Return the registries of a library and of MMEngine by kind, e.g. 'hook'."""
    from mmengine.registry import Registry

    found = {}
    for module in ('mmengine', scope):
        for registry in vars(import_module(f'{module}.registry')).values():
            if isinstance(registry, Registry):
                found[registry.name.replace('_', ' ').lower()] = registry
    return found


def find_type(name: str, kinds: Sequence[Any]) -> Any | None:
    """Return the class or function with this name, or None."""
    for registry in kinds:
        try:
            return registry.get(name)
        except (RuntimeError, ImportError):
            continue
    return None


def unknown_types(config: Any, scope: str) -> list[str]:
    """Find unregistered types, and arguments that a class does not accept.

    Args:
        config: MMEngine Config after its custom imports.
        scope: Library of its type names.

    Returns:
        One message per problem.
    """
    kinds = registries(scope)
    problems = []
    for section in SECTIONS:
        for place, settings in typed_dicts(config.get(section), section):
            name = settings['type']
            if not isinstance(name, str):
                continue
            kind, found = _resolve(name, place, kinds)
            if found is None:
                known = [n for registry in kinds.values() for n in names_in(registry)]
                problems.append(f'{place}: no type {name!r} is known{nearest(name, known)}')
            elif kind in CHECKED:
                problems += unknown_arguments(place, settings, found, kind)
    return problems


def names_in(registry: Any) -> list[str]:
    """Return the names in a registry, including those of MMEngine."""
    inherited = registry.parent.module_dict if registry.parent is not None else ()
    return [*registry.module_dict, *inherited]


def _resolve(name: str, place: str, kinds: Mapping[str, Any]) -> tuple[str, Any | None]:
    """Return kind and class of a type, trying the kind that fits the place first."""
    likely = next((kind for part, kind in PLACES if part in place), '')
    order = sorted(kinds, key=lambda kind: kind != likely)
    for kind in order:
        found = find_type(name, [kinds[kind]])
        if found is not None:
            return kind, found
    return '', None


PLACES = (
    ('hooks', 'hook'),
    ('pipeline', 'transform'),
    ('sampler', 'data sampler'),
    ('optimizer', 'optimizer'),
    ('optim_wrapper', 'optimizer wrapper'),
    ('param_scheduler', 'parameter scheduler'),
    ('evaluator', 'metric'),
    ('dataset', 'dataset'),
    ('model', 'model'),
)


def typed_dicts(node: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (place, settings) of every dict with a `type`, outermost first."""
    if isinstance(node, Mapping):
        if 'type' in node:
            yield place, node
        for key, value in node.items():
            if key not in OTHER_TYPES:
                yield from typed_dicts(value, f'{place}.{key}')
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            yield from typed_dicts(value, f'{place}.{number}')


def unknown_arguments(place: str, settings: Mapping[str, Any], found: Any, kind: str) -> list[str]:
    """Find settings that the class of a type does not accept."""
    known = accepted_arguments(found, follow=kind == 'dataset')
    if known is None:
        return []
    known = known | BUILDER_ARGUMENTS.get(kind, set()) | {'type', '_scope_'}
    return [
        f'{place}: {settings["type"]} takes no {name!r}{nearest(name, known)}'
        for name in settings
        if name not in known
    ]


def accepted_arguments(found: Any, *, follow: bool) -> set[str] | None:
    """Return the argument names of a class or function; None if it accepts any.

    Args:
        found: Class or function.
        follow: Pass the `**kwargs` of a class on to its base class.
    """
    if not inspect.isclass(found):
        names, is_open = _arguments(found)
        return None if is_open else names
    names = set()
    for base in found.__mro__:
        init = vars(base).get('__init__')
        if not inspect.isfunction(init):
            continue
        more, is_open = _arguments(init)
        names |= more
        if not is_open:
            return names
        if not follow:
            return None
    return names


def _arguments(function: Any) -> tuple[set[str], bool]:
    """Return the argument names, and whether there is a `**kwargs`."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters}, any(p.kind is p.VAR_KEYWORD for p in parameters)
