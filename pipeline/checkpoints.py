"""Weights: names from the manifest to files, checked by sha256.

``checkpoints/manifest.json`` lists every known file. Embedded files lie beside it; released ones
are expected in ``checkpoints/downloads/`` (or in the folder that ``BMP_CHECKPOINTS`` names).
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / 'checkpoints'
MANIFEST = FOLDER / 'manifest.json'


class CheckpointError(RuntimeError):
    """Weights are absent or not what the manifest says."""


@dataclass(frozen=True)
class Weights:
    """A file of weights that may be loaded."""

    name: str
    path: Path
    sha256: str


def read_manifest() -> dict[str, dict[str, Any]]:
    """Entries of the manifest by name."""
    entries: dict[str, dict[str, Any]] = json.loads(MANIFEST.read_text())['files']
    return entries


def download_folder() -> Path:
    """Where released weights are kept."""
    return Path(os.environ.get('BMP_CHECKPOINTS', FOLDER / 'downloads'))


def find_weights(name: str | Path, beside: Path | None = None) -> Weights:
    """The file behind a manifest name or a path, with its sha256.

    Args:
        name: Manifest name; else a path: absolute, beside the config that names it, or from the
            working directory, in this order.
        beside: The config that names it.

    Raises:
        CheckpointError: unknown name, absent file, or a checksum that differs from the manifest.
    """
    entry = read_manifest().get(str(name))
    if entry is None:
        folders = [Path(), *([beside.resolve().parent] if beside else [])]
        for folder in reversed(folders):
            if (folder / name).is_file():
                return Weights(Path(name).name, folder / name, sha256_of(folder / name))
        known = ', '.join(sorted(read_manifest()))
        raise CheckpointError(f'no weights {str(name)!r}: neither a file nor one of: {known}')
    path = FOLDER / entry['file'] if entry.get('embedded') else download_folder() / entry['file']
    if not path.is_file():
        raise CheckpointError(_absent(str(name), entry, path))
    return Weights(str(name), path, _verified(str(name), entry, path))


def load_state(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """State dict (float32) and ``meta`` of a checkpoint, read with ``weights_only``.

    The layouts are OpenMMLab's (`state_dict`, `meta`), SAM's (`model`) and a bare state dict.
    OpenMMLab files may carry MMEngine's log history and numpy arrays beside the weights; the few
    harmless classes these need are allowed by name, nothing else is unpickled.

    Raises:
        CheckpointError: the file is no such checkpoint.
    """
    import pickle

    import torch

    try:
        with torch.serialization.safe_globals(_harmless_classes()):
            content = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(f'{path} cannot be read as weights: {error}') from error
    layers = content if isinstance(content, dict) else {}
    state = layers.get('state_dict') or layers.get('model') or content
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise CheckpointError(f'{path} holds no state dict of tensors')
    weights = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    return weights, dict(layers.get('meta') or {})


def misfit(
    expected: dict[str, Any], weights: dict[str, Any], ignorable: tuple[str, ...] = ()
) -> str:
    """How weights differ from what a model expects, every kind with its keys; '' if they fit.

    Args:
        expected: State dict of the model.
        weights: State dict of the file.
        ignorable: Prefixes of keys that may be absent, left over or of another shape.
    """
    problems = {
        'missing': [k for k in expected if k not in weights],
        'unexpected': [k for k in weights if k not in expected],
        'of another shape': [
            f'{k} {tuple(weights[k].shape)}, expected {tuple(expected[k].shape)}'
            for k in expected
            if k in weights and weights[k].shape != expected[k].shape
        ],
    }
    serious = {
        kind: [k for k in sorted(keys) if not (ignorable and k.startswith(ignorable))]
        for kind, keys in problems.items()
    }
    return '; '.join(f'{kind}: {", ".join(keys)}' for kind, keys in serious.items() if keys)


def _harmless_classes() -> list[Any]:
    import numpy as np
    from mmengine.logging.history_buffer import HistoryBuffer

    rebuild = np.zeros(0).__reduce__()[0]  # numpy's own name for it moved between versions
    scalar = np.float32(0).__reduce__()[0]
    kinds = [type(np.dtype(c)) for c in '?bBhHiIlLqQefd']
    # The log history refers to its own methods by getattr, which as such is anything but harmless.
    return [
        HistoryBuffer,
        rebuild,
        scalar,
        np.ndarray,
        np.dtype,
        *kinds,
        (_history_method, 'builtins.getattr'),
    ]


def _history_method(owner: object, name: str) -> Any:
    """``getattr`` for unpickling, of MMEngine's log history and nothing else."""
    import pickle

    from mmengine.logging.history_buffer import HistoryBuffer

    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError(f'refused to read the attribute {name!r} of {owner!r}')
    return getattr(HistoryBuffer, name)


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def _verified(name: str, entry: dict[str, Any], path: Path) -> str:
    found, expected = sha256_of(path), entry.get('sha256')
    if expected is not None and found != expected:
        raise CheckpointError(
            f'{path} is not the file that the manifest lists as {name!r}: sha256 {found[:12]}..., '
            f'expected {expected[:12]}...; delete it and fetch it again'
        )
    return found


def _absent(name: str, entry: dict[str, Any], path: Path) -> str:
    if entry.get('embedded'):
        return f'embedded weights {path} are absent; restore them with: git checkout -- checkpoints'
    urls = ' or '.join(entry['urls'])
    return f'weights {name!r} are not here: download {urls} and save the file as {path}'
