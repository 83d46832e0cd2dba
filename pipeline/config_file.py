"""Read MMEngine configs; every failure names the user's file and line."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .values import shorten

if TYPE_CHECKING:
    from mmengine.config import Config

MAX_MESSAGE = 1500


class ConfigError(ValueError):
    """A setting is wrong; the message names it, in at most `MAX_MESSAGE` characters."""

    def __init__(self, message: str) -> None:
        super().__init__(message if len(message) < MAX_MESSAGE else f'{message[:MAX_MESSAGE]}...')


def read_config(path: str | Path, **options: Any) -> Config:
    """Read a config file, or a config of a library by a name such as ``mmdet::rtmdet/...py``.

    Args:
        path: File or name.
        options: Arguments of ``Config.fromfile``.

    Raises:
        ConfigError: The config cannot be read. A config is Python: any exception may be the cause.
    """
    try:
        return _read(str(path), options)
    except (Exception, SystemExit) as error:
        from .config_messages import describe_failure

        raise ConfigError(describe_failure(str(path), error)) from error


def merge_overrides(config: Config, overrides: Mapping[str, Any], path: str | Path) -> None:
    """Merge overrides such as ``{'loop.max_rounds': 1}`` into the config of ``path``, in place.

    Raises:
        ConfigError: An override does not fit the config.
    """
    for key, value in overrides.items():
        try:  # merging changes dicts: pass a copy
            config.merge_from_dict({key: copy.deepcopy(value)})
        except Exception as error:
            from .config_messages import describe_error

            raise ConfigError(
                f'{key}={shorten(value)} does not fit the settings of {path} '
                f'({describe_error(error)})'
            ) from error


def _read(path: str, options: dict[str, Any]) -> Config:
    if '\0' in path:
        raise ValueError('a NUL character in the name')
    if '::' in path:
        from mmengine.hub import get_config  # also imports everything for training

        return get_config(path)
    from mmengine.config import Config

    return Config.fromfile(path, **options)
