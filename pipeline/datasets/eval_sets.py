"""Resolve a catalog name or a COCO file to an evaluation set."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..io.coco import Task
from ..io.inputs import is_file, locate_image
from ..resources import INSTALLED
from .catalog import CATALOG, CatalogEntry

DOCS = 'docs/user_guide/datasets.md'
DATA_ROOT_VARIABLE = 'BMP_DATA'
DEFAULT_DATA_ROOT = 'data'


class DatasetError(ValueError):
    """An unknown, missing or incomplete data set."""


@dataclass(frozen=True)
class EvalDataset:
    """Images and annotations to evaluate on."""

    name: str  # in the catalog, or the stem of the file
    annotations: Path  # COCO file; read it with `load_annotations`
    images: Path  # folder; file names in the annotations are relative to it
    tasks: tuple[Task, ...]  # tasks that the annotations can score
    partial_ground_truth: bool = False  # some people in the images are not annotated
    notes: tuple[str, ...] = ()  # printed with the results


def find_data_root(root: str | Path | None = None) -> Path:
    """Return the folder of the data sets: ``root``, else $BMP_DATA, else ``data``."""
    return Path(root or os.environ.get(DATA_ROOT_VARIABLE) or DEFAULT_DATA_ROOT)


def resolve_dataset(
    name_or_file: str | Path,
    root: str | Path | None = None,
    *,
    images: str | Path | None = None,
    person_category: str | None = None,
) -> EvalDataset:
    """Resolve a name of `CATALOG` or a COCO file to an evaluation set.

    Args:
        name_or_file: a name of the catalog or the path of an annotation file.
        root: folder of the data sets for names; see `find_data_root`.
        images: image folder. None: the folder of the catalog; for files, the first that contains
            images of the file: its folder, ``images``, or a folder beside ``annotations``.
        person_category: category of people in a COCO file; None: found by its name.

    Raises:
        DatasetError: the name is unknown, a file or folder is missing, or the file is not a COCO
            file; the message has the expected layout.
    """
    if str(name_or_file) in CATALOG:
        return _from_catalog(str(name_or_file), find_data_root(root), images)
    path = Path(name_or_file)
    if path.is_file():
        return _from_file(path, images, person_category)
    raise DatasetError(_unknown(str(name_or_file)))


def find_annotations(name_or_file: str | Path, root: str | Path | None = None) -> Path:
    """Resolve a name of `CATALOG` or a path to an annotation file; images are not required.

    Raises:
        DatasetError: there is no such file or name.
    """
    name = str(name_or_file)
    if name not in CATALOG:
        if Path(name).is_file():
            return Path(name)
        raise DatasetError(_unknown(name))
    file = _annotation_file(CATALOG[name], find_data_root(root))
    if not file.is_file():
        raise DatasetError(_incomplete(name, [file], find_data_root(root)))
    return file


def _annotation_file(entry: CatalogEntry, root: Path) -> Path:
    """The first annotation file that exists, else the first that is expected."""
    files = [root / file for file in entry.annotations]
    return next((file for file in files if file.is_file()), files[0])


def _from_catalog(name: str, root: Path, images: str | Path | None) -> EvalDataset:
    entry = CATALOG[name]
    annotations = _annotation_file(entry, root)
    folder = Path(images) if images is not None else root / entry.images
    missing = [] if annotations.is_file() else [annotations]
    missing += [] if folder.is_dir() else [folder]
    if missing:
        raise DatasetError(_incomplete(name, missing, root))
    return EvalDataset(
        name=name,
        annotations=annotations,
        images=folder,
        tasks=entry.tasks,
        partial_ground_truth=entry.partial_ground_truth,
        notes=entry.notes,
    )


def _from_file(path: Path, images: str | Path | None, person_category: str | None) -> EvalDataset:
    from ..io.inputs import InputError
    from .annotations import load_annotations

    try:
        loaded = load_annotations(path, person_category=person_category)
    except InputError as error:
        raise DatasetError(str(error)) from error
    folder = Path(images) if images is not None else _find_images(path, loaded.content)
    if not folder.is_dir():
        raise DatasetError(f'the image folder {folder} does not exist')
    return EvalDataset(
        name=path.stem,
        annotations=path,
        images=folder,
        tasks=loaded.tasks,
    )


def _find_images(path: Path, content: Mapping[str, Any]) -> Path:
    names = [image['file_name'] for image in islice(content['images'], 3)]
    tried = list(dict.fromkeys(_image_folders(path)))
    for folder in tried:
        if any(is_file(locate_image(folder, name)) for name in names):
            return folder
    raise DatasetError(
        f'{path}: no image of this file (such as {names[0] if names else "none"}) was found in '
        f'{", ".join(map(str, tried))}; set the folder with --images'
    )


def _image_folders(path: Path) -> Iterator[Path]:
    yield path.parent
    yield path.parent / 'images'
    yield path.parent.parent / 'images'
    yield path.parent.parent
    if path.parent.name in ('annotations', 'json'):
        yield from sorted(f for f in path.parent.parent.iterdir() if f.is_dir())


def _incomplete(name: str, missing: list[Path], root: Path) -> str:
    entry = CATALOG[name]
    lines = [
        f'data set {name!r} ({entry.title}): {" and ".join(map(str, missing))} '
        f'{"is" if len(missing) == 1 else "are"} missing. Expected layout:',
        f'  {root / entry.annotations[0]}',
        *(f'    or {root / other}' for other in entry.annotations[1:]),
        f'  {root / entry.images}/',
        f'Where to get it: {entry.homepage} and {DOCS}#{entry.anchor}.',
    ]
    if entry.convert is not None:
        script = 'python tools/convert_dataset.py'
        command = entry.convert.replace(script, 'bmp convert' if INSTALLED else script)
        lines.append(f'Create the annotation file with: {command}')
    lines.append(f'Data elsewhere? Use --data-root or set {DATA_ROOT_VARIABLE} (now: {root}).')
    return '\n'.join(lines)


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, CATALOG, n=1)
    hint = f'did you mean {close[0]!r}? ' if close else ''
    return (
        f'{name!r} is neither an existing annotation file nor a data set; {hint}'
        f'data sets: {", ".join(CATALOG)} ({DOCS})'
    )
