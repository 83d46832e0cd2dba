"""What one run of the command imports of this package: python -m tests.imported_lines [--all]."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import PIL.Image


def imported_lines() -> dict[str, int]:
    """Lines by module of `pipeline`, after the default pipeline ran on one image."""
    from pipeline.cli.run import main

    with TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        image = Path(folder) / 'image.png'
        PIL.Image.fromarray(np.full((96, 128, 3), 90, np.uint8)).save(image)
        code = main([str(image), '--out-dir', folder])
    assert code == 0, code
    names = [name for name in sys.modules if name.split('.')[0] == 'pipeline']
    files = {name: getattr(sys.modules[name], '__file__', None) for name in names}
    return {n: len(Path(f).read_text().splitlines()) for n, f in files.items() if f}


if __name__ == '__main__':
    lines = imported_lines()
    rows = [f'{lines[name]:6} {name}' for name in sorted(lines, key=lambda name: -lines[name])]
    total = f'{sum(lines.values())} lines in {len(lines)} modules'
    others = ' '.join(sorted(name for name in sys.modules if not name.startswith('pipeline')))
    sys.stdout.write('\n'.join([*(rows if '--all' in sys.argv else []), total, others]) + '\n')
