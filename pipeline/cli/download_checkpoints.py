"""Download the weights of pipelines, or list and verify the files.

An interrupted download is resumed. Every file is checked. Folders, mirrors, offline use and
licences: docs/user_guide/weights.md.

Examples:
    bmp download --list
    bmp download --pipeline bmp_v2
    bmp download PMPose-b-1.0.0 sam2.1_hiera_large
    bmp download --verify

Exit codes: 0 success, 1 a file failed or is wrong, 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..weights.checkpoints import check_header, find_weights, verify_file
from ..weights.download import fetch, find_parts, is_offline, trust
from ..weights.manifest import (
    CheckpointError,
    WeightsEntry,
    download_folder,
    locate_weights,
    read_manifest,
)
from ..weights.messages import describe_absent, fetch_command, format_size, replace_command
from .options import make_parser

PROG = 'bmp download'


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = make_parser(PROG, __doc__)
    add = parser.add_argument
    add('names', nargs='*', metavar='NAME', help='names in the manifest')
    add(
        '--pipeline', action='append', default=[], metavar='CONFIG',
        help='all weights of this pipeline: name in configs/ or file; may be repeated',
    )  # fmt: skip
    add('--list', action='store_true', help='list the known files and their state')
    add('--verify', action='store_true', help='compare the checksums of the files on the disk')
    add('--force', action='store_true', help='download again and replace existing files')
    add(
        '--dir', type=Path,
        help='folder of the files (default: BMP_CHECKPOINTS, else checkpoints/downloads)',
    )  # fmt: skip
    add('--mirror', metavar='URL', help='try URL/FILE first (default: BMP_MIRROR)')
    add('--offline', action='store_true', help='do not use the network (default: BMP_OFFLINE)')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    from ..config import ConfigError

    parser = build_parser()
    args = parser.parse_args(argv)
    folder = args.dir or download_folder()
    if args.mirror:
        os.environ['BMP_MIRROR'] = args.mirror
    try:
        chosen = _choose(args.names, args.pipeline)
        if args.list or args.verify:
            return _show(chosen, folder, verify=args.verify)
        if chosen:
            return _fetch_all(chosen, folder, args.force, args.offline)
    except (_UsageError, ConfigError) as error:
        parser.error(str(error))
    except CheckpointError as error:
        print(f'{parser.prog}: error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('Interrupted. Run the same command again to continue.', file=sys.stderr)
        return 130
    if not args.pipeline:
        parser.error('name the files to download, or use --pipeline CONFIG; --list shows all')
    print('nothing to download: the pipeline uses local files or random weights')
    return 0


class _UsageError(ValueError):
    """A name does not exist."""


def _choose(names: Sequence[str], pipelines: Sequence[str]) -> list[WeightsEntry]:
    """Return the entries of the arguments without duplicates."""
    known = read_manifest()
    unknown = [name for name in names if name not in known]
    if unknown:
        near = [m for name in unknown for m in difflib.get_close_matches(name, known, 2, 0.5)]
        hint = f' (did you mean {" or ".join(near)}?)' if near else ''
        raise _UsageError(f'no weights {", ".join(unknown)}{hint}; --list shows all names')
    used = [name for pipeline in pipelines for name in _names_in(pipeline)]
    return [known[name] for name in dict.fromkeys([*names, *used]) if name in known]


def _names_in(pipeline: str) -> list[str]:
    """Return the weights of a pipeline config; local files must exist."""
    from ..build import named_weights
    from ..config import load_config

    resolved = load_config(pipeline)
    names = [name for name in named_weights(resolved) if name]
    for name in names:
        if name not in read_manifest():
            find_weights(name, resolved.path)
    return names


def _show(chosen: Sequence[WeightsEntry], folder: Path, *, verify: bool) -> int:
    """Print the table; returns 1 if a file is wrong, or named by the user and absent."""
    entries = list(chosen) or list(read_manifest().values())
    if verify and not chosen:
        entries = [e for e in entries if locate_weights(e, folder).is_file()]
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 200  # a pipe has no width; the default of 80 is too narrow
    table = Table('name', 'for', 'what', 'size', 'state', 'licence', box=None, pad_edge=False)
    for column in (0, 3):
        table.columns[column].no_wrap = True
    counts: Counter[str] = Counter()
    for entry in entries:
        path = locate_weights(entry, folder)
        state, detail = _state_of(entry, path, verify=verify)
        counts[state] += 1
        size = entry.size or (path.stat().st_size if path.is_file() else None)
        text = f'{state}: {detail}' if detail else state
        style = 'bold red' if state == 'wrong' else ''
        name, kind, about, licence = entry.name, entry.kind, entry.about, entry.licence
        table.add_row(name, kind, about, format_size(size), Text(text, style), licence)
    console.print(table)
    summary = ', '.join(f'{count} {state}' for state, count in counts.items())
    print(f'\n{summary or "no files"}; folder of downloads: {folder.absolute()}')
    return int(bool(counts['wrong'] or (verify and chosen and counts['absent'])))


def _state_of(entry: WeightsEntry, path: Path, *, verify: bool) -> tuple[str, str]:
    """Return the state of a file, and a remark."""
    if not path.is_file():
        done = sum(part.stat().st_size for part in find_parts(path))
        return 'absent', f'{format_size(done)} of it downloaded' if done else ''
    if not verify:
        problem = check_header(entry, path)
        return ('wrong', problem) if problem else ('here', 'embedded' if entry.embedded else '')
    problem, digest = verify_file(entry, path)
    if problem:
        return 'wrong', f'{problem}; replace it with: {replace_command(entry)}'
    recorded = 'sha256 recorded now' if trust(entry, path, digest) else 'sha256 as recorded'
    return 'here', 'sha256 as published' if entry.sha256 else recorded


def _fetch_all(chosen: Sequence[WeightsEntry], folder: Path, force: bool, offline: bool) -> int:
    """Download the files one by one; a failure does not stop the others."""
    if offline or is_offline():
        absent = [entry for entry in chosen if not locate_weights(entry, folder).is_file()]
        if absent:
            command = fetch_command(*(entry.name for entry in absent))
            print(f'offline: {describe_absent(absent, command, folder)}', file=sys.stderr)
            return 1
    failed = False
    for entry in chosen:
        try:
            new = fetch(entry, folder, force=force, offline=offline)
        except CheckpointError as error:
            failed = True
            print(f'\n{error}', file=sys.stderr)
        else:
            path = locate_weights(entry, folder)
            done = 'downloaded' if new else 'exists already'
            print(f'{entry.name}: {done}, {format_size(path.stat().st_size)}, {path}')
    if folder.absolute() != download_folder().absolute():
        print(f'to use these files, set BMP_CHECKPOINTS={folder.absolute()}')
    return int(failed)
