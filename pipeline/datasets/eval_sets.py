"""From what the user names to an evaluation set: a name of the catalog, or any COCO file."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..io.coco import Task
from ..keypoints import Convention
from .catalog import CATALOG, CatalogEntry, Rule

DOCS = 'docs/user_guide/datasets.md'
DATA_ROOT_VARIABLE = 'BMP_DATA'
DEFAULT_DATA_ROOT = 'data'


class DatasetError(ValueError):
    """A data set that is not known, not there or incomplete."""


@dataclass(frozen=True)
class EvalDataset:
    """Photos and annotations to evaluate on."""

    name: str  # in the catalog, or the stem of the file
    annotations: Path  # COCO file; read it with `load_annotations`
    images: Path  # folder that the file names in it are relative to
    tasks: tuple[Task, ...]  # what the annotations can score
    convention: Convention  # of the annotated keypoints
    rule: Rule  # how keypoints are scored
    partial_ground_truth: bool = False  # some people of the photos are not annotated at all
    notes: tuple[str, ...] = ()  # to be printed with the results


def find_data_root(given: str | Path | None = None) -> Path:
    """Folder of the data sets: as given, else $BMP_DATA, else ``data``."""
    return Path(given or os.environ.get(DATA_ROOT_VARIABLE) or DEFAULT_DATA_ROOT)


def resolve_dataset(
    name_or_file: str | Path,
    root: str | Path | None = None,
    *,
    images: str | Path | None = None,
) -> EvalDataset:
    """The evaluation set that a name of `CATALOG` or a COCO file means.

    Args:
        name_or_file: a name of the catalog or the path of an annotation file.
        root: folder of the data sets for names; see `find_data_root`.
        images: folder of the photos, if it is not where the layout has it. For files it is else
            guessed: beside the file, in ``images``, and in the folders beside ``annotations``.

    Raises:
        DatasetError: the name is unknown, a file or folder is missing, or the file is no COCO
            file; says what was expected where.
    """
    entry = CATALOG.get(str(name_or_file))
    if entry is not None:
        return _from_catalog(str(name_or_file), entry, find_data_root(root), images)
    path = Path(name_or_file)
    if path.is_file():
        return _from_file(path, images)
    raise DatasetError(_unknown(str(name_or_file)))


def find_annotations(name_or_file: str | Path, root: str | Path | None = None) -> Path:
    """The annotation file that a name of `CATALOG` or a path means; photos need not be there.

    Raises:
        DatasetError: there is no such file or name.
    """
    entry = CATALOG.get(str(name_or_file))
    if entry is None:
        if Path(name_or_file).is_file():
            return Path(name_or_file)
        raise DatasetError(_unknown(str(name_or_file)))
    files = [find_data_root(root) / file for file in entry.annotations]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise DatasetError(_incomplete(str(name_or_file), entry, files[:1], find_data_root(root)))
    return found


def _from_catalog(
    name: str, entry: CatalogEntry, root: Path, images: str | Path | None
) -> EvalDataset:
    files = [root / file for file in entry.annotations]
    annotations = next((file for file in files if file.is_file()), None)
    folder = Path(images) if images is not None else root / entry.images
    missing = ([] if annotations else files[:1]) + ([] if folder.is_dir() else [folder])
    if annotations is None or missing:
        raise DatasetError(_incomplete(name, entry, missing, root))
    return EvalDataset(
        name=name,
        annotations=annotations,
        images=folder,
        tasks=entry.tasks,
        convention=entry.convention,
        rule=entry.rule,
        partial_ground_truth=entry.partial_ground_truth,
        notes=entry.notes,
    )


def _from_file(path: Path, images: str | Path | None) -> EvalDataset:
    from .annotations import AnnotationError, load_annotations

    try:
        loaded = load_annotations(path)
    except AnnotationError as error:
        raise DatasetError(str(error)) from error
    folder = Path(images) if images is not None else _find_images(path, loaded.content)
    if not folder.is_dir():
        raise DatasetError(f'the folder of the photos, {folder}, does not exist')
    return EvalDataset(
        name=path.stem,
        annotations=path,
        images=folder,
        tasks=loaded.tasks,
        convention=loaded.convention,
        rule='crowdpose' if loaded.convention == 'crowdpose14' else 'coco',
    )


def _find_images(path: Path, content: Mapping[str, Any]) -> Path:
    names = [image['file_name'] for image in islice(content['images'], 3)]
    tried = list(dict.fromkeys(_image_folders(path)))
    for folder in tried:
        if any((folder / name).is_file() for name in names):
            return folder
    raise DatasetError(
        f'{path}: no photo of this file (such as {names[0] if names else "none"}) was found in '
        f'{", ".join(map(str, tried))}; name the folder with --images'
    )


def _image_folders(path: Path) -> Iterator[Path]:
    yield path.parent
    yield path.parent / 'images'
    yield path.parent.parent / 'images'
    yield path.parent.parent
    if path.parent.name in ('annotations', 'json'):
        yield from sorted(f for f in path.parent.parent.iterdir() if f.is_dir())


def _incomplete(name: str, entry: CatalogEntry, missing: list[Path], root: Path) -> str:
    lines = [
        f'data set {name!r} ({entry.title}): {" and ".join(map(str, missing))} '
        f'{"is" if len(missing) == 1 else "are"} missing. Expected layout:',
        f'  {root / entry.annotations[0]}',
        *(f'    or {root / other}' for other in entry.annotations[1:]),
        f'  {root / entry.images}/',
        f'Where to get it: {entry.homepage} and {DOCS}#{entry.anchor}.',
    ]
    if entry.convert is not None:
        lines.append(f'The annotation file is made by: {entry.convert}')
    lines.append(f'Data elsewhere? Use --data-root or set {DATA_ROOT_VARIABLE} (now: {root}).')
    return '\n'.join(lines)


def _unknown(given: str) -> str:
    close = difflib.get_close_matches(given, CATALOG, n=1)
    hint = f'did you mean {close[0]!r}? ' if close else ''
    return (
        f'{given!r} is neither an existing annotation file nor a data set; {hint}'
        f'Data sets: {", ".join(CATALOG)} ({DOCS})'
    )
