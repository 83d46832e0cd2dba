"""Damaged files for every reader: each gives a result, or is refused in one clear line.

python -m tests.fuzz --seed 0 --count 10000
python -m tests.fuzz --minutes 10 --reader checkpoint --reader image
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from itertools import count as count_from
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.children import OUTCOMES, run_cases
from tests.fuzz.readers import Reader, make_readers

FAULTS = OUTCOMES[2:]
HEADER = ('cases', 'results', 'refused', 'tracebacks', 'hangs', 'memory', 'crashes', 'canaries')


def generate(reader: Reader, start: str, count: int) -> list[bytes]:
    """Generate ``count`` cases of the seed ``start``."""
    cases: list[bytes] = []

    @seed(start)
    @settings(max_examples=count, phases=[Phase.generate], database=None, deadline=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(reader.cases)
    def collect(case: bytes) -> None:
        cases.append(case)

    collect()
    return cases


def try_reader(
    name: str, reader: Reader, number: int, count: int, folder: Path, kept: Path
) -> Counter[str]:
    """Run cases of a reader, print and keep those that fail, and count the outcomes."""
    counts: Counter[str] = Counter()
    cases = generate(reader, f'{number} {name}', count)
    outcomes = run_cases(reader.read, cases, folder, reader.suffix)
    for index, (case, outcome) in enumerate(zip(cases, outcomes, strict=True)):
        counts[outcome.kind] += 1
        if outcome.kind in FAULTS:
            path = kept / f'{name.replace(", ", "-")}_{number}_{index}{reader.suffix}'
            path.write_bytes(case)
            print(f'{outcome.kind}: {path}\n{outcome.text}', file=sys.stderr, flush=True)
    return counts


def format_row(name: str, cells: Sequence[object]) -> str:
    """A line of the table."""
    return f'{name:<20}' + ''.join(f'{cell!s:>11}' for cell in cells)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign and print the counts; returns 1 after a fault."""
    parser = argparse.ArgumentParser(
        'python -m tests.fuzz', description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--count', type=int, default=1000, help='cases, over all readers')
    parser.add_argument('--minutes', type=float, help='repeat with further seeds for this time')
    parser.add_argument('--reader', action='append', help='only these; default: all')
    parser.add_argument('--keep', type=Path, default=Path(tempfile.gettempdir()),
                        help='folder of the files that fail (default: %(default)s)')  # fmt: skip
    args = parser.parse_args(argv)
    end = time.monotonic() + 60 * (args.minutes or 0)
    with tempfile.TemporaryDirectory() as folder:
        readers = make_readers(Path(folder))
        if unknown := set(args.reader or ()) - set(readers):
            parser.error(f'no reader {sorted(unknown)}; there are {", ".join(readers)}')
        chosen = {name: readers[name] for name in args.reader or readers}
        totals: dict[str, Counter[str]] = {name: Counter() for name in chosen}
        share = -(-args.count // len(chosen))
        for number in count_from(args.seed):
            for name, reader in chosen.items():
                totals[name] += try_reader(name, reader, number, share, Path(folder), args.keep)
            if time.monotonic() >= end:
                break
    print(format_row('reader', HEADER))
    for name, counts in (*totals.items(), ('all', sum(totals.values(), Counter[str]()))):
        print(format_row(name, [counts.total(), *(counts[kind] for kind in OUTCOMES)]))
    return int(any(counts[kind] for counts in totals.values() for kind in FAULTS))


if __name__ == '__main__':
    sys.exit(main())
