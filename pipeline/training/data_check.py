"""Check for missing data files before training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

GUIDE = 'docs/user_guide/datasets.md'
SETS = ('train_dataloader', 'val_dataloader')


def missing_data(config: Any) -> list[str]:
    """Find missing annotation files, image folders and box files.

    Args:
        config: MMEngine Config.

    Returns:
        One message per missing path, with the first missing folder and the guide.
    """
    problems: dict[str, None] = {}
    for section in SETS:
        for place, dataset in _datasets((config.get(section) or {}).get('dataset'), section):
            for path in _paths(dataset):
                if not path.exists():
                    problems[_message(place, path)] = None
    evaluators = config.get('val_evaluator') or []
    for metric in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
        path = metric.get('ann_file')
        if path and not Path(path).exists():
            problems[_message('val_evaluator', Path(path))] = None
    return list(problems)


def _datasets(node: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (place, settings) of every dataset, also inside wrappers."""
    if not isinstance(node, Mapping):
        return
    if 'ann_file' in node or 'data_prefix' in node:
        yield f'{place}.dataset', node
    yield from _datasets(node.get('dataset'), f'{place}.dataset')
    for number, inner in enumerate(node.get('datasets') or []):
        yield from _datasets(inner, f'{place}.dataset.datasets.{number}')


def _paths(dataset: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the files and folders of a dataset, joined with `data_root`."""
    root = Path(dataset.get('data_root') or '')
    prefixes = dict(dataset.get('data_prefix') or {})
    for name in (dataset.get('ann_file'), *prefixes.values()):
        if name:
            yield root / name
    if dataset.get('bbox_file'):
        yield Path(dataset['bbox_file'])


def _message(place: str, path: Path) -> str:
    kind = 'file' if path.suffix else 'folder'
    folder = next((parent for parent in path.parents if parent.exists()), Path())
    wanted = path.relative_to(folder).parts[0]
    hint = f'{folder / wanted} is absent' if len(path.relative_to(folder).parts) > 1 else 'absent'
    return f'{place}: no {kind} {path} ({hint}); see {GUIDE}'
