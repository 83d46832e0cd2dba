"""Facts about a run, for ``run.json``."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from .. import __version__

# Library -> distributions that provide it; the first one installed counts.
DISTRIBUTIONS = {
    'torch': ('torch',),
    'torchvision': ('torchvision',),
    'mmcv': ('onedl-mmcv', 'mmcv'),
    'mmengine': ('onedl-mmengine', 'mmengine'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
    'mmpretrain': ('onedl-mmpretrain', 'mmpretrain'),
    'mmpose': ('mmpose',),
    'sam2': ('sam2',),
    'numpy': ('numpy',),
    'opencv': ('opencv-python-headless', 'opencv-python'),
    'pillow': ('pillow',),
    'pycocotools': ('pycocotools',),
}


class Loaded(Protocol):
    """What is told about a pipeline."""

    weights: dict[str, str]
    device: str
    precision: str
    load_seconds: float


def describe_run(
    pipeline: Loaded, config: str, command: Sequence[str], started: float
) -> dict[str, Any]:
    """Versions, weights, settings and times of a run that ends now.

    ``started`` is what ``time.time()`` said at its start.
    """
    return {
        'command': list(command),
        'config': config,
        'resolved_config': 'config.py',
        'device': pipeline.device,
        'precision': pipeline.precision,
        'weights_sha256': dict(pipeline.weights),
        'versions': versions(),
        'commit': git_commit(),
        'started': _iso(started),
        'ended': _iso(datetime.now(timezone.utc).timestamp()),
        'load_seconds': round(pipeline.load_seconds, 4),
    }


def versions() -> dict[str, str | None]:
    """Versions of this package, of Python and of the libraries; None when not installed."""
    libraries = {name: _version(names) for name, names in DISTRIBUTIONS.items()}
    return {'bbox-mask-pose': __version__, 'python': platform.python_version(), **libraries}


def git_commit() -> str | None:
    """Commit of this checkout, with ``-dirty`` if files differ; None outside of a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / '.git').exists():
        return None  # installed, perhaps inside the repository of somebody else
    command = [
        'git',
        '-C',
        str(root),
        'describe',
        '--always',
        '--dirty',
        '--abbrev=40',
        '--exclude=*',
    ]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip() or None


def _version(distributions: tuple[str, ...]) -> str | None:
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec='seconds')
