r"""Compare two files of weights: which tensors differ, by part of the model, and by how much.

Reads the layouts of OpenMMLab (`state_dict`) and SAM (`model`), and bare state dicts; nothing but
tensors is unpickled. Numbers are compared as float32.

With --expect only tensors under the given prefixes may differ; anything else is an error. The
acceptance test of SAM-pose2seg, whose image encoder and memory were not trained:

    python -m projects.reference_parity.compare_checkpoints \
        sam2.1_hiera_base_plus.pt SAM-pose2seg_hiera_b+.pt \
        --expect sam_prompt_encoder sam_mask_decoder no_mem_embed

Exit codes: 0 equal, or different only as expected; 1 different; 2 wrong arguments or files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.benchmark import markdown_table

if TYPE_CHECKING:
    from torch import Tensor

    State = dict[str, Tensor]

COLUMNS = ('part', 'tensors', 'different', 'largest', 'unmatched')


@dataclass(frozen=True)
class Difference:
    """How the tensors of one part of a model differ between two files.

    Attributes:
        part: the first components of the keys.
        common: number of tensors in both files, of one shape.
        different: keys of those that are not equal.
        largest: largest absolute difference among them; NaN if one of them holds a NaN.
        reshaped: keys in both files, of different shapes.
        only_first: keys that the second file lacks.
        only_second: keys that the first file lacks.
    """

    part: str
    common: int
    different: tuple[str, ...]
    largest: float
    reshaped: tuple[str, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys that differ in any way."""
        return self.different + self.reshaped + self.only_first + self.only_second


def build_parser() -> argparse.ArgumentParser:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        'python -m projects.reference_parity.compare_checkpoints',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('first', type=Path, help='file of weights')
    parser.add_argument('second', type=Path, help='file of weights')
    parser.add_argument(
        '--depth', type=int, default=1, help='components of a key that name a part (default: 1)'
    )
    parser.add_argument(
        '--expect', nargs='+', metavar='PREFIX', help='only keys under these may differ'
    )
    parser.add_argument('--keys', action='store_true', help='list every key that differs')
    return parser


def read_weights(path: Path) -> State:
    """Tensors of a file of either layout, in float32.

    Raises:
        CheckpointError: it holds no weights.
    """
    from pipeline.weights.loading import load_state
    from pipeline.weights.manifest import CheckpointError

    try:
        return load_state(path)[0]
    except CheckpointError as error:
        try:
            return load_state(path, key='model')[0]
        except CheckpointError:
            raise error from None


def compare(first: State, second: State, depth: int = 1) -> list[Difference]:
    """Differences between two state dicts, one row per part, in the order of the keys.

    Args:
        first: tensors by key.
        second: tensors by key.
        depth: number of components of a key that name its part.
    """
    groups: dict[str, list[str]] = {}
    for key in [*first, *(k for k in second if k not in first)]:
        groups.setdefault('.'.join(key.split('.')[:depth]), []).append(key)
    return [_difference(part, keys, first, second) for part, keys in groups.items()]


def _difference(part: str, keys: list[str], first: State, second: State) -> Difference:
    import torch

    both = [k for k in keys if k in first and k in second]
    alike = [k for k in both if first[k].shape == second[k].shape]
    different = [k for k in alike if not torch.equal(first[k], second[k])]
    gaps = [(first[k].double() - second[k].double()).abs().max().item() for k in different]
    return Difference(
        part,
        len(alike),
        tuple(different),
        max(gaps, default=0.0, key=lambda gap: (gap != gap, gap)),  # NaN is the largest
        tuple(k for k in both if k not in alike),
        tuple(k for k in keys if k not in second),
        tuple(k for k in keys if k not in first),
    )


def unexpected_keys(rows: Sequence[Difference], expected: Sequence[str] | None) -> list[str]:
    """Keys that differ and lie under none of the expected prefixes (None: none is expected).

    A prefix covers whole components: `no_mem` does not cover `no_mem_embed`.
    """
    prefixes = tuple(f'{prefix}.' for prefix in expected or ())
    return [key for row in rows for key in row.keys if not f'{key}.'.startswith(prefixes)]


def row_of(row: Difference) -> tuple[str, ...]:
    """A row as text, in the order of `COLUMNS`."""
    unmatched = len(row.keys) - len(row.different)
    largest = f'{row.largest:.3g}' if row.different else ''
    return row.part, str(row.common), str(len(row.different)), largest, str(unmatched)


def listing_of(row: Difference) -> list[str]:
    """A line per key that differs, and how."""
    kinds = {
        'different': row.different,
        'other shape': row.reshaped,
        'only in the first': row.only_first,
        'only in the second': row.only_second,
    }
    return [f'{key}: {kind}' for kind, keys in kinds.items() for key in keys]


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, print the table; the exit code says whether the files differ as expected."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.depth < 1:
        parser.error(f'--depth must be >= 1, got {args.depth}')
    from pipeline.weights.manifest import CheckpointError

    try:
        first, second = read_weights(args.first), read_weights(args.second)
    except (OSError, CheckpointError) as error:
        print(f'compare_checkpoints: error: {error}', file=sys.stderr)
        return 2
    rows = compare(first, second, args.depth)
    print(markdown_table(COLUMNS, list(map(row_of, rows))))
    if args.keys:
        print('\n'.join(line for row in rows for line in listing_of(row)))
    surprises = unexpected_keys(rows, args.expect)
    if surprises:
        shown = ', '.join(surprises[:3]) + (' ...' if surprises[3:] else '')
        wanted = f' outside {", ".join(args.expect)}' if args.expect else ''
        print(f'{len(surprises)} tensors differ{wanted}: {shown}')
        return 1
    print('the files differ only where expected' if args.expect else 'the files are equal')
    return 0


if __name__ == '__main__':
    sys.exit(main())
