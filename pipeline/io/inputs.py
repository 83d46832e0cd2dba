"""Search for the input images of a run; each gets a unique name.

An input is an image, a directory (searched recursively), a glob pattern, an http(s) URL, ``-`` (an
image on stdin) or a list file (``@FILE`` or a file ending in .txt or .lst: one input per line,
relative to the folder of the list file; ``#`` starts a comment line; ``@-`` is a list on stdin).
"""

from __future__ import annotations

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from .images import SUFFIXES, WrongInputError
from .images import InputError as InputError
from .progress import count_of

LIST_SUFFIXES = ('.txt', '.lst')
VIDEO_SUFFIXES = tuple(
    '.mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .flv .ts .mts .m2ts .3gp .ogv .y4m .mxf .asf '
    '.vob'.split()
)


@dataclass(frozen=True)
class InputImage:
    """An input image."""

    path: Path
    name: str  # relative path with '/', unique in a run
    root: Path  # folder of the relative path
    output: str = ''  # name of its files, see `pipeline.io.output_names`; default: the name

    @property
    def key(self) -> str:
        """Name of the files of this image."""
        return self.output or self.name


@dataclass(frozen=True)
class Failure:
    """An input that failed."""

    input: str
    error: str  # type of the exception
    message: str

    @classmethod
    def from_error(cls, source: str | Path, error: Exception) -> Failure:
        """Create a failure of the input ``source``."""
        return cls(str(source), type(error).__name__, str(error) or type(error).__name__)

    def describe(self) -> str:
        """Format the failure in one line, with the input."""
        if self.input in self.message:
            return self.message
        return f'{self.input}: {self.error}: {self.message}'


@dataclass(frozen=True)
class Inputs:
    """Images in the order of their names, and the inputs without an image."""

    images: tuple[InputImage, ...]
    failures: tuple[Failure, ...]


def find_images(
    inputs: Sequence[str], *, exclude: Path | None = None, downloads: Path | None = None
) -> Inputs:
    """Find the images of the inputs; each file once, in the order of their names.

    The name of an image is its path relative to the directory or to the fixed part of the glob
    pattern. For a single file it is the file name. In a list file it is the path relative to the
    folder of the list, if the image is in that folder. Equal names get the name of their folder
    as a prefix and, if they are still equal, ``_2``, ``_3``, ...

    Args:
        inputs: See the top of this module.
        exclude: Folder to leave out, for example the one with the results.
        downloads: Folder for images of URLs and of stdin; None: the current folder.

    Returns:
        The images, and as failures the directories and patterns without images and the list files
        that cannot be read. A single file is not checked for existence.
    """
    found: dict[str, InputImage] = {}
    failures: list[Failure] = []
    for source in inputs:
        try:
            for image in _find(source, exclude, downloads or Path()):
                found.setdefault(os.path.realpath(image.path), image)
        except (ValueError, OSError) as error:
            failures.append(Failure.from_error(source, error))
    images = sorted(_rename_duplicates(list(found.values())), key=lambda image: image.name)
    return Inputs(tuple(images), tuple(failures))


