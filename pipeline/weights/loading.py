"""Safe loading of weights, without running code from the file."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from ..values import in_line, shorten
from .manifest import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

DATA_PARALLEL = 'module.'


def load_state(path: Path, key: str = 'state_dict') -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load the state dict (float32) and ``meta`` of a checkpoint, without running code of it.

    The prefix ``module.`` that `DataParallel` adds to all keys is removed.

    Args:
        path: File of `torch.save`.
        key: Key of the weights: ``state_dict`` (OpenMMLab, or a plain state dict) or ``model``
            (SAM 2).

    Raises:
        CheckpointError: The file is not such a checkpoint.
    """
    state, meta = check_checkpoint(path, read_checkpoint(path), key)
    weights = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    if all(k.startswith(DATA_PARALLEL) for k in weights):
        weights = {k.removeprefix(DATA_PARALLEL): v for k, v in weights.items()}
    return weights, meta


def load_into(
    model: nn.Module, weights: Mapping[str, Tensor], source: Path, ignorable: Sequence[str] = ()
) -> None:
    """Load weights into a model; every key and shape must match.

    Args:
        model: Model on any device, of any dtype.
        weights: Result of `load_state`.
        source: Path of the file, for the message.
        ignorable: Prefixes of keys that may be missing, unexpected or of another shape; these are
            not loaded.

    Raises:
        CheckpointError: Keys or shapes differ; lists all of them.
    """
    expected = model.state_dict()
    listing = state_dict_mismatch(expected, weights, ignorable)
    if listing:
        raise CheckpointError(f'{source} does not fit the config: {listing}')
    fitting = {k: v for k, v in weights.items() if k in expected and v.shape == expected[k].shape}
    model.load_state_dict(fitting, strict=False)  # checked above


def state_dict_mismatch(
    expected: Mapping[str, Any], weights: Mapping[str, Any], ignorable: Sequence[str] = ()
) -> str:
    """List the differences between weights and a model by kind; '' if there are none.

    Args:
        expected: State dict of the model.
        weights: State dict of the file.
        ignorable: Prefixes of keys that may be missing, unexpected or of another shape.
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
        kind: [k for k in sorted(keys) if not k.startswith(tuple(ignorable))]
        for kind, keys in problems.items()
    }
    return '; '.join(f'{kind}: {", ".join(keys)}' for kind, keys in serious.items() if keys)


def check_torch_file(path: Path) -> str:
    """Check that a file looks like a checkpoint; returns the problem, or ''.

    Reads the start of the file and, of a zip file, the end, so it is fast.
    """
    with path.open('rb') as file:
        start = file.read(512)
    if not start:
        return 'it is empty'
    if start.startswith(b'PK\x03\x04'):
        try:
            return '' if zipfile.is_zipfile(path) else 'it is truncated'
        except zipfile.BadZipFile as error:
            return f'it is damaged ({error})'
    if start.startswith(b'\x80'):  # torch before 1.6 wrote a plain pickle
        return ''
    if start.startswith(b'version https://git-lfs'):
        return 'it is a git-lfs pointer; run git lfs pull'
    if re.match(rb'\s*<(!doctype|html|\?xml|head|body)', start, re.IGNORECASE):
        return 'it is a web page, probably an error message or a login'
    return 'it is not a file of torch.save'


def read_checkpoint(path: Path) -> Any:
    """Read a file of `torch.save` as plain data; see `unpickling.read_pickled`.

    Raises:
        CheckpointError: The file is damaged, or holds more than plain data.
    """
    from .unpickling import Refused, read_pickled

    problem = check_torch_file(path)
    if problem:
        raise CheckpointError(f'{path} cannot be read as weights: {problem}; download it again')
    try:
        return read_pickled(path)
    except MemoryError:
        raise
    except Exception as error:  # damaged pickles raise any exception
        reason = in_line(error) or type(error).__name__
        if not isinstance(error, Refused):
            reason = f'it is damaged ({reason}); download it again'
        raise CheckpointError(f'{path} cannot be read as weights: {reason}') from error


def check_checkpoint(
    path: Path, content: Any, key: str = 'state_dict'
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state dict and ``meta`` of a checkpoint after a check of their types and numbers.

    Raises:
        CheckpointError: One of them is wrong; names the first wrong key.
    """
    state = content.get(key) if isinstance(content, dict) else None
    if state is None and key == 'state_dict':
        state = content
    if not isinstance(state, dict):
        keys = ', '.join(map(_name, content)) if isinstance(content, dict) else ''
        found = f'keys {keys}' if isinstance(content, dict) else 'no dict'
        raise CheckpointError(f'{path} has no weights under the key `{key}`: {found}')
    meta = content.get('meta') if state is not content else None
    _check_meta(path, {} if meta is None else meta)
    _check_weights(path, state)
    return state, dict(meta or {})


def _check_meta(path: Path, meta: Any) -> None:
    """Check what the model libraries trust: dicts, lists of class names, and no Python file."""
    facts = meta.get('dataset_meta') if isinstance(meta, dict) else meta
    facts = {} if facts is None else facts
    if not isinstance(facts, dict):
        raise CheckpointError(f'{path} has a {type(facts).__name__} as `meta`, expected a dict')
    if 'from_file' in facts:  # MMPose would run it
        raise CheckpointError(f'{path} names a Python file in `meta`, which is not run')
    for names in (facts.get('classes'), facts.get('CLASSES'), meta.get('CLASSES')):
        if not isinstance(names, (str, list, tuple, NoneType)):
            raise CheckpointError(f'{path} has class names that are no list: {shorten(names)}')


def _check_weights(path: Path, state: Mapping[Any, Any]) -> None:
    from torch import Tensor

    others = [k for k, v in state.items() if type(k) is not str or not isinstance(v, Tensor)]
    if others or not state:
        names = ', '.join(map(_name, others[:3])) or 'it is empty'
        raise CheckpointError(f'{path} has no state dict of tensors: {names}')
    for key, value in state.items():
        if value.is_complex():
            raise CheckpointError(f'{path} has complex weights: {in_line(key)}')
        # NaN if there is one; `isfinite` of all numbers would need their memory again.
        extremes = value.float().aminmax() if value.is_floating_point() and value.numel() else ()
        if not all(extreme.isfinite() for extreme in extremes):
            raise CheckpointError(f'{path} has weights that are NaN or infinite: {in_line(key)}')


def _name(key: object) -> str:
    return in_line(key) if isinstance(key, str) else shorten(key)
