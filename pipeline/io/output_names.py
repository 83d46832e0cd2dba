"""Names of the files of an image in an output folder.

``img.jpg`` gives ``img.json``, ``img.png``, ... in the folders of the outputs. If another image has
this name, in the run or in the folder, the name is ``img.jpg``, and then that with the parent
folder.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath

from .atomic import compute_sha256
from .inputs import InputImage, longer_names
from .records import FORMAT, read_record, record_path


def name_outputs(out_dir: Path, images: Sequence[InputImage]) -> list[InputImage]:
    """Name the files of each image; an image with a record in the folder keeps its name."""
    uses = Counter(_stem(image) for image in images)
    chosen: dict[str, str] = {}  # name of the image -> name of its files
    taken: set[str] = set()

    def choose(image: InputImage, names: Iterator[str], *, existing: bool) -> None:
        for name in names:
            record = record_path(out_dir, name)
            if name not in taken and record.is_file() == existing:
                if existing and not _is_record_of(image, record):
                    continue
                chosen[image.name] = name
                taken.add(name)
                return

    for image in images:
        choose(image, islice(_names(image), 4), existing=True)
    for image in images:
        if image.name not in chosen:
            first = int(uses[_stem(image)] > 1)
            choose(image, islice(_names(image), first, None), existing=False)
    return [replace(image, output=chosen[image.name]) for image in images]


def _stem(image: InputImage) -> str:
    return PurePosixPath(image.name).with_suffix('').as_posix()


def _names(image: InputImage) -> Iterator[str]:
    yield _stem(image)
    yield image.name
    yield from longer_names(image)


def _is_record_of(image: InputImage, path: Path) -> bool:
    record = read_record(path)
    if record is None:
        return True  # damaged: no other image needs it
    if record.get('format') != FORMAT:
        return bool(record.get('input') == image.name)  # earlier formats have no source
    if record['source'] == os.path.abspath(image.path):
        return True
    try:  # a copy, or a folder that was moved
        return bool(record['made_with']['photo'] == compute_sha256(image.path))
    except OSError:
        return False
