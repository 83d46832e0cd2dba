"""MMEngine reads checkpoints through our loader, which runs no code from them.

Its own loader falls back to `torch.load(weights_only=False)`. A URL is loaded by `torch.hub` with
``weights_only=True``, the default of torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.runner import CheckpointLoader

from ..weights.loading import check_checkpoint, read_checkpoint
from ..weights.manifest import CheckpointError

LOCAL_FILES = ''  # the prefix of names without another scheme
# Their loaders have the same fallback.
REFUSED = (
    'pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://', 'open-mmlab://', 'openmmlab://',
)  # fmt: skip


def use_safe_loader() -> None:
    """Read the checkpoints of ``--resume``, ``load_from`` and ``init_cfg`` in this process."""
    CheckpointLoader.register_scheme(LOCAL_FILES, load_from_local, force=True)
    CheckpointLoader.register_scheme(REFUSED, load_from_refused, force=True)


def load_from_local(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Read a checkpoint to the CPU; MMEngine copies it to the device.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file is damaged, holds more than plain data, or has wrong weights.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'no checkpoint at {path}')
    content: dict[str, Any] = read_checkpoint(path)
    _, meta = check_checkpoint(path, content)
    meta.pop('config', None)  # `Runner.resume` runs this text as Python
    return content | {'meta': meta} if isinstance(content.get('meta'), dict) else content


def load_from_refused(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Refuse a storage whose loader in MMEngine may run code of the file.

    Raises:
        CheckpointError: Always.
    """
    raise CheckpointError(f'{filename}: download the checkpoint, and name the file')
