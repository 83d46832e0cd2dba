"""Reports for tests: what the page holds, and folders of runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.cli import report
from tests.run_fakes import run, save_image, save_images


def read_index(folder: Path) -> dict[str, Any]:
    """The index in the page of a report, a folder or one file."""
    page = folder / 'index.html' if folder.is_dir() else folder
    text = page.read_text()
    start = text.index('{index: ') + len('{index: ')
    index: dict[str, Any] = json.JSONDecoder().raw_decode(text[start:])[0]
    return index


def read_data(folder: Path, number: int) -> dict[str, Any]:
    """The data of an image in the folder of a report."""
    text = (folder / 'data' / f'{number:06d}.js').read_text()
    data: dict[str, Any] = json.loads(text.split(' = ', 1)[1].rstrip(';\n'))
    return data


def make_run(folder: Path) -> Path:
    """A run of the fake pipeline on four images and one that fails, with a report."""
    images = save_images(folder / 'images')
    save_image(images / 'bad.png', 13)
    out = folder / 'out'
    run(images, out, save={'coco', 'report'}, config='mine', command=('bmp', 'run'))
    assert report.main([str(out)]) == 0
    return out
