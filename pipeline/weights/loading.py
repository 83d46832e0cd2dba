"""Reading weights without running code from the file, and putting them into a model."""

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
    """State dict (float32) and ``meta`` of a checkpoint, read with ``weights_only``.

    OpenMMLab's files may carry MMEngine's log history and numpy arrays beside the weights; the few
    harmless classes these need are allowed by name, nothing else is unpickled.

    Args:
        path: File of `torch.save`.
        key: Where the weights are: ``state_dict`` (OpenMMLab; a file that is nothing but a state
            dict is read too) or ``model`` (SAM 2).

    Raises:
        CheckpointError: The file is no such checkpoint; says what it is instead.
    """
    content = _read(path)
    state = content.get(key) if isinstance(content, dict) else None
    if state is None and key == 'state_dict':
        state = content
    if not isinstance(state, dict):
        found = f'keys {", ".join(map(str, content))}' if isinstance(content, dict) else 'no dict'
        raise CheckpointError(f'{path} holds no weights under the key `{key}`: {found}')
    strange = [k for k, v in state.items() if not _is_tensor(v)]
    if strange or not state:
        names = ', '.join(map(str, strange[:3])) or 'it is empty'
        raise CheckpointError(f'{path} holds no state dict of tensors: {names}')
    weights = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    return weights, dict((content.get('meta') if state is not content else None) or {})


def load_into(
    model: nn.Module, weights: Mapping[str, Tensor], source: Path, ignorable: Sequence[str] = ()
) -> None:
    """Put weights into a model; every key and shape must match.

    Args:
        model: On any device, any dtype.
        weights: As from `load_state`.
        source: The file, for the message.
        ignorable: Prefixes of keys that may be absent, left over or of another shape; what does
            not fit of these is not loaded.

    Raises:
        CheckpointError: Keys or shapes differ; all are named.
    """
    expected = model.state_dict()
    listing = state_dict_mismatch(expected, weights, ignorable)
    if listing:
        raise CheckpointError(f'{source} does not fit the config: {listing}')
    fitting = {k: v for k, v in weights.items() if k in expected and v.shape == expected[k].shape}
    model.load_state_dict(fitting, strict=False)  # what may be absent was decided above


def state_dict_mismatch(
    expected: Mapping[str, Any], weights: Mapping[str, Any], ignorable: Sequence[str] = ()
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
        kind: [k for k in sorted(keys) if not k.startswith(tuple(ignorable))]
        for kind, keys in problems.items()
    }
    return '; '.join(f'{kind}: {", ".join(keys)}' for kind, keys in serious.items() if keys)


def not_weights(path: Path) -> str:
    """What is wrong with a file that looks like no checkpoint at all; '' if it looks like one.

    Looks at the beginning and, of the usual zip format, the end, so it costs next to nothing.
    """
    with path.open('rb') as file:
        start = file.read(512)
    if not start:
        return 'it is empty'
    if start.startswith(b'PK\x03\x04'):
        return '' if zipfile.is_zipfile(path) else 'it breaks off, its end is missing'
    if start.startswith(b'\x80'):  # torch before 1.6 wrote a bare pickle
        return ''
    if start.startswith(b'version https://git-lfs'):
        return 'it is a git-lfs pointer, not the file itself (git lfs pull fetches it)'
    if re.match(rb'\s*<(!doctype|html|\?xml|head|body)', start, re.IGNORECASE):
        return 'it is a web page, perhaps one that reports an error or asks to log in'
    return 'it is no file of torch.save'


def _read(path: Path) -> Any:
    import torch

    problem = not_weights(path)
    if problem:
        raise CheckpointError(f'{path} cannot be read as weights: {problem}; fetch it again')
    try:
        with torch.serialization.safe_globals(_harmless_classes()):
            return torch.load(path, map_location='cpu', weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # damaged pickles raise anything
        raise CheckpointError(f'{path} cannot be read as weights: {_reason(error)}') from error


def _reason(error: Exception) -> str:
    """The error in a sentence: code in the pickle is another matter than damage."""
    text = str(error)
    code = re.search(r'(?:GLOBAL |global |function |class )`?([\w.]+\.[\w.]+)', text)
    if isinstance(error, pickle.UnpicklingError) and code:
        return (
            f'it asks to run Python code ({code.group(1)}), which is never done; '
            'if you trust its origin, save its state dict alone and use that file'
        )
    hidden = re.search(r'WeightsUnpickler error:\s*(.+)', text)  # amid general advice of torch
    told = hidden.group(1) if hidden else text.partition('\n')[0]
    return f'it is damaged ({told or type(error).__name__}); fetch it again'


def _is_tensor(value: object) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


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
        bytes,  # an empty array is made of bytes()
        *kinds,
        (_history_method, 'builtins.getattr'),
    ]


def _history_method(owner: object, name: str) -> Any:
    """``getattr`` for unpickling, of MMEngine's log history and nothing else."""
    from mmengine.logging.history_buffer import HistoryBuffer

    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError(f'refused to read the attribute {name!r} of {owner!r}')
    return getattr(HistoryBuffer, name)
