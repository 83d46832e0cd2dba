"""A server with the protocol of S3 that fails now and then."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

RATES = {'500': 0.08, 'slow': 0.06, 'cut': 0.06, 'silently cut': 0.06}
SLOW_S = 0.3
BUCKET = 's3://bucket'


class FaultyApp:
    """Injects errors, pauses and shortened bodies into the answers of an application.

    Attributes:
        active: faults are injected.
        faults: number of each kind so far.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app, self._rng = app, random.Random(0)
        self.active, self.faults = False, Counter[str]()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        fault = self._choose(environ)
        if fault == '500':
            start_response('500 Internal Server Error', [('Content-Length', '0')])
            return [b'']
        if fault == 'slow':
            time.sleep(SLOW_S)
        answer: list[Any] = []
        body = b''.join(self._app(environ, lambda *parts: answer.extend(parts)))
        status, headers = answer[:2]
        if 'cut' in fault:
            whole, body = len(body), body[: len(body) // 2]
            length = whole if fault == 'cut' else len(body)
            headers = [h for h in headers if h[0].lower() != 'content-length']
            headers.append(('Content-Length', str(length)))
        start_response(status, headers)
        return [body]

    def _choose(self, environ: dict[str, Any]) -> str:
        if not self.active:
            return ''
        (fault,) = self._rng.choices(['', *RATES], [1 - sum(RATES.values()), *RATES.values()])
        is_file = environ['REQUEST_METHOD'] == 'GET' and not environ['QUERY_STRING']
        is_image = environ['PATH_INFO'].endswith('.png')
        if 'cut' in fault and not (is_image if 'silently' in fault else is_file):
            return ''
        if fault:
            self.faults[fault] += 1
        return fault


@contextmanager
def serve_s3() -> Iterator[FaultyApp]:
    """Serve an empty `BUCKET` to this process and those it starts."""
    app = FaultyApp(DomainDispatcherApplication(create_backend_app))
    server = make_server('127.0.0.1', 0, app, threaded=True)  # type: ignore[arg-type]
    logging.getLogger('werkzeug').setLevel(logging.ERROR)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('AWS_ENDPOINT_URL', f'http://127.0.0.1:{server.port}')
        patch.setenv('AWS_ACCESS_KEY_ID', 'test')
        patch.setenv('AWS_SECRET_ACCESS_KEY', 'test')
        patch.setenv('AWS_DEFAULT_REGION', 'us-east-1')
        for name in ('NO_PROXY', 'no_proxy'):
            patch.setenv(name, '127.0.0.1')
        import boto3

        boto3.client('s3').create_bucket(Bucket='bucket')
        yield app
    server.shutdown()
    thread.join()