def is_list_file(source: str) -> bool:
    """Return whether an input is a list file."""
    return source.startswith('@') or source.lower().endswith(LIST_SUFFIXES)


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file of the user, without spaces around them and empty ones.

    Raises:
        InputError: The file cannot be read or is not text.
    """
    try:
        text = sys.stdin.read() if str(path) == '-' else path.read_text('utf-8-sig')
    except UnicodeDecodeError:
        raise InputError(f'{path}: not a list, the file is not UTF-8 text') from None
    except OSError as error:
        raise WrongInputError(
            f'{path}: {(error.strerror or str(error)).lower()}; check the path'
        ) from error
    return [line for line in map(str.strip, text.splitlines()) if line]


def _expand(source: str) -> Path:
    """Return the path that a user wrote.

    Raises:
        InputError: It is empty, has a NUL character or names the folder of an unknown user.
    """
    if not source or '\0' in source:
        raise InputError(f'{source!r} is no path: it is empty or has a NUL character')
    try:
        return Path(source).expanduser()
    except RuntimeError:
        raise InputError(f'{source}: there is no such user; write ./{source} for a file') from None


def _find(source: str, exclude: Path | None, downloads: Path) -> Iterator[InputImage]:
    if _is_no_file(source):
        from .fetch import fetch_input

        path = fetch_input(source, downloads)
        yield InputImage(path, path.name, path.parent)
    elif is_list_file(source) and not os.path.isdir(source):
        yield from _from_list(_expand(source.removeprefix('@')), exclude, downloads)
    else:
        yield from _from_path(_expand(source), exclude)


def _is_no_file(source: str) -> bool:
    """Return whether a source is stdin, a URL, a video or a camera."""
    if source.lower().endswith(VIDEO_SUFFIXES):
        return not os.path.isdir(source)
    if source.isdecimal():
        return not os.path.exists(source)
    return source == '-' or '://' in source or source.startswith('/dev/video')


def _from_path(path: Path, exclude: Path | None) -> Iterator[InputImage]:
    if _lies_in(path, exclude):
        exclude = None  # the user names it explicitly
    if path.is_dir():
        files = _walk(path, exclude)
        if not files:
            raise InputError(
                f'{path}: no image in this directory; suffixes: {" ".join(sorted(SUFFIXES))}'
            )
        yield from (InputImage(file, _relative(file, path) or file.name, path) for file in files)
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
    if not matches:
        raise WrongInputError(f'{pattern}: no file matches this pattern; check the path')
    files: list[Path] = []
    for match in map(Path, matches):
        if match.is_dir():
            files += _walk(match, exclude)
        elif match.suffix.lower() in SUFFIXES and not _lies_in(match, exclude):
            files.append(match)
    if not files:
        raise InputError(
            f'{pattern}: no image among the {count_of(len(matches), "match", "matches")} of this '
            f'pattern; suffixes: {" ".join(sorted(SUFFIXES))}'
        )
    yield from (InputImage(file, _relative(file, root) or file.name, root) for file in files)


def _from_list(file: Path, exclude: Path | None, downloads: Path) -> Iterator[InputImage]:
    entries = [line for line in read_lines(file) if not line.startswith('#')]
    if not entries:
        raise InputError(f'{file}: this list is empty; write one path per line')
    for entry in entries:
        if is_list_file(entry):
            raise InputError(f'{file}: {entry!r} is another list; put its lines into this one')
        if _is_no_file(entry):
            yield from _find(entry, exclude, downloads)
            continue
        for image in _from_path(file.parent / _expand(entry), exclude):
            name = _relative(image.path, file.parent)
            yield replace(image, name=name, root=file.parent) if name else image


def _walk(folder: Path, exclude: Path | None) -> list[Path]:
    """Find images below ``folder``, sorted by path, without hidden files and folders."""
    seen: set[str] = set()
    images = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen or _lies_in(Path(parent), exclude):
            folders.clear()  # a link to a parent folder, or the excluded folder
            continue
        seen.add(real)
        folders[:] = [f for f in folders if not f.startswith('.')]
        images += [
            Path(parent, file)
            for file in files
            if not file.startswith('.') and Path(file).suffix.lower() in SUFFIXES
        ]
    return sorted(images)


def _lies_in(path: Path, folder: Path | None) -> bool:
    if folder is None:
        return False
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _relative(path: Path, root: Path) -> str | None:
    """Return the path relative to ``root``, without following links; None if it is outside."""
    try:
        return Path(os.path.abspath(path)).relative_to(os.path.abspath(root)).as_posix()
    except ValueError:
        return None


def _rename_duplicates(images: list[InputImage]) -> list[InputImage]:
    uses = Counter(image.name for image in images)
    # A new name never equals a name that is unique already.
    taken = {name for name, number in uses.items() if number == 1}
    result = []
    for image in images:
        name = image.name
        if uses[name] > 1:
            name = next(n for n in longer_names(image) if n not in taken)
        taken.add(name)
        result.append(replace(image, name=name))
    return result


def longer_names(image: InputImage) -> Iterator[str]:
    """Yield the name with the folder as a prefix, then with ``_2``, ``_3``, ... at the folder."""
    folder = Path(os.path.abspath(image.root)).name or 'root'
    yield f'{folder}/{image.name}'
    yield from (f'{folder}_{number}/{image.name}' for number in count(2))
