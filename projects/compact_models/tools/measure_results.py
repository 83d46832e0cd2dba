"""Measure the tables of docs/results.md again, by the commands that stand in them.

A row starts with the arguments of tools/test.py in backticks, `--data` being a placeholder in
capitals (DEV, CROWD, ...). Rows whose placeholder is given are run and scored, the others stay.
Boxes, masks and keypoints become AP / AP50 in percent, the last column mean IoU (people).

Examples:
    python projects/compact_models/tools/measure_results.py DEV=person_keypoints.json
    python projects/compact_models/tools/measure_results.py DEV=dev.json --write docs/results.md
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
TASKS = ('bbox', 'segm', 'keypoints')
ROW = re.compile(r'\| `(?P<arguments>[^`]* --data (?P<name>[A-Z]+)[^`]*)`(?P<remark>[^|]*) \|')
NUM_CELLS = 5


def build_parser() -> argparse.ArgumentParser:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('files', nargs='+', type=placeholder, metavar='NAME=FILE', help='annotations of a set')
    add('--page', type=Path, default=ROOT / 'docs' / 'results.md', help='default: %(default)s')
    add('--write', type=Path, metavar='OUT', help='write the page here (default: print the rows)')
    add('--work-dir', type=Path, help='keep runs here, where they resume (default: a new folder)')
    return parser


def placeholder(text: str) -> tuple[str, Path]:
    """NAME=FILE."""
    name, _, path = text.partition('=')
    if not re.fullmatch('[A-Z]+', name) or not Path(path).is_file():
        raise argparse.ArgumentTypeError(f'{text!r} is not NAME=FILE with capitals and a file')
    return name, Path(path).resolve()


def run_test(arguments: Sequence[str], out: Path) -> None:
    """Runs tools/test.py with these arguments, scored, into ``out``.

    Raises:
        RuntimeError: it failed; holds its last words.
    """
    command = [sys.executable, str(ROOT / 'tools' / 'test.py'), *arguments]
    done = subprocess.run(
        [*command, '--score', '--out-dir', str(out)], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f'{shlex.join(command)} failed: {done.stderr.strip()[-500:]}')


def measured(line: str, files: Mapping[str, Path], work_dir: Path) -> str | None:
    """A row of the page with new figures; None if it is no row or not asked for.

    Raises:
        RuntimeError: the command failed; holds its last words.
    """
    row = ROW.match(line)
    if row is None or row['name'] not in files or line.count('|') != NUM_CELLS + 1:
        return None
    arguments = shlex.split(row['arguments'])
    arguments[arguments.index(row['name'])] = str(files[row['name']])
    out = work_dir / re.sub(r'[^\w.=-]+', '_', row['arguments'])
    run_test(arguments, out)
    cells = cells_of(json.loads((out / 'scores.json').read_text()))
    return f'| `{row["arguments"]}`{row["remark"]} | {" | ".join(cells)} |'


def cells_of(scores: Mapping[str, Any]) -> list[str]:
    """The four cells of what tools/test.py --score writes; empty where nothing was scored."""
    pairs = [scores['metrics'].get(task) for task in TASKS]
    cells = [
        '' if m is None or m['ap'] is None else f'{100 * m["ap"]:.1f} / {100 * m["ap50"]:.1f}'
        for m in pairs
    ]
    iou = scores['mask_iou']
    return [*cells, f'{100 * iou["mean"]:.1f} ({iou["people"]})' if iou else '']


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rows that are asked for; 1 and a message when one fails."""
    args = build_parser().parse_args(argv)
    lines = args.page.read_text().splitlines()
    with tempfile.TemporaryDirectory() as temporary:
        for number, line in enumerate(lines):
            try:
                row = measured(line, dict(args.files), args.work_dir or Path(temporary))
            except RuntimeError as error:
                print(f'measure_results.py: {error}', file=sys.stderr)
                return 1
            if row is not None:
                print(row, flush=True)
                lines[number] = row
    if args.write is not None:
        args.write.write_text('\n'.join(lines) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
