"""Resumable, checked downloads of released weights from several URLs.

The Hugging Face client transfers the bytes from any server.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

from filelock import FileLock

from ..io.atomic import open_no_link, write_text
from .checkpoints import checksum_path, read_checksum, verify_file
from .manifest import CheckpointError, WeightsEntry, locate_weights
from .messages import describe_absent, fetch_command, replace_command

HUGGING_FACE = 'https://huggingface.co'
_TRUE = {'1', 'true', 'yes', 'on'}
_LOOPBACK = {'127.0.0.1', 'localhost', '::1'}


class DownloadError(CheckpointError):
    """A file could not be downloaded; the message has the next step."""


def is_offline() -> bool:
    """Return whether BMP_OFFLINE or HF_HUB_OFFLINE is set."""
    switches = (os.environ.get(name, '') for name in ('BMP_OFFLINE', 'HF_HUB_OFFLINE'))
    return any(value.strip().lower() in _TRUE for value in switches)


def write_checksum(path: Path, digest: str) -> None:
    """Record the sha256 of a file in the format of ``sha256sum -c``."""
    write_text(checksum_path(path), f'{digest}  {path.name}\n')


def list_urls(entry: WeightsEntry) -> list[str]:
    """Return the URLs of a file in the order of the attempts.

    BMP_MIRROR is first, as ``BMP_MIRROR/FILE``; HF_ENDPOINT is before huggingface.co.
    """
    mirror = _base_url('BMP_MIRROR')
    endpoint = _base_url('HF_ENDPOINT')
    urls = [f'{mirror}/{quote(entry.file)}'] if mirror else []
    for url in entry.urls:
        if endpoint and url.startswith(f'{HUGGING_FACE}/'):
            urls.append(endpoint + url[len(HUGGING_FACE) :])
        urls.append(url)
    return list(dict.fromkeys(urls))


def fetch(entry: WeightsEntry, folder: Path, *, force: bool = False, offline: bool = False) -> bool:
    """Download the file of an entry unless it exists.

    A file gets its final name after all checks. The next call resumes an interrupted download. If
    several processes fetch the same file, one downloads it and the others wait.

    Args:
        entry: Entry of the manifest.
        folder: Folder of the file.
        force: Replace an existing file.
        offline: Do not use the network.

    Returns:
        Whether the file was downloaded; False if it existed.

    Raises:
        DownloadError: The existing file is wrong, or no URL has the right one.
    """
    path = locate_weights(entry, folder)
    if (not force or entry.embedded) and _exists(entry, path):
        return False
    if entry.embedded:
        raise DownloadError(describe_absent([entry], ''))
    if offline or is_offline():
        text = describe_absent([entry], fetch_command(entry.name), folder)
        raise DownloadError(f'offline: {text}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f'.{path.name}.lock')):
            if not force and _exists(entry, path):  # another process downloaded it
                return False
            _download(entry, path)
    except OSError as error:
        raise DownloadError(
            f'cannot write to {path.parent}: {error}; choose another folder with --dir or '
            'BMP_CHECKPOINTS'
        ) from error
    return True


def trust(entry: WeightsEntry, path: Path, digest: str) -> bool:
    """Record the sha256 of a file if the publisher states none; returns whether it is new."""
    if entry.sha256 is not None or read_checksum(path) is not None:
        return False
    try:
        write_checksum(path, digest)
    except OSError:  # a shared folder may be read-only
        return False
    return True


def find_parts(path: Path) -> list[Path]:
    """Return the incomplete downloads of a file, one per version on the server."""
    return sorted(path.parent.glob(f'.{path.name}.*.part'))


def _exists(entry: WeightsEntry, path: Path) -> bool:
    if not path.is_file():
        return False
    problem, digest = verify_file(entry, path)
    if problem:
        raise DownloadError(
            f'{path} exists, but it is not {entry.name}: {problem}; '
            f'replace it with: {replace_command(entry)}'
        )
    trust(entry, path, digest)
    return True


def _download(entry: WeightsEntry, path: Path) -> None:
    """Download from the first URL that works.

    Raises:
        DownloadError: No URL has the file.
    """
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # that of httpx

    failures = []
    for url in list_urls(entry):
        try:
            part, digest = _transfer(url, entry, path)
        except (HTTPError, OSError, ValueError, DownloadError) as error:  # ValueError: headers
            failures.append(f'  {url}\n    {_reason(error)}')
            continue
        checksum_path(path).unlink(missing_ok=True)
        part.replace(path)
        for stale in find_parts(path):
            stale.unlink()
        trust(entry, path, digest)
        return
    raise DownloadError(
        '\n'.join([f'{entry.name} could not be downloaded:', *failures])
        + '\nRun the same command again to continue. Or copy the file to\n'
        f'  {path.absolute()}\nor set BMP_MIRROR to another server (docs/user_guide/weights.md).'
    )


def _transfer(url: str, entry: WeightsEntry, path: Path) -> tuple[Path, str]:
    """Download to a temporary file; returns its path and its sha256 after all checks."""
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    hub = _is_hub(url)
    token = None if hub else False  # None: HF_TOKEN or the stored login
    remote = get_hf_file_metadata(url, token=token)
    if entry.size and remote.size and remote.size != entry.size:
        raise DownloadError(f'the file has {remote.size} bytes, expected {entry.size}')
    version = hashlib.sha256(f'{remote.etag} {remote.size}'.encode()).hexdigest()[:12]
    part = path.with_name(f'.{path.name}.{version}.part')
    known = part.is_file() and not part.is_symlink()
    if not (remote.etag and remote.size and known):  # the version is unknown; or a link, a pipe
        part.unlink(missing_ok=True)
    with open(part, 'ab', opener=open_no_link) as stream:
        file: Any = _BoundedFile(stream, entry.size or remote.size)
        http_get(
            url, file, resume_size=stream.tell(), headers=build_hf_headers(token=token),
            expected_size=remote.size, displayed_filename=entry.name,
        )  # fmt: skip
    problem, digest = verify_file(entry, part)
    announced = remote.etag if hub and re.fullmatch('[0-9a-f]{64}', remote.etag or '') else None
    if not problem and announced not in (None, digest):
        problem = f'sha256 {digest[:12]}..., but the server states {str(announced)[:12]}...'
    if problem:
        part.unlink()
        raise DownloadError(f'wrong file: {problem}')
    return part, digest


class _BoundedFile:
    """File that ends a transfer at its known size; None: unknown."""

    def __init__(self, file: IO[bytes], size: int | None) -> None:
        self.tell, self.seek, self.truncate = file.tell, file.seek, file.truncate
        self._file, self._size = file, size

    def write(self, data: bytes) -> int:
        """Write a part.

        Raises:
            DownloadError: The server sends more than the size.
        """
        if self._size is not None and self._file.tell() + len(data) > self._size:
            self.truncate(0)
            raise DownloadError(f'the server sends more than the {self._size} bytes of the file')
        return self._file.write(data)


def _reason(error: Exception) -> str:
    """Describe a failed request in one line."""
    status = getattr(getattr(error, 'response', None), 'status_code', None)
    if status is None:
        return (str(error) or type(error).__name__).partition('\n')[0]
    login = ' (if the file needs a login, set HF_TOKEN)' if status in (401, 403) else ''
    return f'HTTP {status}{login}'


def _base_url(variable: str) -> str:
    """Return a URL of the environment without its last slash, '' if not set."""
    base = os.environ.get(variable, '').rstrip('/')
    if base and (urlsplit(base).scheme not in ('http', 'https') or not urlsplit(base).netloc):
        raise DownloadError(f'{variable} must be an http(s) URL, got {base!r}')
    return base


def _is_hub(url: str) -> bool:
    """Return whether requests may have the token: to the hub only, and encrypted."""
    bases = (HUGGING_FACE, _base_url('HF_ENDPOINT'))
    parts = urlsplit(url)
    private = parts.scheme == 'https' or parts.hostname in _LOOPBACK
    return private and parts.netloc in {urlsplit(base).netloc for base in bases if base}
