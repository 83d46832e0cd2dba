"""The command ``bmp``, outside of the package: it names a file of yours that hides the package."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path


def main() -> int:
    """Run the command line of the package; returns the exit code."""
    spec = find_spec('pipeline')
    found = [spec.origin or '', *(spec.submodule_search_locations or ())] if spec else []
    if spec and not any((Path(folder) / 'resources.py').is_file() for folder in found[1:]):
        sys.exit(
            f'bmp: error: {found[0] or found[1]} hides the package `pipeline` of BBox-Mask-Pose; '
            'rename it, or remove its folder from PYTHONPATH'
        )
    from pipeline.__main__ import main as run

    return run()
