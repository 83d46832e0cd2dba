"""Options, exit codes and messages that the commands share."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..io.coco import PERSON_OPTION
from ..io.progress import Reporter
from ..values import in_line, shorten
from ..visualization.style import LABELS, LAYERS, DrawingStyle, Labels

# Option -> setting of the pipeline config.
SETTINGS = {
    'max_rounds': 'loop.max_rounds',
    'device': 'runtime.device',
    'precision': 'runtime.precision',
    'refine': 'loop.refine',
    'slices': 'detector.slices.grid',
    'min_score': 'loop.min_score',
}

MAX_LINE = 2000  # characters of a line of an error


def make_parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """Make a parser that shows the docstring of a command in its help, unwrapped."""
    started_as = get_launcher(prog)
    return argparse.ArgumentParser(
        started_as,
        description=(description or '').replace(f'    {prog}', f'    {started_as}'),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def get_launcher(prog: str) -> str:
    """Return how a command was started: ``python tools/run_bmp.py``, or ``prog``: ``bmp run``."""
    script = Path(sys.argv[0])
    return f'python {script}' if script.parent.name == 'tools' else prog


def add_runtime_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``, ``--precision``, ``--fast`` and ``--cfg-options``."""
    add, as_in_config = parser.add_argument, argparse.SUPPRESS
    add('--device', default=as_in_config, help='auto, cpu, cuda, cuda:1, ... (default: config)')
    add('--precision', choices=('fp32', 'bf16', 'fp16'), default=as_in_config,
        help='default: config')  # fmt: skip
    add('--fast', action='store_true',
        help='half precision if the device has it, no flip test; less accurate')  # fmt: skip
    add_cfg_options(parser)


def add_loop_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--max-rounds``, ``--refine`` and ``--slices``."""
    add, as_in_config = parser.add_argument, argparse.SUPPRESS
    add('--max-rounds', type=parse_rounds, default=as_in_config, metavar='N|none',
        help='none: repeat until no new person is found (default: config)')  # fmt: skip
    add('--refine', action=argparse.BooleanOptionalAction, default=as_in_config,
        help='repeat pose and mask with the final masks (default: config)')  # fmt: skip
    add('--slices', type=parse_grid, default=as_in_config, metavar='off|auto|2x2|3x2',
        help='also detect in slices of the image, columns x rows; auto: by its size '
             '(default: config)')  # fmt: skip


def add_drawing_options(parser: argparse.ArgumentParser) -> None:
    """Add what overlays show; `build_style` reads it."""
    group = parser.add_argument_group('drawings')
    add = group.add_argument
    add('--layers', nargs='+', choices=LAYERS, default=LAYERS,
        help=f'what overlays show (default: {" ".join(LAYERS)})')  # fmt: skip
    add('--labels', choices=LABELS, help='text in overlays (default: score, in videos id)')
    add('--line-width', type=float, metavar='PX', help='of limbs (default: by size of the person)')
    add('--mask-alpha', type=float, default=DrawingStyle.alpha, metavar='A',
        help='opacity of masks in [0, 1] (default: %(default)s)')  # fmt: skip
    add('--left-right', action='store_true', help='left limbs green, right limbs orange')
    add_privacy_options(group)


def add_privacy_options(parser: argparse._ActionsContainer) -> None:
    """Add what hides people in images that are shown to others."""
    add = parser.add_mutually_exclusive_group().add_argument
    for name, value, text in (
        ('--blur-faces', 'faces', 'hide the faces of the people found'),
        ('--blur-people', 'people', 'hide the people found'),
        ('--silhouettes', 'silhouettes', 'paint the people found in one colour each'),
    ):
        add(name, dest='hide', action='store_const', const=value, default='none', help=text)


def build_style(args: argparse.Namespace, labels: Labels) -> DrawingStyle:
    """Build the style of `add_drawing_options`; ``labels`` is the default of ``--labels``.

    Raises:
        ValueError: A value is out of range.
    """
    return DrawingStyle(
        tuple(args.layers), args.labels or labels, args.mask_alpha,
        line_width=args.line_width, left_right=args.left_right, hide=args.hide,
    )  # fmt: skip


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``; `parse_cfg_options` parses its values."""
    parser.add_argument('--cfg-options', nargs='+', default=[], type=_key_value,
                        metavar='KEY=VALUE', help='override settings of the config')  # fmt: skip


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """Add ``--data-root``."""
    parser.add_argument('--data-root', type=Path, metavar='DIR',
                        help='folder of the data sets (default: $BMP_DATA)')  # fmt: skip


