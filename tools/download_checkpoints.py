"""Download the weights that pipelines use, or see which are here.

Files are resumed where they stopped, checked, and shared by parallel processes. Everything about
folders, mirrors, offline machines and licences: docs/weights.md.

Examples:
    python tools/download_checkpoints.py --list
    python tools/download_checkpoints.py --pipeline bmp_v2
    python tools/download_checkpoints.py PMPose-b-1.0.0 sam2.1_hiera_large
    python tools/download_checkpoints.py --verify

Exit codes: 0 all well, 1 a file failed or is wrong, 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not


def build_parser() -> argparse.ArgumentParser:
    """The command line of this tool."""
    parser = argparse.ArgumentParser(
        'download_checkpoints.py',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('names', nargs='*', metavar='NAME', help='names in the manifest')
    add(
        '--pipeline',
        action='append',
        default=[],
        metavar='CONFIG',
        help='all weights that this pipeline uses: name in configs/ or file; may be repeated',
    )
    add('--list', action='store_true', help='show what exists and what is here')
    add('--verify', action='store_true', help='compare the checksums of what is here')
    add('--force', action='store_true', help='download again, and replace what is here')
    add(
        '--dir',
        type=Path,
        help='folder of the files (default: BMP_CHECKPOINTS, else checkpoints/downloads)',
    )
    add('--mirror', metavar='URL', help='try URL/FILE first (default: BMP_MIRROR)')
    add('--timeout', type=float, metavar='S', help='seconds without a byte (default: 30)')
    add('--retries', type=int, metavar='N', help='further tries of each address (default: 4)')
    add('--offline', action='store_true', help='never touch the network (default: BMP_OFFLINE)')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    from rich.console import Console

    from pipeline.config import ConfigError
    from pipeline.downloads.command import Request, UsageError, run
    from pipeline.downloads.progress import make_display
    from pipeline.downloads.settings import settings_from
    from pipeline.weights.checkpoints import CheckpointError, download_folder

    given = {
        'offline': args.offline or None,
        'mirror': args.mirror,
        'timeout_s': args.timeout,
        'retries': args.retries,
        'force': args.force or None,
    }
    request = Request(tuple(args.names), tuple(args.pipeline), args.list, args.verify)
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a pipe has no width; 80 would break the table
    try:
        settings = replace(
            settings_from(os.environ, args.dir or download_folder()),
            **{key: value for key, value in given.items() if value is not None},
        )
        return run(request, settings, make_display(), console)
    except (UsageError, ConfigError) as error:
        parser.error(str(error))
    except CheckpointError as error:
        print(f'{parser.prog}: error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('interrupted; what has arrived is kept, the same command goes on', file=sys.stderr)
        return 130


if __name__ == '__main__':
    sys.exit(main())
