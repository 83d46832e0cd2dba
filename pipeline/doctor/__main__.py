"""Command line of the doctor."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from pipeline.doctor.diagnose import diagnose
from pipeline.doctor.result import CheckResult


def render(results: Sequence[CheckResult]) -> str:
    """Return the report: a line per check, the cure below each finding, a summary."""
    width = max(len(result.name) for result in results)
    lines = []
    for result in results:
        lines.append(f'{result.status:<4}  {result.name:<{width}}  {result.detail}')
        if result.cure:
            lines.append(f'{"":<{width + 6}}  cure: {result.cure}')
    counts = {
        status: sum(result.status == status for result in results)
        for status in ('OK', 'WARN', 'FAIL')
    }
    lines.append(', '.join(f'{count} {status}' for status, count in counts.items()))
    return '\n'.join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        1 when a check failed, else 0; warnings do not count.
    """
    parser = argparse.ArgumentParser(
        prog='python -m pipeline.doctor',
        description='Find what is wrong with this installation and name the cure.',
    )
    parser.add_argument('--json', action='store_true', help='print a JSON list instead of text')
    options = parser.parse_args(arguments)
    results = diagnose()
    if options.json:
        report = json.dumps([dataclasses.asdict(result) for result in results], indent=2)
    else:
        report = render(results)
    sys.stdout.write(report + '\n')
    return int(any(result.status == 'FAIL' for result in results))


if __name__ == '__main__':
    sys.exit(main())
