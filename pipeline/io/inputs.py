"""Search for the input images of a run; each gets a unique name.

An input is an image, a directory (searched recursively), a glob pattern, an http(s) URL, ``-`` (an
image on stdin) or a list file (``@FILE`` or a file ending in .txt or .lst: one input per line,
relative to the folder of the list file; ``#`` starts a comment line; ``@-`` is a list on stdin).
"""

from __future__ import annotations

import glob
import hashlib
import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import count
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from .images import SUFFIXES, WrongInputError
from .images import InputError as InputError
from .progress import count_of

LIST_SUFFIXES = ('.txt', '.lst')
# Folders of a run in its output folder.
RESULT_FOLDERS = frozenset(
    'predictions visualizations masks mmpose rounds report inputs videos'.split()
)
MAX_NAME_BYTES = 255 - len('.json')  # of a file, on common file systems
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
        return shorten_path(self.output or self.name)


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
        if self.input.removeprefix('@') in self.message:
            return self.message
        return f'{self.input}: {self.error}: {self.message}'


@dataclass(frozen=True)
class Inputs:
    """Images in the order of their names, and the inputs without an image."""

    images: tuple[InputImage, ...]
    failures: tuple[Failure, ...]
    remarks: tuple[str, ...] = ()  # what folders hold beside images


@dataclass
class _Search:
    """What a search leaves out, and what it finds beside images."""

    exclude: Path | None
    downloads: Path
    failures: list[Failure] = field(default_factory=list)
    passed: dict[Path, str] = field(default_factory=dict)  # other files of a source: their kind

    def describe_passed(self) -> str:
        """Describe the files that are no images."""
        counts = Counter(self.passed.values())
        kinds = [f'{count} {kind}' for kind, count in counts.most_common(6)]
        more = ['...'] if len(counts) > len(kinds) else []
        return f'passed over {count_of(len(self.passed), "file")}: {", ".join(kinds + more)}'


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
        The images, and as failures the directories and patterns without images, and the list files
        and directories that cannot be read. A single file is not checked for existence. The results
        of runs are no images, unless a source names their folder.
    """
    found: dict[str, InputImage] = {}
    remarks = []
    search = _Search(exclude, downloads or Path())
    for source in inputs:
        search.passed.clear()
        try:
            for image in _find(source, search):
                found.setdefault(os.path.realpath(image.path), image)
        except (ValueError, OSError) as error:
            search.failures.append(Failure.from_error(source, error))
        if search.passed:
            remarks.append(f'{source}: {search.describe_passed()}')
    images = sorted(_rename_duplicates(list(found.values())), key=lambda image: image.name)
    return Inputs(tuple(images), tuple(search.failures), tuple(remarks))


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


def name_forms(name: str) -> tuple[str, ...]:
    """Return the ways to read a name in a file of the user, best first.

    As it is, with slashes for backslashes, and percent-decoded; in the Unicode forms NFC and NFD.
    """
    plain = name.replace('\\', '/')
    texts = [plain, unquote(plain).replace('\\', '/')]
    forms = [unicodedata.normalize(form, text) for text in texts for form in ('NFC', 'NFD')]
    return tuple(dict.fromkeys([name, *forms]))


def locate_image(folder: Path, name: str) -> Path:
    """Find the file in ``folder`` that a COCO file names; without one, the path of the name."""
    forms = [PurePosixPath(form) for form in name_forms(name)[1:]]
    inside = [folder / f for f in forms if not f.is_absolute() and '..' not in f.parts]
    paths = [folder / name, *inside]
    return next((path for path in paths if is_file(path)), paths[0])


def is_file(path: Path) -> bool:
    """Return whether a path is a file; no name raises an error."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or has a NUL
        return False


def _expand(source: str) -> Path:
    """Return the path that a user wrote.

    Raises:
        WrongInputError: It is empty, has a NUL character or names the folder of an unknown user.
    """
    if not source or '\0' in source:
        raise WrongInputError(f'{source!r} is no path: it is empty or has a NUL character')
    try:
        return Path(source).expanduser()
    except RuntimeError:
        raise WrongInputError(
            f'{source}: there is no such user; write ./{source} for a file'
        ) from None


def _find(source: str, search: _Search) -> Iterator[InputImage]:
    if _is_no_file(source):
        from .fetch import fetch_input

        path = fetch_input(source, search.downloads)
        yield InputImage(path, path.name, path.parent)
    elif is_list_file(source) and not os.path.isdir(source):
        yield from _from_list(_expand(source.removeprefix('@')), search)
    else:
        yield from _from_path(_expand(source), search)


