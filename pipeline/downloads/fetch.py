"""From an entry of the manifest to a checked file in its place."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..weights.checkpoints import (
    absence,
    fetch_command,
    path_of,
    problem_with,
    record_path,
    record_sha256,
    recorded_sha256,
    replace_command,
)
from ..weights.manifest import WeightsEntry
from .part import PartFile
from .progress import Reporter
from .settings import DownloadError, DownloadSettings
from .transfer import MAX_WAIT_S, TransferError, transfer


class UnreachableError(DownloadError):
    """No address of a file could be reached."""


def fetch(
    entry: WeightsEntry,
    settings: DownloadSettings,
    reporter: Reporter,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Bring the file of an entry into its place; of several processes one downloads.

    Nothing lies under the final name that was not checked in full. The part of a download that
    was stopped is kept, and the next call goes on with it.

    Args:
        entry: What to fetch.
        settings: Folder, mirrors, patience.
        reporter: Hears about progress.
        sleep: Waits between tries.

    Returns:
        Whether anything was downloaded; False if the file was there.

    Raises:
        DownloadError: the file that is there is wrong, or no address gave the right one.
    """
    path = path_of(entry, settings.folder)
    if entry.embedded and not path.is_file():
        raise DownloadError(absence([entry], ''))
    if _is_here(entry, path, settings):
        return False
    if settings.offline:
        command = fetch_command(entry.name)
        raise DownloadError(f'offline: {absence([entry], command, settings.folder)}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(path, entry, reporter):
            if _is_here(entry, path, settings):  # another process was faster
                return False
            _download(entry, path, settings, reporter, sleep)
    except OSError as error:
        raise DownloadError(
            f'cannot write to {path.parent}: {error}; choose another folder with --dir or '
            'BMP_CHECKPOINTS'
        ) from error
    return True


def _is_here(entry: WeightsEntry, path: Path, settings: DownloadSettings) -> bool:
    """Whether the right file is in its place; a wrong one is an error, never replaced unasked."""
    if not path.is_file() or (settings.force and not entry.embedded):
        return False
    problem, digest = problem_with(entry, path)
    if problem:
        cure = replace_command(entry)
        raise DownloadError(
            f'{path} is there, but it is not {entry.name}: {problem}; replace it with: {cure}'
        )
    trust(entry, path, digest)
    return True


def trust(entry: WeightsEntry, path: Path, digest: str) -> bool:
    """Record the sha256 of a file for which none was published, once."""
    if entry.sha256 is not None or recorded_sha256(path) is not None:
        return False
    try:
        record_sha256(path, digest)
    except OSError:  # files that many share often lie where only some may write
        return False
    return True


@contextmanager
def _lock(path: Path, entry: WeightsEntry, reporter: Reporter) -> Iterator[None]:
    """In the block no other process downloads this file."""
    lock = FileLock(path.with_name(f'.{path.name}.lock'))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        reporter.message(f'{entry.name}: another process downloads it, waiting')
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _download(
    entry: WeightsEntry,
    path: Path,
    settings: DownloadSettings,
    reporter: Reporter,
    sleep: Callable[[float], None],
) -> None:
    failures: list[tuple[str, TransferError]] = []
    addresses = settings.addresses(entry)
    for url in addresses:
        try:
            digest = _from_one_address(url, entry, PartFile(path), settings, reporter, sleep)
        except TransferError as error:
            failures.append((url, error))
            if url != addresses[-1]:
                reporter.message(f'{entry.name}: {url}: {error}; trying the next address')
            continue
        _install(entry, path, digest)
        return
    kind = UnreachableError if all(e.unreachable for _, e in failures) else DownloadError
    raise kind(_all_failed(entry, path, failures))


def _from_one_address(
    url: str,
    entry: WeightsEntry,
    part: PartFile,
    settings: DownloadSettings,
    reporter: Reporter,
    sleep: Callable[[float], None],
) -> str:
    """Transfer and check, again while that may help; returns the sha256 of the complete part."""

    def begin(done: int, total: int | None) -> None:
        reporter.begin(entry.name, done, total)

    farthest, tries, reached = part.size, 0, False
    while True:
        try:
            origin, resumed = transfer(url, part, settings, entry.size, begin, reporter.advance)
            return _checked(entry, part, origin.sha256, resumed)
        except TransferError as error:
            # Whoever gets farther each time may go on; a server that always starts anew may not.
            tries = 1 if part.size > farthest else tries + 1
            farthest = max(farthest, part.size)
            reached = reached or not error.unreachable
            # A network that was there a moment ago may come back.
            if not (error.retry or (error.unreachable and reached)) or tries > settings.retries:
                raise
            wait = error.wait_s or min(settings.backoff_s * 2 ** (tries - 1), MAX_WAIT_S)
            reporter.message(f'{entry.name}: {error}; next try in {wait:g} s')
            sleep(wait)


def _checked(entry: WeightsEntry, part: PartFile, announced: str, resumed: bool) -> str:
    problem, digest = problem_with(entry, part.path)
    if not problem and announced and announced != digest:
        problem = f'sha256 {digest[:12]}..., but the server announced {announced[:12]}...'
    if problem:
        part.discard()
        # Two halves may be of two versions of the file; then it is worth one try from the start.
        raise TransferError(f'what came is not the file: {problem}', retry=resumed)
    return digest


def _install(entry: WeightsEntry, path: Path, digest: str) -> None:
    """Give the checked part its name; its sha256 is recorded if nobody published it."""
    part = PartFile(path)
    with part.path.open('rb') as file:
        os.fsync(file.fileno())
    record_path(path).unlink(missing_ok=True)
    part.path.replace(path)
    part.note.unlink(missing_ok=True)
    trust(entry, path, digest)


def _all_failed(
    entry: WeightsEntry, path: Path, failures: Sequence[tuple[str, TransferError]]
) -> str:
    lines = [f'{entry.name} could not be downloaded:']
    lines += [f'  {url}\n    {error}' for url, error in failures]
    lines.append(
        f'The same command goes on where it stopped. Or fetch the file elsewhere and copy it to\n'
        f'  {path.absolute()}\nor name a mirror in BMP_MIRROR (docs/weights.md).'
    )
    return '\n'.join(lines)
