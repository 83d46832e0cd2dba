"""Safe loading of weights, without running code from the file."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .manifest import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn


def load_state(path: Path, key: str = 'state_dict') -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load the state dict (float32) and ``meta`` of a checkpoint with ``weights_only``.

    Files of OpenMMLab may have MMEngine's log history and NumPy arrays. Only the classes of these
    are unpickled.

    Args:
        path: File of `torch.save`.
        key: Key of the weights: ``state_dict`` (OpenMMLab, or a plain state dict) or ``model``
            (SAM 2).

    Raises:
        CheckpointError: The file is not such a checkpoint.
    """
    content = _read(path)
    state = content.get(key) if isinstance(content, dict) else None
    if state is None and key == 'state_dict':
        state = content
    if not isinstance(state, dict):
        found = f'keys {", ".join(map(str, content))}' if isinstance(content, dict) else 'no dict'
        raise CheckpointError(f'{path} has no weights under the key `{key}`: {found}')
    others = [k for k, v in state.items() if not _is_tensor(v)]
    if others or not state:
        names = ', '.join(map(str, others[:3])) or 'it is empty'
        raise CheckpointError(f'{path} has no state dict of tensors: {names}')
    weights = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    return weights, dict((content.get('meta') if state is not content else None) or {})


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
        return '' if zipfile.is_zipfile(path) else 'it is truncated'
    if start.startswith(b'\x80'):  # torch before 1.6 wrote a plain pickle
        return ''
    if start.startswith(b'version https://git-lfs'):
        return 'it is a git-lfs pointer; run git lfs pull'
    if re.match(rb'\s*<(!doctype|html|\?xml|head|body)', start, re.IGNORECASE):
        return 'it is a web page, probably an error message or a login'
    return 'it is not a file of torch.save'


def _read(path: Path) -> Any:
    import torch

    problem = check_torch_file(path)
    if problem:
        raise CheckpointError(f'{path} cannot be read as weights: {problem}; download it again')
    try:
        with torch.serialization.safe_globals(_harmless_classes()):
            return torch.load(path, map_location='cpu', weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # damaged pickles raise any exception
        raise CheckpointError(f'{path} cannot be read as weights: {_reason(error)}') from error


def _reason(error: Exception) -> str:
    """Describe the error: code in the pickle, or damage."""
    text = str(error)
    code = re.search(r'(?:GLOBAL |global |function |class )`?([\w.]+\.[\w.]+)', text)
    if isinstance(error, pickle.UnpicklingError) and code:
        return (
            f'it needs to run Python code ({code.group(1)}), which is refused; '
            'if you trust its source, save its state dict alone and use that file'
        )
    unpickler = re.search(r'WeightsUnpickler error:\s*(.+)', text)  # after the advice of torch
    reason = unpickler.group(1) if unpickler else text.partition('\n')[0]
    return f'it is damaged ({reason or type(error).__name__}); download it again'


def _is_tensor(value: object) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _harmless_classes() -> list[Any]:
    import numpy as np
    from mmengine.logging.history_buffer import HistoryBuffer

    rebuild = np.zeros(0).__reduce__()[0]  # its module differs between NumPy versions
    scalar = np.float32(0).__reduce__()[0]
    dtypes = [type(np.dtype(c)) for c in '?bBhHiIlLqQefd']
    # The log history refers to its methods by getattr, which is not safe in general.
    return [
        HistoryBuffer,
        rebuild,
        scalar,
        np.ndarray,
        np.dtype,
        bytes,  # an empty array is pickled with bytes()
        *dtypes,
        (_history_method, 'builtins.getattr'),
    ]


def _history_method(owner: object, name: str) -> Any:
    """Replace ``getattr`` during unpickling; only for MMEngine's log history."""
    from mmengine.logging.history_buffer import HistoryBuffer

    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError(f'refused to read the attribute {name!r} of {owner!r}')
    return getattr(HistoryBuffer, name)