def _is_no_file(source: str) -> bool:
    """Return whether a source is stdin, a URL, a video or a camera."""
    if source.lower().endswith(VIDEO_SUFFIXES):
        return not os.path.isdir(source)
    if source.isdecimal():
        return not os.path.exists(source)
    return source == '-' or '://' in source or source.startswith('/dev/video')


def _from_path(path: Path, search: _Search) -> Iterator[InputImage]:
    if path.is_dir():
        failed = len(search.failures)
        files = _walk(path, search)
        if not files and len(search.failures) == failed:
            raise InputError(
                f'{path}: no image in this directory; suffixes: {" ".join(sorted(SUFFIXES))}'
                + (f'; {search.describe_passed()}' if search.passed else '')
            )
        yield from (InputImage(file, _relative(file, path) or file.name, path) for file in files)
    elif glob.has_magic(str(path)) and not path.exists():
        yield from _from_pattern(path, search)
    else:
        yield InputImage(path, path.name, path.parent)


def _from_pattern(pattern: Path, search: _Search) -> Iterator[InputImage]:
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
    of_run = cache(partial(_is_of_run, root=root, search=search))
    for match in map(Path, matches):
        between = [match, *match.parents] if match.is_dir() else match.parents
        if any(of_run(p) for p in between if p != root and p.is_relative_to(root)):
            continue
        if match.is_dir():
            files += _walk(match, search)
        elif _is_image(match, search):
            files.append(match)
    if not files:
        raise InputError(
            f'{pattern}: no image among the {count_of(len(matches), "match", "matches")} of this '
            f'pattern; suffixes: {" ".join(sorted(SUFFIXES))}'
        )
    yield from (InputImage(file, _relative(file, root) or file.name, root) for file in files)


def _from_list(file: Path, search: _Search) -> Iterator[InputImage]:
    entries = [line for line in read_lines(file) if not line.startswith('#')]
    if not entries:
        raise InputError(f'{file}: this list is empty; write one path per line')
    for entry in entries:
        if is_list_file(entry):
            raise InputError(f'{file}: {entry!r} is another list; put its lines into this one')
        if _is_no_file(entry):
            yield from _find(entry, search)
            continue
        for image in _from_path(file.parent / _expand(entry), search):
            name = _relative(image.path, file.parent)
            yield replace(image, name=name, root=file.parent) if name else image


def _walk(folder: Path, search: _Search) -> list[Path]:
    """Find images below ``folder``, sorted by path, without hidden files and folders."""
    seen: set[str] = set()
    images = []

    def refuse(error: OSError) -> None:
        where = error.filename or folder
        text = f'{where}: this directory cannot be read ({error.strerror}); check its permissions'
        search.failures.append(Failure.from_error(where, InputError(text)))

    for parent, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()  # a link to a parent folder
            continue
        seen.add(real)
        folders[:] = [
            f
            for f in folders
            if not f.startswith('.') and not _is_of_run(Path(parent, f), folder, search)
        ]
        paths = (Path(parent, file) for file in files if not file.startswith('.'))
        images += [path for path in paths if _is_image(path, search)]
    return sorted(images)


def _is_image(path: Path, search: _Search) -> bool:
    """Return whether a file that no argument names is an image; other files are counted."""
    kind = path.suffix.lower() or 'without a suffix'
    if kind in SUFFIXES and path.exists() and not path.is_file():
        kind = 'pipes, devices or sockets'  # reading them could block
    if kind not in SUFFIXES:
        search.passed[path] = kind
    return kind in SUFFIXES


def _is_of_run(folder: Path, root: Path, search: _Search) -> bool:
    """Return whether a folder below ``root`` holds the results of this or of an earlier run."""
    exclude = search.exclude
    if exclude is not None and _lies_in(folder, exclude) and not _lies_in(root, exclude):
        return True
    run = folder.parent
    return folder.name in RESULT_FOLDERS and (
        (run / 'config.py').is_file() and any((run / n).exists() for n in ('.lock', 'predictions'))
    )


def _lies_in(path: Path, folder: Path) -> bool:
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


def shorten_path(name: str) -> str:
    """Shorten the last part of a name of outputs to what a file system allows, with a hash."""
    folder, slash, last = name.rpartition('/')
    data = os.fsencode(last)
    if len(data) <= MAX_NAME_BYTES:
        return name
    end = '_' + hashlib.sha256(data).hexdigest()[:8]
    return folder + slash + data[: MAX_NAME_BYTES - len(end)].decode('utf-8', 'ignore') + end
