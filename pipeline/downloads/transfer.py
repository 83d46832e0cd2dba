"""One request for one file over HTTP: continues a part where the server lets it."""

from __future__ import annotations

import errno
import http.client
import re
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from typing import IO, Any
from urllib.parse import urlsplit

from .. import __version__
from .part import Origin, PartFile
from .settings import DownloadError, DownloadSettings

CHUNK = 1 << 20
MAX_WAIT_S = 60.0
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}

Begin = Callable[[int, 'int | None'], None]  # bytes that are here, bytes of the whole file
Advance = Callable[[int], None]  # bytes that have come


class DiskFullError(DownloadError):
    """No further file can be stored."""


class TransferError(Exception):
    """A request failed.

    Attributes:
        retry: The same address may answer better next time.
        wait_s: Seconds to wait before, if the server said so.
        unreachable: The server was not reached at all.
    """

    def __init__(
        self,
        message: str,
        *,
        retry: bool = False,
        wait_s: float | None = None,
        unreachable: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry = retry
        self.wait_s = wait_s
        self.unreachable = unreachable


def transfer(
    url: str,
    part: PartFile,
    settings: DownloadSettings,
    expected_size: int | None,
    begin: Begin,
    advance: Advance,
) -> tuple[Origin, bool]:
    """Ask for a file once and write what comes to its part, which is kept whatever happens.

    A part is continued if it comes from the same address and the server confirms by ETag, date
    or size that the file is still the same; otherwise the file starts anew.

    Returns:
        What the server said about the file, and whether older bytes were used.

    Raises:
        TransferError: no answer, a bad one, or the connection broke off or stalled.
        DiskFullError: the file does not fit.
    """
    known = part.origin()
    start = part.size if known and known.url == url else 0
    if known and start and start == known.size:
        return known, True  # killed after the last byte
    redirects = Redirects(settings)
    with _open(_request(url, start, known, settings), redirects, settings, part) as response:
        origin = _origin(url, response, redirects)
        if response.status == http.client.PARTIAL_CONTENT:
            _check_range(response, start, known, origin, part)
        else:
            start = 0
            part.restart(origin)
        if expected_size and origin.size and origin.size != expected_size:
            part.discard()
            raise TransferError(f'the file has {origin.size} bytes, expected {expected_size}')
        _check_space(part, origin, start)
        begin(start, origin.size)
        _copy(response, part, settings, advance)
    if origin.size is not None and part.size < origin.size:
        raise TransferError(
            f'the connection broke off after {part.size} of {origin.size} bytes', retry=True
        )
    return origin, start > 0


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, without carrying the token to another host or leaving encryption."""

    def __init__(self, settings: DownloadSettings) -> None:
        self.settings = settings
        self.linked = Message()  # what the hub says about the file before it sends us elsewhere

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:  # fmt: skip
        """The next request (see the base class); raises TransferError where it may not go."""
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in ('http', 'https') or (old, new) == ('https', 'http'):
            raise TransferError(f'refused to follow a redirect to {newurl}')
        self.linked = headers if 'X-Linked-Etag' in headers else self.linked
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None:
            _authorise(request, self.settings)
        return request


def _request(
    url: str, start: int, known: Origin | None, settings: DownloadSettings
) -> urllib.request.Request:
    headers = {'User-Agent': f'bbox-mask-pose/{__version__}'}
    if start and known:
        headers['Range'] = f'bytes={start}-'
        if known.validator:
            headers['If-Range'] = known.validator
    request = urllib.request.Request(url, headers=headers)
    _authorise(request, settings)
    return request


def _authorise(request: urllib.request.Request, settings: DownloadSettings) -> None:
    token = settings.token_for(request.full_url)
    if token:
        # Of the two kinds of headers, this one is not copied to the target of a redirect.
        request.add_unredirected_header('Authorization', f'Bearer {token}')


def _open(
    request: urllib.request.Request,
    redirects: Redirects,
    settings: DownloadSettings,
    part: PartFile,
) -> Any:
    """The response, or the error as a sentence and whether to try again."""
    try:
        return urllib.request.build_opener(redirects).open(request, timeout=settings.timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.discard()  # longer than the file: not a part of it
        raise _http_error(error) from error
    except urllib.error.URLError as error:
        reason = error.reason
        if isinstance(reason, (ConnectionResetError, BrokenPipeError)):
            raise TransferError(f'the connection broke off ({reason})', retry=True) from error
        if isinstance(reason, ssl.SSLCertVerificationError):
            text = f'the certificate of the server is not valid ({reason.verify_message})'
        elif isinstance(reason, TimeoutError):
            text = f'no connection within {settings.timeout_s:g} s'
        else:
            text = f'no connection ({reason})'
        raise TransferError(text, unreachable=True) from error
    except TimeoutError as error:
        raise _stalled(settings) from error
    except (OSError, http.client.HTTPException) as error:
        raise TransferError(f'no proper answer ({_words(error)})', retry=True) from error


def _http_error(error: urllib.error.HTTPError) -> TransferError:
    text = f'HTTP {error.code} {error.reason}'.strip()
    if error.code in (401, 403):
        text += ' (a file that needs a login? set HF_TOKEN)'
    retry = error.code in (408, 416, 425, 429) or error.code >= 500
    after = error.headers.get('Retry-After', '') if error.headers else ''
    wait = min(float(after), MAX_WAIT_S) if after.isdecimal() else None
    return TransferError(text, retry=retry, wait_s=wait)


def _origin(url: str, response: Any, redirects: Redirects) -> Origin:
    headers = response.headers
    linked = headers.get('X-Linked-Etag') or redirects.linked.get('X-Linked-Etag') or ''
    match = re.fullmatch(r'"?([0-9a-f]{64})"?', linked)
    if response.status == http.client.PARTIAL_CONTENT:
        size = headers.get('Content-Range', '').rpartition('/')[2]
    else:
        size = headers.get('Content-Length', '')
    return Origin(
        url=url,
        etag=headers.get('ETag', ''),
        modified=headers.get('Last-Modified', ''),
        size=int(size) if size.isdecimal() else None,
        sha256=match.group(1) if match else '',
    )


def _check_range(
    response: Any, start: int, known: Origin | None, origin: Origin, part: PartFile
) -> None:
    """The answer must go on where the part ends, in the same file."""
    came = response.headers.get('Content-Range', '')
    if known is None or not came.startswith(f'bytes {start}-') or not known.same_file(origin):
        part.discard()
        raise TransferError('the file has changed on the server; it starts anew', retry=True)


def _check_space(part: PartFile, origin: Origin, start: int) -> None:
    free = shutil.disk_usage(part.path.parent).free
    if origin.size is not None and origin.size - start > free:
        raise _disk_full(part, f'{(origin.size - start) / 1e6:.0f} MB more are needed')


def _copy(response: Any, part: PartFile, settings: DownloadSettings, advance: Advance) -> None:
    with part.path.open('ab') as file:
        while chunk := _read(response, settings):
            try:
                file.write(chunk)
                file.flush()  # so that a killed process loses nothing
            except OSError as error:
                if error.errno in _DISK_FULL:
                    raise _disk_full(part, str(error.strerror)) from error
                raise
            advance(len(chunk))


def _read(response: Any, settings: DownloadSettings) -> bytes:
    """What has arrived, at least a byte; nothing at the end."""
    try:
        data: bytes = response.read1(CHUNK)
    except TimeoutError as error:
        raise _stalled(settings) from error
    except (OSError, http.client.HTTPException) as error:
        raise TransferError(f'the connection broke off ({_words(error)})', retry=True) from error
    return data


def _stalled(settings: DownloadSettings) -> TransferError:
    return TransferError(f'no byte for {settings.timeout_s:g} s', retry=True)


def _disk_full(part: PartFile, detail: str) -> DiskFullError:
    return DiskFullError(
        f'no space left for {part.target} ({detail}); free some, or choose another folder with '
        '--dir or BMP_CHECKPOINTS; what has arrived is kept'
    )


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
