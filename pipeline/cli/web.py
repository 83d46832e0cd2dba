"""Try the pipeline in the browser: images, short videos, the webcam.

The page is served on this computer alone (127.0.0.1) and loads nothing from elsewhere. It needs
the extra `web`. Everything on the page and its API: docs/user_guide/demo.md.

Examples:
    bmp demo
    bmp demo --port 8000 --device cuda
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .options import handle_errors, make_parser, parse_positive

PROG = 'bmp demo'


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = make_parser(PROG, __doc__)
    add = parser.add_argument
    add('--port', type=parse_positive, metavar='N', help='default: the first free one from 7860')
    add('--device', help='auto, cpu, cuda, cuda:1, ... (default: as the config says)')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the page until Ctrl-C."""
    args = build_parser().parse_args(argv)
    with handle_errors(PROG), tempfile.TemporaryDirectory() as folder:
        from ..web.page import Page
        from ..web.session import list_pipelines
        from .demo import demo_inputs

        page = Page(list_pipelines(), args.device, demo_inputs(Path(folder)))
        port = args.port or find_port()
        print(f'http://127.0.0.1:{port}  (Ctrl-C ends it)', flush=True)
        page.launch(port)
    return 0


def find_port(first: int = 7860) -> int:
    """Find a free port of this computer."""
    import socket

    for port in range(first, first + 100):
        with socket.socket() as probe:
            if probe.connect_ex(('127.0.0.1', port)):
                return port
    raise ValueError(f'no free port from {first} to {first + 99}; name one: --port N')
