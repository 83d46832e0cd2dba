"""Downloads of released weights: resumed, checked, from several addresses.

The Hugging Face client transfers the bytes, from its hub as from any other server.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import quote, urlsplit

from filelock import FileLock

from .checkpoints import (
    absence,
    fetch_command,
    path_of,
    problem_with,
    record_path,
    record_sha256,
    recorded_sha256,
    replace_command,
)
from .manifest import CheckpointError, WeightsEntry

HUGGING_FACE = 'https://huggingface.co'
_TRUE = {'1', 'true', 'yes', 'on'}
_LOOPBACK = {'127.0.0.1', 'localhost', '::1'}


class DownloadError(CheckpointError):
    """A file could not be downloaded; the message says what to do."""


def is_offline() -> bool:
    """Whether BMP_OFFLINE or HF_HUB_OFFLINE forbids any use of the network."""
    switches = (os.environ.get(name, '') for name in ('BMP_OFFLINE', 'HF_HUB_OFFLINE'))
    return any(value.strip().lower() in _TRUE for value in switches)


def addresses(entry: WeightsEntry) -> list[str]:
    """Return the addresses of a file in the order in which they are tried.

    BMP_MIRROR comes first, as ``BMP_MIRROR/FILE``; HF_ENDPOINT comes before huggingface.co.
    """
    mirror = _base_address('BMP_MIRROR')
    endpoint = _base_address('HF_ENDPOINT')
    found = [f'{mirror}/{quote(entry.file)}'] if mirror else []
    for url in entry.urls:
        if endpoint and url.startswith(f'{HUGGING_FACE}/'):
            found.append(endpoint + url[len(HUGGING_FACE) :])
        found.append(url)
    return list(dict.fromkeys(found))


def fetch(entry: WeightsEntry, folder: Path, *, force: bool = False, offline: bool = False) -> bool:
    """Download the file of an entry unless it is in its place already.

    A file gets its final name only after all checks. The part of an interrupted download stays,
    and the next call continues it. Of several processes that want the same file, one downloads.

    Args:
        entry: Of the manifest.
        folder: Where the file goes.
        force: Replace a file that is in its place.
        offline: Do not use the network.

    Returns:
        Whether the file was downloaded; False if it was in its place.

    Raises:
        DownloadError: The file in its place is wrong, or no address delivered the right one.
    """
    path = path_of(entry, folder)
    if (not force or entry.embedded) and _is_in_place(entry, path):
        return False
    if entry.embedded:
        raise DownloadError(absence([entry], ''))
    if offline or is_offline():
        raise DownloadError(f'offline: {absence([entry], fetch_command(entry.name), folder)}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f'.{path.name}.lock')):
            if not force and _is_in_place(entry, path):  # another process was faster
                return False
            _download(entry, path)
    except OSError as error:
        raise DownloadError(
            f'cannot write to {path.parent}: {error}; choose another folder with --dir or '
            'BMP_CHECKPOINTS'
        ) from error
    return True


def trust(entry: WeightsEntry, path: Path, digest: str) -> bool:
    """Record the sha256 of a file once, if the publisher states none; returns whether it did."""
    if entry.sha256 is not None or recorded_sha256(path) is not None:
        return False
    try:
        record_sha256(path, digest)
    except OSError:  # a shared folder may be read-only
        return False
    return True


def parts_of(path: Path) -> list[Path]:
    """Return the incomplete downloads of a file; the name of each holds the server's version."""
    return sorted(path.parent.glob(f'.{path.name}.*.part'))


def _is_in_place(entry: WeightsEntry, path: Path) -> bool:
    if not path.is_file():
        return False
    problem, digest = problem_with(entry, path)
    if problem:
        raise DownloadError(
            f'{path} exists, but it is not {entry.name}: {problem}; '
            f'replace it with: {replace_command(entry)}'
        )
    trust(entry, path, digest)
    return True


def _download(entry: WeightsEntry, path: Path) -> None:
    """Try one address after the other.

    Raises:
        DownloadError: None of them delivered the file.
    """
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # that of httpx

    failures = []
    for url in addresses(entry):
        try:
            part, digest = _transfer(url, entry, path)
        except (HTTPError, OSError, DownloadError) as error:
            failures.append(f'  {url}\n    {_reason(error)}')
            continue
        record_path(path).unlink(missing_ok=True)
        part.replace(path)
        for stale in parts_of(path):
            stale.unlink()
        trust(entry, path, digest)
        return
    raise DownloadError(
        '\n'.join([f'{entry.name} could not be downloaded:', *failures])
        + '\nRun the same command again to continue. Or copy the file from elsewhere to\n'
        f'  {path.absolute()}\nor set BMP_MIRROR to another address (docs/user_guide/weights.md).'
    )


def _transfer(url: str, entry: WeightsEntry, path: Path) -> tuple[Path, str]:
    """Download a file beside its place; returns the checked part and its sha256."""
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    hub = _is_hub(url)
    token = None if hub else False  # None: HF_TOKEN or the saved login
    remote = get_hf_file_metadata(url, token=token)
    if entry.size and remote.size and remote.size != entry.size:
        raise DownloadError(f'the file has {remote.size} bytes, expected {entry.size}')
    version = hashlib.sha256(f'{remote.etag} {remote.size}'.encode()).hexdigest()[:12]
    part = path.with_name(f'.{path.name}.{version}.part')
    if not (remote.etag and remote.size):  # nothing tells whether the part is of the same file
        part.unlink(missing_ok=True)
    with part.open('ab') as file:
        http_get(
            url, file, resume_size=file.tell(), headers=build_hf_headers(token=token),
            expected_size=remote.size, displayed_filename=entry.name,
        )  # fmt: skip
    problem, digest = problem_with(entry, part)
    announced = remote.etag if hub and re.fullmatch('[0-9a-f]{64}', remote.etag or '') else None
    if not problem and announced not in (None, digest):
        problem = f'sha256 {digest[:12]}..., but the server announced {str(announced)[:12]}...'
    if problem:
        part.unlink()
        raise DownloadError(f'wrong file: {problem}')
    return part, digest


def _reason(error: Exception) -> str:
    """Return one line about a failed request."""
    status = getattr(getattr(error, 'response', None), 'status_code', None)
    if status is None:
        return (str(error) or type(error).__name__).partition('\n')[0]
    login = ' (if the file needs a login, set HF_TOKEN)' if status in (401, 403) else ''
    return f'HTTP {status}{login}'


def _base_address(variable: str) -> str:
    """Return an address of the environment without its last slash, '' if not set."""
    base = os.environ.get(variable, '').rstrip('/')
    if base and (urlsplit(base).scheme not in ('http', 'https') or not urlsplit(base).netloc):
        raise DownloadError(f'{variable} must be an http(s) address, got {base!r}')
    return base


def _is_hub(url: str) -> bool:
    """Whether the address may get the token: the hub, never in plain text."""
    bases = (HUGGING_FACE, _base_address('HF_ENDPOINT'))
    place = urlsplit(url)
    private = place.scheme == 'https' or place.hostname in _LOOPBACK
    return private and place.netloc in {urlsplit(base).netloc for base in bases if base}
