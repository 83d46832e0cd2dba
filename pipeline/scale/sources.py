"""List the images of a job: folders, lists, tables, tar files, at any address of fsspec."""

from __future__ import annotations

import glob
import posixpath
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..io.images import SUFFIXES, InputError, WrongInputError
from ..io.inputs import find_images, is_list_file
from ..values import shorten
from .storage import is_address, open_file_system, read_range, retry

TABLES = ('.parquet', '.csv')
# Columns of a table that are used, best first.
PATH_COLUMNS = ('path', 'url', 'file_name')
ID_COLUMNS = ('image_id', 'id')
TAR_BLOCK = 8 << 20  # bytes that are read at once to list a tar file


@dataclass(frozen=True)
class Item:
    """An image of a job.

    Attributes:
        name: in the results.
        path: a path, or an address of fsspec.
        image_id: in COCO files.
        offset: first byte of a member of a tar file; -1: the whole file.
        size: bytes of the member; -1: the whole file.
    """

    name: str
    path: str
    image_id: str
    offset: int = -1
    size: int = -1


def list_items(sources: Sequence[str], exclude: str | None = None) -> Iterator[Item]:
    """List the images of all sources: those of plain paths by name, then the others in order.

    Args:
        sources: Images, folders, patterns, lists (.txt, .lst, @FILE; one image per line), tables
            (.parquet, .csv) with a column ``path`` and, if wanted, ``image_id`` and ``name``, and
            tar files of WebDataset; paths or addresses.
        exclude: Folder with the results.

    Raises:
        InputError: A source has no images or cannot be read.
    """
    numbers = count(1)
    plain = [source for source in sources if _is_plain(source)]
    for source in plain:
        if not glob.has_magic(source) and not Path(source).exists():
            raise WrongInputError(f'{source}: no such file or directory; check the path')
    if plain:
        found = find_images(plain, exclude=None if exclude is None else Path(exclude))
        if found.failures:
            raise WrongInputError('\n'.join(f.describe() for f in found.failures))
        for image in found.images:
            yield Item(image.name, str(image.path.absolute()), str(next(numbers)))
    for source in sources:
        if source in plain:
            continue
        number = 0
        for name, path, image_id, offset, size in _list_source(source.removeprefix('@')):
            number += 1
            yield Item(name, path, image_id or str(next(numbers)), offset, size)
        if not number:
            raise InputError(f'{source}: no image; suffixes: {" ".join(sorted(SUFFIXES))}')


def _is_plain(source: str) -> bool:
    """Whether `find_images` lists a source."""
    special = is_address(source) or is_list_file(source) or _suffix(source) in (*TABLES, '.tar')
    if source == '-':
        raise WrongInputError('-: a job cannot read stdin; pass files, a list or a table')
    return not special or Path(source).is_dir()


_Row = tuple[str, str, str, int, int]


def _list_source(source: str) -> Iterator[_Row]:
    try:
        if is_list_file(source):
            yield from _from_list(source)
        elif _suffix(source) == '.tar':
            for tar in _expand(source):
                yield from _from_tar(tar)
        elif _suffix(source) in TABLES:
            for table in _expand(source):
                yield from _from_table(table)
        else:
            yield from _from_folder(source)
    except FileNotFoundError:
        raise WrongInputError(f'{source}: no such file or folder; check the address') from None
    except (OSError, tarfile.TarError) as error:
        raise InputError(f'{source}: cannot be read ({error}); check the address') from error


def _from_list(source: str) -> Iterator[_Row]:
    text = _read(source).decode('utf-8-sig', 'replace')
    for line in map(str.strip, text.splitlines()):
        if line and not line.startswith('#'):
            yield line, _join(source, line), '', -1, -1


def _from_folder(source: str) -> Iterator[_Row]:
    files, root = open_file_system(source)
    if glob.has_magic(root):
        root, found = root[: root.index(next(filter(glob.has_magic, root)))], files.glob(root)
        root = root.rpartition('/')[0]
    else:
        found = retry(lambda: files.find(root))
    for path in sorted(found):
        if _suffix(path) in SUFFIXES or path == root:
            name = path.removeprefix(root).lstrip('/') or posixpath.basename(path)
            yield name, files.unstrip_protocol(path), '', -1, -1


def _from_tar(source: str) -> Iterator[_Row]:
    """List the images in a tar file; they are read by their offset, without unpacking."""
    files, path = open_file_system(source)
    stem = posixpath.basename(path).removesuffix('.tar')
    with (
        files.open(path, 'rb', block_size=TAR_BLOCK) as stream,
        tarfile.open(fileobj=stream, mode='r:') as tar,
    ):
        for member in tar:
            if member.isfile() and _suffix(member.name) in SUFFIXES:
                name = f'{stem}/{member.name}'
                yield name, _absolute(source), '', member.offset_data, member.size


def _from_table(source: str) -> Iterator[_Row]:
    for names, rows in _read_batches(source):
        path = next((name for name in PATH_COLUMNS if name in names), None)
        if path is None:
            raise InputError(
                f'{source}: no column {" or ".join(PATH_COLUMNS)} among {shorten(names)}'
            )
        key = next((name for name in ID_COLUMNS if name in names), None)
        for row in rows:
            if not row[path]:
                raise InputError(f'{source}: a row without a {path}: {shorten(row)}')
            image_id = '' if key is None or row[key] is None else str(row[key])
            place = _join(source, str(row[path]))
            yield str(row.get('name') or row[path]), place, image_id, -1, -1


def _read_batches(source: str) -> Iterator[tuple[list[str], list[dict[str, Any]]]]:
    import pyarrow
    from pyarrow import csv, parquet

    files, path = open_file_system(source)
    try:
        with files.open(path, 'rb') as stream:
            if _suffix(source) == '.csv':
                texts = dict.fromkeys((*PATH_COLUMNS, *ID_COLUMNS, 'name'), pyarrow.string())
                convert = csv.ConvertOptions(column_types=texts)  # an id may begin with zeros
                batches = csv.open_csv(stream, convert_options=convert)
            else:
                batches = parquet.ParquetFile(stream).iter_batches(10_000)
            for batch in batches:
                yield batch.schema.names, batch.to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f'{source}: not a table ({shorten(str(error))})') from error


def _expand(source: str) -> list[str]:
    """Return the files of a pattern, as absolute paths or addresses."""
    if not glob.has_magic(source):
        return [_absolute(source)]
    files, pattern = open_file_system(source)
    found = sorted(files.glob(pattern))
    return [files.unstrip_protocol(p) if is_address(source) else p for p in found]


def _read(source: str) -> bytes:
    if is_address(source):
        return retry(lambda: read_range(source, -1, -1))
    return Path(source).read_bytes()


def _absolute(source: str) -> str:
    return source if is_address(source) else str(Path(source).expanduser().absolute())


def _join(base: str, path: str) -> str:
    """Return a path of a list or table, relative to its folder."""
    if is_address(path) or path.startswith('/'):
        return path
    return posixpath.join(posixpath.dirname(_absolute(base)), path)


def _suffix(path: str) -> str:
    path = urlsplit(path).path if path.startswith(('http://', 'https://')) else path
    return posixpath.splitext(path)[1].lower()
