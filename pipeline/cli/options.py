"""What the commands share: options, exit codes, messages."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Option -> the setting of the pipeline config that it changes.
SETTINGS = {
    'max_rounds': 'loop.max_rounds',
    'device': 'runtime.device',
    'precision': 'runtime.precision',
    'refine': 'loop.refine',
}


def make_parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """A parser whose help shows the docstring of a command as it is written."""
    return argparse.ArgumentParser(
        prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_runtime_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for device and precision, and ``--cfg-options``."""
    add, as_in_config = parser.add_argument, argparse.SUPPRESS
    add('--device', default=as_in_config, help='auto, cpu, cuda, cuda:1, ... (default: config)')
    add('--precision', choices=('fp32', 'bf16', 'fp16'), default=as_in_config,
        help='default: config')  # fmt: skip
    add_cfg_options(parser)


def add_loop_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for rounds and refinement."""
    add, as_in_config = parser.add_argument, argparse.SUPPRESS
    add('--max-rounds', type=rounds, default=as_in_config, metavar='N|none',
        help='none: repeat until no new person is found (default: config)')  # fmt: skip
    add('--refine', action=argparse.BooleanOptionalAction, default=as_in_config,
        help='pose and mask once more with the final masks (default: config)')  # fmt: skip


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``; `parse_cfg_options` reads its values."""
    parser.add_argument('--cfg-options', nargs='+', default=[], type=_key_value,
                        metavar='KEY=VALUE', help='override settings of the config')  # fmt: skip


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the folder of the data sets."""
    parser.add_argument('--data-root', type=Path, metavar='DIR',
                        help='folder of the data sets (default: $BMP_DATA)')  # fmt: skip


def config_options(args: argparse.Namespace) -> dict[str, Any]:
    """Overrides of the config; the named options win over ``--cfg-options``."""
    named = {key: vars(args)[name] for name, key in SETTINGS.items() if name in vars(args)}
    return parse_cfg_options(args.cfg_options) | named


def parse_cfg_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Values of ``--cfg-options`` by key, with the meaning that MMEngine gives them."""
    if not pairs:
        return {}
    from mmengine.config import DictAction  # slow to import

    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    values: dict[str, Any] = parser.parse_args(['--cfg-options', *pairs]).cfg_options
    return values


def positive(text: str) -> int:
    """An integer from 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is no number from 1')
    return int(text)


def rounds(text: str) -> int | None:
    """An integer from 1, or None for ``none``, for argparse."""
    if text.lower() == 'none':
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is neither a number from 1 nor none')
    return int(text)


def command_line(prog: str, argv: Sequence[str] | None) -> tuple[str, ...]:
    """The words of the command, for the record of a run."""
    return (prog, *(sys.argv[1:] if argv is None else argv))


@contextmanager
def exit_codes(prog: str, wrong_input: int = 2, failed: int = 1) -> Iterator[None]:
    """Log to stderr inside the block, and turn errors into a message and an exit code.

    Args:
        prog: name of the command, for the message.
        wrong_input: exit code for arguments and files that do not fit (`ValueError`).
        failed: exit code for files and weights that cannot be read or written.

    Raises:
        SystemExit: with one of these codes, or 130 after Ctrl-C.
    """
    from ..io.run_options import OutputError
    from ..openmmlab import quiet_libraries
    from ..weights.checkpoints import CheckpointError

    logging.basicConfig(format='%(message)s')
    logging.getLogger('pipeline').setLevel(logging.INFO)
    quiet_libraries()
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, OSError, CheckpointError, OutputError) as error:
        print(f'{prog}: error: {error}', file=sys.stderr)
        sys.exit(wrong_input if isinstance(error, ValueError) else failed)


def _key_value(text: str) -> str:
    key, separator, _ = text.partition('=')
    if not key or not separator:
        raise argparse.ArgumentTypeError(
            f'got {text!r}; write KEY=VALUE, and put inputs before the options'
        )
    return text
