"""Weights: names from the manifest to files, checked by sha256.

``checkpoints/manifest.json`` lists every known file. Embedded files lie beside it; released ones
are expected in ``checkpoints/downloads/`` (or in the folder that ``BMP_CHECKPOINTS`` names).

A file whose sha256 nobody published is trusted when it is first downloaded: its sha256 is recorded
beside it (``name.pth.sha256``, in the format of the command sha256sum) and holds from then on.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import manifest
from .loading import load_into, load_state, not_weights, state_dict_mismatch
from .manifest import CheckpointError, WeightsEntry, read_manifest

__all__ = [
    'CheckpointError',
    'Weights',
    'apparent_problem',
    'download_folder',
    'fetch_command',
    'find_all_weights',
    'find_weights',
    'load_into',
    'load_state',
    'path_of',
    'problem_with',
    'read_manifest',
    'record_sha256',
    'recorded_sha256',
    'sha256_of',
    'size_text',
    'state_dict_mismatch',
]  # fmt: skip


class AbsentWeightsError(CheckpointError):
    """A file of the manifest is not here."""

    def __init__(self, entry: WeightsEntry) -> None:
        super().__init__(absence([entry], fetch_command(entry.name)))
        self.entry = entry


@dataclass(frozen=True)
class Weights:
    """A file of weights that may be loaded.

    Attributes:
        name: As in the manifest; else the name of the file.
        path: Where it is.
        sha256: Hex.
        ignorable: Prefixes of keys that need not fit the model, as the manifest says.
    """

    name: str
    path: Path
    sha256: str
    ignorable: tuple[str, ...] = ()


def download_folder() -> Path:
    """Where released weights are kept."""
    return Path(os.environ.get('BMP_CHECKPOINTS') or manifest.FOLDER / 'downloads')


def path_of(entry: WeightsEntry, folder: Path | None = None) -> Path:
    """Where the file of an entry belongs.

    Args:
        entry: Of the manifest.
        folder: Of the downloads; default: `download_folder`.
    """
    return (manifest.FOLDER if entry.embedded else folder or download_folder()) / entry.file


def find_weights(name: str | Path, beside: Path | None = None) -> Weights:
    """The file behind a manifest name or a path, with its sha256.

    Args:
        name: Manifest name; else a path: absolute, beside the config that names it, or from the
            working directory, in this order.
        beside: The config that names it.

    Raises:
        CheckpointError: unknown name, absent file, or a file that is not what the manifest says.
    """
    known = read_manifest()
    entry = known.get(str(name))
    if entry is None:
        folders = [Path(), *([beside.resolve().parent] if beside else [])]
        for folder in reversed(folders):
            if (folder / name).is_file():
                return Weights(Path(name).name, folder / name, sha256_of(folder / name))
        names = ', '.join(sorted(known))
        raise CheckpointError(f'no weights {str(name)!r}: neither a file nor one of: {names}')
    path = path_of(entry)
    if not path.is_file():
        raise AbsentWeightsError(entry)
    problem, digest = problem_with(entry, path)
    if problem:
        raise CheckpointError(
            f'{path} is not the file that the manifest lists as {entry.name!r}: {problem}; '
            f'replace it with: {replace_command(entry)}'
        )
    return Weights(entry.name, path, digest, entry.ignorable)


def find_all_weights(
    names: Sequence[str | None],
    beside: Path | None = None,
    command: Callable[[list[str]], str] | None = None,
) -> list[Weights | None]:
    """`find_weights` of several names; what is wrong with any of them is told at once.

    Args:
        names: As in `find_weights`; None stays None.
        beside: The config that names them.
        command: The command that fetches absent ones; default: `fetch_command`.

    Raises:
        CheckpointError: some are absent or wrong.
    """
    found: list[Weights | None] = []
    absent: list[WeightsEntry] = []
    problems: list[str] = []
    for name in names:
        try:
            found.append(find_weights(name, beside) if name else None)
        except AbsentWeightsError as error:
            absent.append(error.entry)
        except CheckpointError as error:
            problems.append(str(error))
    if absent:
        absent_names = [entry.name for entry in absent]
        problems.append(
            absence(absent, command(absent_names) if command else fetch_command(*absent_names))
        )
    if problems:
        raise CheckpointError('\n'.join(problems))
    return found


def fetch_command(*arguments: str) -> str:
    """A command line of the download tool."""
    return shlex.join(['python', 'tools/download_checkpoints.py', *arguments])


def replace_command(entry: WeightsEntry) -> str:
    """What puts the right file in the place of a wrong one."""
    if entry.embedded:
        return 'git checkout -- checkpoints'
    return fetch_command(entry.name, '--force')


def absence(entries: Sequence[WeightsEntry], command: str, folder: Path | None = None) -> str:
    """What to do about files that are not here: addresses, folder and command.

    Args:
        entries: Of the manifest.
        command: Fetches them all.
        folder: Of the downloads; default: `download_folder`.
    """
    lost = [e for e in entries if e.embedded]
    lines = [
        f'embedded weights {path_of(e)} are absent; restore them with: git checkout -- checkpoints'
        for e in lost
    ]
    wanted = [e for e in entries if not e.embedded]
    if not wanted:
        return '\n'.join(lines)
    noun = 'weights are not here' if len(wanted) == 1 else f'{len(wanted)} weights are not here'
    lines += [f'{noun} ({_total(wanted)}):', '']
    for entry in wanted:
        lines.append(f'  {entry.name}: {entry.about}; {entry.licence}')
        lines += [f'    {"or  " if i else "from"} {url}' for i, url in enumerate(entry.urls)]
        lines.append(f'    to   {path_of(entry, folder).absolute()}')
    return '\n'.join(
        [
            *lines,
            '',
            f'Download: {command}',
            'Without a network, copy the files there: docs/user_guide/weights.md',
        ]
    )


def apparent_problem(entry: WeightsEntry, path: Path) -> str:
    """Return what its size and its first bytes tell against a file; '' if nothing."""
    size = path.stat().st_size
    if entry.size is not None and size != entry.size:
        return f'it has {size} bytes, expected {entry.size}'
    return not_weights(path)


def problem_with(entry: WeightsEntry, path: Path) -> tuple[str, str]:
    """Why a file is not that of an entry ('' if it is), and its sha256 ('' if not computed).

    Compares what is known: size, sha256 or the beginning of it, and the recorded sha256.
    """
    problem = apparent_problem(entry, path)
    if problem:
        return problem, ''
    digest = sha256_of(path)
    if entry.sha256 is not None and digest != entry.sha256:
        return f'sha256 {digest[:12]}..., expected {entry.sha256[:12]}...', digest
    if entry.sha256_prefix is not None and not digest.startswith(entry.sha256_prefix):
        return f'sha256 {digest[:12]}..., expected {entry.sha256_prefix}...', digest
    recorded = recorded_sha256(path)
    if entry.sha256 is None and recorded not in (None, digest):
        return (
            f'sha256 {digest[:12]}..., but {str(recorded)[:12]}... when it was downloaded '
            f'({record_path(path).name})'
        ), digest
    return '', digest


def record_path(path: Path) -> Path:
    """Where the sha256 of a file is recorded."""
    return path.with_name(f'{path.name}.sha256')


def recorded_sha256(path: Path) -> str | None:
    """The sha256 that was recorded for a file; None without a record.

    Raises:
        CheckpointError: the record is damaged.
    """
    record = record_path(path)
    if not record.is_file():
        return None
    match = re.match(r'([0-9a-f]{64})\b', record.read_text('utf-8', 'replace'))
    if not match:
        raise CheckpointError(f'{record} holds no sha256; delete it if you trust {path.name}')
    return match.group(1)


def record_sha256(path: Path, digest: str) -> None:
    """Record the sha256 of a file beside it; ``sha256sum -c`` reads the record too."""
    from ..io.atomic import write_text

    write_text(record_path(path), f'{digest}  {path.name}\n')


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def size_text(size: int | None) -> str:
    """Bytes for people: ``12.3 MB``."""
    if size is None:
        return 'unknown'
    for unit, factor in (('GB', 1e9), ('MB', 1e6), ('kB', 1e3)):
        if size >= factor:
            return f'{size / factor:.1f} {unit}'
    return f'{size} bytes'


def _total(entries: Sequence[WeightsEntry]) -> str:
    sizes = [e.size for e in entries if e.size is not None]
    unknown = len(entries) - len(sizes)
    if not sizes:
        return 'size not published' if unknown == 1 else 'sizes not published'
    more = f' and {unknown} of a size that is not published' if unknown else ''
    return f'{size_text(sum(sizes))}{more}'
