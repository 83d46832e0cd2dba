"""Description of a run for ``run.json``."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .. import __version__
from .run_options import Pipeline, RunOptions, RunReport

# Library -> distributions that provide it; the first installed one is used.
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


def describe_run(
    pipeline: Pipeline, options: RunOptions, report: RunReport, started: float
) -> dict[str, Any]:
    """Describe a run that ends now: versions, weights, settings, counts and times.

    ``started`` is ``time.time()`` at its start.
    """
    counts = ('computed', 'resumed', 'redone', 'people', 'dropped', 'interrupted')
    return {
        'command': list(options.command),
        'config': options.config,
        'resolved_config': 'config.py',
        'device': pipeline.device,
        'precision': pipeline.precision,
        'weights_sha256': dict(pipeline.weights),
        'versions': get_versions(),
        'commit': get_git_commit(),
        'started': _iso(started),
        'ended': _iso(datetime.now(timezone.utc).timestamp()),
        'load_seconds': round(pipeline.load_seconds, 4),
        'photos': report.images,
        **{key: getattr(report, key) for key in counts},
        'failed': len(report.failures),
        'save': sorted(options.save),
        'written_with': options.written_with(pipeline.min_score),
        'seconds': {k: round(v, 4) for k, v in report.seconds.items()},
    }


def get_versions() -> dict[str, str | None]:
    """Return the versions of this package, Python and the libraries; None if not installed."""
    libraries = {name: _version(names) for name, names in DISTRIBUTIONS.items()}
    return {'bbox-mask-pose': __version__, 'python': platform.python_version(), **libraries}


def get_git_commit() -> str | None:
    """Return the commit of this checkout, ``-dirty`` if files differ; None without a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / '.git').exists():
        return None  # an installed package may be inside another repository
    command = ['git', '-C', str(root), 'describe', '--always', '--dirty', '--abbrev=40']
    command += ['--exclude=*']
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
