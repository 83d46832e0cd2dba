"""What the user names on the command line -> photos, each with a name of its own.

An input is a picture, a directory (searched recursively), a glob pattern or a list file (``@FILE``,
or a file that ends in .txt or .lst: one input per line, relative to the folder of the list file,
``#`` starts a comment line).
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path

from .images import SUFFIXES

LIST_SUFFIXES = ('.txt', '.lst')


class InputError(ValueError):
    """An input of the run that cannot be used; the message says what to do."""


@dataclass(frozen=True)
class InputImage:
    """A picture to run, and the key of everything that is written about it."""

    path: Path
    name: str  # relative path with '/', unique in a run
    root: Path  # the folder that `name` is relative to


@dataclass(frozen=True)
class Failure:
    """An input that did not work."""

    input: str
    error: str  # type of the exception
    message: str

    @classmethod
    def of(cls, source: str | Path, error: Exception) -> Failure:
        """The failure that ``error`` means for the input ``source``."""
        return cls(str(source), type(error).__name__, str(error) or type(error).__name__)

    def described(self) -> str:
        """One line that names the input; errors about files do so by themselves."""
        named = self.input in self.message
        return self.message if named else f'{self.input}: {self.error}: {self.message}'


@dataclass(frozen=True)
class Inputs:
    """Photos in the order of their names, and the inputs that gave none."""

    photos: tuple[InputImage, ...]
    failures: tuple[Failure, ...]


def find_images(inputs: Sequence[str], *, exclude: Path | None = None) -> Inputs:
    """Photos that the inputs stand for; each file once, in the order of their names.

    A photo is named by its path relative to the directory or to the fixed part of the glob
    pattern, a photo given by itself by its file name, a photo from a list file by its path
    relative to the list's folder if it lies in there. Photos of the same name from different
    folders get the name of that folder in front and, if that is not enough, ``_2``, ``_3``, ...

    Args:
        inputs: see the top of this module.
        exclude: folder that is not searched, e.g. the one with the results.

    Returns:
        Photos; a file named by itself is one even if it does not exist (reading it will tell).
        Failures: directories and patterns without pictures, list files that cannot be read.
    """
    found: dict[str, InputImage] = {}
    failures: list[Failure] = []
    for source in inputs:
        try:
            for photo in _expand(source, exclude):
                found.setdefault(os.path.realpath(photo.path), photo)
        except (InputError, OSError) as error:
            failures.append(Failure.of(source, error))
    photos = sorted(_distinct(list(found.values())), key=lambda photo: photo.name)
    return Inputs(tuple(photos), tuple(failures))


def is_list_file(source: str) -> bool:
    """Whether an input stands for a list of inputs."""
    return source.startswith('@') or source.lower().endswith(LIST_SUFFIXES)


def _expand(source: str, exclude: Path | None) -> Iterator[InputImage]:
    if '://' in source:
        raise InputError(f'{source}: is an address; download it and give the file')
    if is_list_file(source) and not os.path.isdir(source):
        yield from _from_list(Path(source.removeprefix('@')).expanduser(), exclude)
    else:
        yield from _from_path(Path(source).expanduser(), exclude)


def _from_path(path: Path, exclude: Path | None) -> Iterator[InputImage]:
    if _lies_in(path, exclude):
        exclude = None  # asked for by name
    if path.is_dir():
        photos = [
            InputImage(file, _relative(file, path) or file.name, path)
            for file in _walk(path, exclude)
        ]
        if not photos:
            raise InputError(
                f'{path}: no picture in this directory; looked for {" ".join(sorted(SUFFIXES))}'
            )
        yield from photos
    elif glob.has_magic(str(path)) and not path.exists():
        yield from _from_pattern(path, exclude)
    else:
        yield InputImage(path, path.name, path.parent)


def _from_pattern(pattern: Path, exclude: Path | None) -> Iterator[InputImage]:
    fixed = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    root = Path(*fixed)
    matches = sorted(glob.glob(str(pattern), recursive=True))
    files = list(_pictures_among(matches, exclude))
    if not files:
        raise InputError(
            f'{pattern}: {len(matches)} files match this pattern, none of them a picture; '
            f'looked for {" ".join(sorted(SUFFIXES))}'
        )
    yield from (InputImage(file, _relative(file, root) or file.name, root) for file in files)


def _pictures_among(matches: Iterable[str], exclude: Path | None) -> Iterator[Path]:
    for match in map(Path, matches):
        if match.is_dir():
            yield from _walk(match, exclude)
        elif match.suffix.lower() in SUFFIXES and not _lies_in(match, exclude):
            yield match


def _from_list(file: Path, exclude: Path | None) -> Iterator[InputImage]:
    try:
        lines = [line.strip() for line in file.read_text('utf-8-sig').splitlines()]
    except UnicodeDecodeError:
        raise InputError(f'{file}: not a list of inputs, because it is no UTF-8 text') from None
    entries = [line for line in lines if line and not line.startswith('#')]
    if not entries:
        raise InputError(f'{file}: this list names no input; write one path per line')
    for entry in entries:
        if is_list_file(entry):
            raise InputError(f'{file}: {entry!r} is another list; put its lines into this one')
        for photo in _from_path(file.parent / Path(entry).expanduser(), exclude):
            # The folders that the list itself tells apart stay in the name.
            inside = _relative(photo.path, file.parent)
            yield replace(photo, name=inside, root=file.parent) if inside else photo


def _walk(folder: Path, exclude: Path | None) -> Iterator[Path]:
    """Pictures below ``folder`` in the order of their paths; hidden files and folders left out."""
    seen: set[str] = set()
    pictures = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen or _lies_in(Path(parent), exclude):
            folders.clear()  # a link that leads back, or our own results
            continue
        seen.add(real)
        folders[:] = [f for f in folders if not f.startswith('.')]
        pictures += [
            Path(parent, file)
            for file in files
            if not file.startswith('.') and Path(file).suffix.lower() in SUFFIXES
        ]
    yield from sorted(pictures)


def _lies_in(path: Path, folder: Path | None) -> bool:
    if folder is None:
        return False
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _relative(path: Path, root: Path) -> str | None:
    """Path below ``root``, whatever links there are; None if it is elsewhere."""
    try:
        return Path(os.path.abspath(path)).relative_to(os.path.abspath(root)).as_posix()
    except ValueError:
        return None


def _distinct(photos: list[InputImage]) -> list[InputImage]:
    uses = Counter(photo.name for photo in photos)
    # Names that nobody shares are out of reach for the counter of `_free_name`.
    taken = {name for name, number in uses.items() if number == 1}
    result = []
    for photo in photos:
        name = photo.name if uses[photo.name] == 1 else _free_name(photo, taken)
        taken.add(name)
        result.append(replace(photo, name=name))
    return result


def _free_name(photo: InputImage, taken: set[str]) -> str:
    folder = Path(os.path.abspath(photo.root)).name or 'root'
    numbered = (f'{folder}_{number}/{photo.name}' for number in count(2))
    return next(n for n in chain([f'{folder}/{photo.name}'], numbered) if n not in taken)
