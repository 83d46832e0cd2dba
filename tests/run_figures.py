"""Size of the code, and what one run imports and calls: python -m tests.run_figures [--all]."""

from __future__ import annotations

import contextlib
import io
import sys
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import PIL.Image

ROOT = Path(__file__).parents[1]
PACKAGE = str(ROOT / 'pipeline')


def run_command() -> list[str]:
    """Run the default pipeline on one image; returns the calls from main to the first network."""
    from pipeline.cli.run import main  # before mmdet: after MMEngine it would register everything

    from mmdet.models.detectors.base import BaseDetector  # isort: skip

    stacks = []
    test_step = BaseDetector.test_step

    def record(self: Any, data: Any) -> Any:
        frames = traceback.extract_stack()
        stacks.append([f'{f.filename}:{f.name}' for f in frames if f.filename.startswith(PACKAGE)])
        return test_step(self, data)

    with (
        TemporaryDirectory() as folder,
        contextlib.redirect_stdout(io.StringIO()),
        mock.patch.object(BaseDetector, 'test_step', record),
    ):
        image = Path(folder) / 'image.png'
        PIL.Image.fromarray(np.full((96, 128, 3), 90, np.uint8)).save(image)
        code = main([str(image), '--out-dir', folder])
    assert code == 0, code
    return stacks[0]


def count_lines(*folders: str) -> int:
    """Lines of all Python files in folders of the repository."""
    files = [path for folder in folders for path in (ROOT / folder).rglob('*.py')]
    return sum(len(path.read_text().splitlines()) for path in files)


def imported_lines() -> dict[str, int]:
    """Lines of every imported module of the package."""
    names = [name for name in sys.modules if name.split('.')[0] == 'pipeline']
    files = {name: getattr(sys.modules[name], '__file__', None) for name in names}
    return {n: len(Path(f).read_text().splitlines()) for n, f in files.items() if f}


if __name__ == '__main__':
    calls = run_command()
    lines = imported_lines()
    if '--all' in sys.argv:
        modules = sorted(lines, key=lambda name: -lines[name])
        sys.stdout.writelines(f'{call}\n' for call in calls)
        sys.stdout.writelines(f'{lines[name]:6} {name}\n' for name in modules)
    for folders in (('pipeline', 'tools'), ('tools',), ('tests',)):
        sys.stdout.write(f'{count_lines(*folders)} lines in {" and ".join(folders)}\n')
    sys.stdout.write(f'{len(calls)} calls from main to the first network\n')
    sys.stdout.write(f'{sum(lines.values())} lines in {len(lines)} modules\n')
    others = sorted(name for name in sys.modules if not name.startswith('pipeline'))
    sys.stdout.write(' '.join(others) + '\n')
