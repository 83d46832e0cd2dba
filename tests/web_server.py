"""A local web server with configurable failures."""

from __future__ import annotations

import io
import threading
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

Answer = Callable[['Handler'], None]


def fake_weights(size: int = 200_000, seed: int = 0) -> bytes:
    """Make bytes in the zip format of `torch.save`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        archive.writestr('archive/data.pkl', np.random.default_rng(seed).bytes(size))
    return buffer.getvalue()


@dataclass(frozen=True)
class Seen:
    """A received request."""

    path: str
    range: str | None
    headers: dict[str, str]


@dataclass
class Site:
    """Answers by path, in order; the last one repeats."""

    url: str = ''
    answers: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    seen: list[Seen] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def paths(self) -> list[str]:
        """Requested paths in order."""
        return [seen.path for seen in self.seen]

    def ranges(self) -> list[str | None]:
        """Requested ranges in order."""
        return [seen.range for seen in self.seen]


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        headers = {k.lower(): v for k, v in self.headers.items()}
        self.site.seen.append(Seen(self.path, headers.get('range'), headers))
        answers = self.site.answers[self.path] or [status(404)]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        answer(self)

    def do_HEAD(self) -> None:
        (self.site.answers[self.path] or [status(404)])[0](self)  # also the answer of the next GET

    def start(self, code: int, length: int | None, **headers: str) -> None:
        self.send_response(code)
        if length is not None:
            self.send_header('Content-Length', str(length))
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def serve(
    content: bytes,
    *,
    ranges: bool = True,
    etag: str = '"1"',
    stop_after: int | None = None,
    stall: bool = False,
    length: int | None = None,
    step: int | None = None,
    **headers: str,
) -> Answer:
    """Serve a file.

    Args:
        content: Bytes of the file.
        ranges: Whether range requests are supported.
        etag: Version of the file; '' sends none.
        stop_after: Number of bytes after which the connection ends.
        stall: Keep the connection open instead, without sending more bytes.
        length: Content-Length; None: the correct one.
        step: Bytes per chunk, with a pause between chunks.
        headers: Additional headers, with ``_`` for ``-``.
    """

    def answer(handler: Handler) -> None:
        same = handler.headers.get('If-Range', etag) == etag
        start = _start(handler) if ranges and same else 0
        body = content[start:]
        more = dict(headers) | ({'ETag': etag} if etag else {})
        if start:
            more['Content-Range'] = f'bytes {start}-{len(content) - 1}/{len(content)}'
        if start >= len(content):
            handler.start(416, 0)
            return
        handler.start(206 if start else 200, len(body) if length is None else length, **more)
        if handler.command == 'HEAD':
            return
        body = body[:stop_after]
        for i in range(0, len(body), step or len(body)):
            handler.wfile.write(body[i : i + (step or len(body))])
            if step:
                time.sleep(0.01)
        if stall:
            handler.site.closing.wait(60)

    return answer


def _start(handler: Handler) -> int:
    return int(handler.headers.get('Range', 'bytes=0-')[len('bytes=') : -1])


def status(code: int, **headers: str) -> Answer:
    """Answer with an error or a redirect (``Location=...``)."""

    def answer(handler: Handler) -> None:
        handler.start(code, 0, **headers)

    return answer


def chunked(content: bytes) -> Answer:
    """Serve a file without a Content-Length."""

    def answer(handler: Handler) -> None:
        handler.protocol_version = 'HTTP/1.1'
        handler.start(200, None, Transfer_Encoding='chunked', Connection='close')
        if handler.command == 'HEAD':
            return
        handler.wfile.write(b'%x\r\n' % len(content) + content + b'\r\n')
        handler.wfile.write(b'0\r\n\r\n')
        handler.close_connection = True

    return answer


@contextmanager
def running_site() -> Iterator[Site]:
    """Run a local server on a free port."""
    site = Site()
    handler = type('SiteHandler', (Handler,), {'site': site})
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hang up
    site.url = f'http://127.0.0.1:{server.server_port}'
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield site
    finally:
        site.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
