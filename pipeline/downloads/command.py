"""What ``tools/download_checkpoints.py`` does once its arguments are parsed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from ..weights.checkpoints import (
    CheckpointError,
    absence,
    download_folder,
    fetch_command,
    find_weights,
    path_of,
    read_manifest,
    replace_command,
    size_text,
)
from ..weights.manifest import WeightsEntry
from .fetch import UnreachableError, fetch
from .listing import status_of, table_of
from .progress import Display
from .settings import DownloadSettings
from .transfer import DiskFullError


class UsageError(ValueError):
    """The arguments cannot be meant."""


@dataclass(frozen=True)
class Request:
    """The arguments of the command line.

    Attributes:
        names: Of the manifest.
        pipelines: Names or files of pipeline configs, whose weights are meant too.
        list_only: Show a table.
        verify: Compare checksums.
    """

    names: tuple[str, ...] = ()
    pipelines: tuple[str, ...] = ()
    list_only: bool = False
    verify: bool = False


def run(request: Request, settings: DownloadSettings, display: Display, console: Console) -> int:
    """List, verify or fetch; returns the exit code.

    Raises:
        UsageError: an unknown name, or nothing to do.
        ConfigError: a pipeline config cannot be read.
        CheckpointError: it names weights that are neither in the manifest nor a file.
    """
    chosen = choose(request)
    if request.list_only or request.verify:
        return _show(chosen, request, settings.folder, console)
    if not chosen and request.pipelines:
        _say(console, 'nothing to download: the pipeline uses files of its own, or random weights')
        return 0
    if not chosen:
        raise UsageError('say what to download: names, or --pipeline CONFIG; --list shows all')
    return _fetch_all(chosen, settings, display, console)


def choose(request: Request) -> list[WeightsEntry]:
    """Entries that the arguments name, each once.

    Raises:
        UsageError: a name that the manifest does not have.
        ConfigError: a pipeline config cannot be read.
        CheckpointError: it names weights that are neither in the manifest nor a file.
    """
    known = read_manifest()
    unknown = [name for name in request.names if name not in known]
    if unknown:
        near = [m for name in unknown for m in difflib.get_close_matches(name, known, 2, 0.5)]
        hint = f' (did you mean {" or ".join(near)}?)' if near else ''
        raise UsageError(f'no weights {", ".join(unknown)}{hint}; --list shows all names')
    names = [*request.names]
    for pipeline in request.pipelines:
        names += _names_in(pipeline, known)
    return [known[name] for name in dict.fromkeys(names)]


def _names_in(pipeline: str, known: dict[str, WeightsEntry]) -> list[str]:
    """Manifest names in a pipeline config; it may name files and random weights besides."""
    from ..build import named_weights
    from ..config import load_config

    resolved = load_config(pipeline)
    names = [name for name in named_weights(resolved) if name]
    for name in names:
        if name not in known:
            find_weights(name, resolved.path)  # a file of the user's, or a slip that is told
    return [name for name in names if name in known]


def _show(chosen: Sequence[WeightsEntry], request: Request, folder: Path, console: Console) -> int:
    """The table; fails if a file is wrong or, when it was named, is not here."""
    entries = list(chosen) or list(read_manifest().values())
    if request.verify and not chosen:
        entries = [e for e in entries if path_of(e, folder).is_file()]
    rows = [status_of(entry, folder, verify=request.verify) for entry in entries]
    console.print(table_of(rows, verified=request.verify))
    lacking = [r.entry for r in rows if r.state in ('absent', 'partly')]
    wrong = [r.entry for r in rows if r.state == 'wrong']
    counts = {s: sum(r.state == s for r in rows) for s in ('here', 'partly', 'absent', 'wrong')}
    told = ', '.join(f'{n} {state}' for state, n in counts.items() if n)
    _say(console, f'\n{told or "nothing is here"}; folder of downloads: {folder.absolute()}')
    for entry in wrong:
        _say(console, f'replace {entry.name} with: {replace_command(entry)}')
    return int(bool(wrong or (request.verify and chosen and lacking)))


@dataclass
class _Outcome:
    done: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    skipped: list[WeightsEntry] = field(default_factory=list)


def _fetch_all(
    chosen: Sequence[WeightsEntry], settings: DownloadSettings, display: Display, console: Console
) -> int:
    with display:
        outcome = _fetch_each(chosen, settings, display)
    for line in outcome.done:
        _say(console, line)
    if outcome.done and settings.folder.absolute() != download_folder().absolute():
        _say(console, f'pipelines find them with BMP_CHECKPOINTS={settings.folder.absolute()}')
    absent = [entry for entry in outcome.skipped if not _file(entry, settings).is_file()]
    if absent:
        why = 'offline: ' if settings.offline else ''
        command = fetch_command(*(entry.name for entry in absent))
        outcome.failures.append(why + absence(absent, command, settings.folder))
    for failure in outcome.failures:
        display.message(f'\n{failure}')
    return int(bool(outcome.failures))


def _fetch_each(
    chosen: Sequence[WeightsEntry], settings: DownloadSettings, display: Display
) -> _Outcome:
    """One after the other; a file that fails does not keep the others from coming."""
    outcome = _Outcome()
    dead: set[str] = set()  # hosts that were not reached; waiting for them once is enough
    for i, entry in enumerate(chosen):
        hopeless = settings.offline or (dead and settings.hosts(entry) <= dead)
        if hopeless and not _file(entry, settings).is_file():
            outcome.skipped.append(entry)
            continue
        try:
            new = fetch(entry, settings, display)
        except DiskFullError as error:
            outcome.failures.append(str(error))
            outcome.skipped += chosen[i + 1 :]
            break
        except CheckpointError as error:
            outcome.failures.append(str(error))
            if isinstance(error, UnreachableError):
                dead |= settings.hosts(entry)
        else:
            path = _file(entry, settings)
            told = f'{"fetched" if new else "was here"}, {size_text(path.stat().st_size)}, {path}'
            outcome.done.append(f'{entry.name}: {told}')
    return outcome


def _file(entry: WeightsEntry, settings: DownloadSettings) -> Path:
    return path_of(entry, settings.folder)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
