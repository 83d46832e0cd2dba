"""Messages about absent and wrong weights, with the commands that fetch them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from ..resources import DOWNLOAD, RESTORE
from .manifest import WeightsEntry, locate_weights


def fetch_command(*arguments: str) -> str:
    """Return a command line of the download tool."""
    return shlex.join([*DOWNLOAD, *arguments])


def replace_command(entry: WeightsEntry) -> str:
    """Return the command that replaces a wrong file."""
    if entry.embedded:
        return RESTORE
    return fetch_command(entry.name, '--force')


def describe_absent(
    entries: Sequence[WeightsEntry], command: str, folder: Path | None = None
) -> str:
    """Describe missing files: URLs, folder and command.

    Args:
        entries: Entries of the manifest.
        command: Command that downloads all files.
        folder: Folder of downloads; default: `download_folder`.
    """
    lines = [
        f'embedded weights {locate_weights(e)} are missing; restore them with: {RESTORE}'
        for e in entries
        if e.embedded
    ]
    released = [e for e in entries if not e.embedded]
    if not released:
        return '\n'.join(lines)
    noun = 'weights are missing' if len(released) == 1 else f'{len(released)} weights are missing'
    lines += [f'{noun} ({_total_size(released)}):', '']
    for entry in released:
        lines.append(f'  {entry.name}: {entry.about}; {entry.licence}')
        lines += [f'    {"or  " if i else "from"} {url}' for i, url in enumerate(entry.urls)]
        lines.append(f'    to   {locate_weights(entry, folder).absolute()}')
    return '\n'.join(
        [
            *lines,
            '',
            f'Download: {command}',
            'Without a network, copy the files to these paths: docs/user_guide/weights.md',
        ]
    )


def format_size(size: int | None) -> str:
    """Format a number of bytes, such as ``12.3 MB``."""
    if size is None:
        return 'unknown'
    for unit, factor in (('GB', 1e9), ('MB', 1e6), ('kB', 1e3)):
        if size >= factor:
            return f'{size / factor:.1f} {unit}'
    return f'{size} bytes'


def _total_size(entries: Sequence[WeightsEntry]) -> str:
    sizes = [e.size for e in entries if e.size is not None]
    unknown = len(entries) - len(sizes)
    if not sizes:
        return 'size not published' if unknown == 1 else 'sizes not published'
    more = f' and {unknown} of unpublished size' if unknown else ''
    return f'{format_size(sum(sizes))}{more}'
