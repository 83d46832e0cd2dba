"""Files of the package: configs and embedded weights.

In a checkout, `configs/` and `checkpoints/` lie beside the package; a wheel has them inside.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
INSTALLED = (_PACKAGE / 'configs').is_dir()
ROOT = _PACKAGE if INSTALLED else _PACKAGE.parent
# Commands for messages: what downloads weights, and what brings the embedded files back.
DOWNLOAD = ('bmp', 'download') if INSTALLED else ('python', 'tools/download_checkpoints.py')
RESTORE = (
    'pip install --force-reinstall --no-deps bbox-mask-pose'
    if INSTALLED
    else 'git checkout -- configs checkpoints'
)


def locate_file(name: str) -> str:
    """Return the absolute path of a file, such as ``'configs/bmp_compact.py'``.

    A config of yours, in any folder, inherits from one of the package by::

        _base_ = __import__('pipeline').locate_file('configs/bmp_compact.py')

    Args:
        name: Path as in the repository: below ``configs/`` or ``checkpoints/``.

    Raises:
        FileNotFoundError: No such file.
    """
    if not (ROOT / name).is_file():
        raise FileNotFoundError(f'no file {name!r} in {ROOT}')
    return str(ROOT / name)
