"""Build models of MMDetection and MMPose from their configs.

The libraries keep one registry each under MMEngine's root and find classes by a *default scope*,
a global. Everything here runs inside a scope and restores the previous one, which a host program
or the other library may have set.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .config_file import read_config
from .weights.loading import load_into, load_state

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn

Library = Literal['mmdet', 'mmpose']


def quiet_libraries() -> None:
    """Silence the warnings of torch and the model libraries in this process."""
    warnings.filterwarnings('ignore', module=r'(torch|mm[a-z]+|sam2|numba)(\.|$)')


@contextmanager
def scope_of(library: Library) -> Iterator[None]:
    """Resolve names in configs to classes of ``library`` inside the block."""
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope(library):
        yield


@contextmanager
def building_from(library: Library) -> Iterator[None]:
    """`scope_of`, for building parts; hides what the library prints while it is imported.

    A registry imports its modules at the first lookup. `register_all_modules` of the libraries
    takes seconds: it also imports everything for training.
    """
    # The OneDL packages print a line about data sets.
    with scope_of(library), redirect_stdout(io.StringIO()):
        yield


def read_model_config(path: str, library: Library) -> Config:
    """Config of a model, from a file or by a name such as ``mmdet::rtmdet/...py``.

    Raises:
        ConfigError: The config cannot be read.
    """
    with scope_of(library):
        return read_config(path, lazy_import=False)


def build_model(
    config: Config, checkpoint: Path | None, library: Library, ignorable: tuple[str, ...] = ()
) -> tuple[nn.Module, dict[str, Any]]:
    """Model on the CPU in evaluation mode, and the ``meta`` of its checkpoint.

    Args:
        config: as from `read_model_config`.
        checkpoint: weights; None keeps the random ones.
        library: of the model.
        ignorable: prefixes of checkpoint keys that may be absent, left over or of another shape.

    Raises:
        CheckpointError: the file cannot be read, or keys or shapes differ from what the config
            builds; all are named.
    """
    model_config = copy.deepcopy(config.model)
    # Without these keys, no weights are downloaded that are then overwritten.
    for part in (model_config, *model_config.values()):
        if isinstance(part, dict):
            part.pop('init_cfg', None)
    model_config.pop('pretrained', None)
    with building_from(library):
        model: nn.Module = import_module(f'{library}.registry').MODELS.build(model_config)
    meta: dict[str, Any] = {}
    if checkpoint is not None:
        weights, meta = load_state(checkpoint)
        load_into(model, weights, checkpoint, ignorable)
    return model.eval(), meta