def add_person_category(parser: argparse.ArgumentParser) -> None:
    """Add ``--person-category``."""
    parser.add_argument(PERSON_OPTION, metavar='NAME|ID',
                        help='category of people in your COCO files (default: person, else '
                        'pedestrian, human or people)')  # fmt: skip


def get_overrides(args: argparse.Namespace) -> dict[str, Any]:
    """Return the overrides of the config; named options override ``--cfg-options``.

    Those of ``--fast`` come first, so that every other option overrides them.
    """
    named = {key: vars(args)[name] for name, key in SETTINGS.items() if name in vars(args)}
    options = parse_cfg_options(args.cfg_options) | named
    if not vars(args).get('fast'):
        return options
    from ..build import pick_device
    from ..runtime.precision import fastest_precision

    device = pick_device(str(options.get('runtime.device', 'auto')))
    return {'runtime.precision': fastest_precision(device), 'pose.flip_test': False} | options


def parse_cfg_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse the values of ``--cfg-options`` by the rules of MMEngine.

    Raises:
        ValueError: A value cannot be parsed.
    """
    if not pairs:
        return {}
    from mmengine.config import DictAction  # slow to import

    values: dict[str, Any] = {}
    for pair in pairs:
        key, _, text = pair.partition('=')
        try:
            values[key] = DictAction._parse_iterable(text)
        except (AssertionError, ValueError, RecursionError) as error:
            raise ValueError(
                f'--cfg-options {shorten(pair)}: {in_line(error) or "wrong"}'
            ) from error
    return values


def parse_positive(text: str) -> int:
    """Parse an integer >= 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not an integer >= 1')
    return int(text)


def parse_rounds(text: str) -> int | None:
    """Parse an integer >= 1 or ``none``, for argparse."""
    return None if text.lower() == 'none' else parse_positive(text)


def parse_grid(text: str) -> str | None:
    """Parse the grid of slices, such as ``2x2``, ``auto`` or ``off``, for argparse."""
    return None if text.lower() == 'off' else text


def parse_score(text: str) -> float | None:
    """Parse a number or ``none``, for argparse; the config checks the range."""
    try:
        return None if text.lower() == 'none' else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number in [0, 1] or none') from None


def make_reporter() -> Reporter:
    """Create a bar on stderr if it is a terminal, else log lines."""
    from rich.console import Console

    console = Console(stderr=True, markup=False, emoji=False)
    if not console.is_terminal:
        return Reporter()
    from ..io.progress_bar import TerminalReporter

    return TerminalReporter(console)


def get_command(prog: str, argv: Sequence[str] | None) -> tuple[str, ...]:
    """Return the words of the command, for ``run.json``."""
    return (*get_launcher(prog).split(), *(sys.argv[1:] if argv is None else argv))


@contextmanager
def handle_errors(prog: str, failed: int = 1) -> Iterator[None]:
    """Log to stderr inside the block; print errors and exit.

    Args:
        prog: Name of the command, for the message.
        failed: Exit code for weights that cannot be read and files that cannot be written.

    Raises:
        SystemExit: With 2 for wrong arguments, invalid and missing files, ``failed``, or 130 after
            Ctrl-C.
    """
    from ..io.run_options import OutputError
    from ..openmmlab import quiet_libraries
    from ..weights.manifest import CheckpointError

    logging.basicConfig(format='%(message)s')
    logging.getLogger('pipeline').setLevel(logging.INFO)
    quiet_libraries()
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, OSError, CheckpointError, OutputError) as error:
        message = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            message = f'{error.filename}: {error.strerror}; check the path'
        # Values of files can have any length.
        lines = (x if len(x) < MAX_LINE else f'{x[:MAX_LINE]}...' for x in message.split('\n'))
        print(f'{get_launcher(prog)}: error:', '\n'.join(lines), file=sys.stderr)
        wrong = isinstance(error, (ValueError, FileNotFoundError))
        sys.exit(2 if wrong else failed)


def _key_value(text: str) -> str:
    key, separator, _ = text.partition('=')
    if not key or not separator:
        raise argparse.ArgumentTypeError(
            f'got {shorten(text)}; write KEY=VALUE, and put inputs before options'
        )
    return text
