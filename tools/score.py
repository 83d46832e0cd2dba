"""Score a COCO results file: AP and AR of boxes, masks and keypoints.

All photos of the annotation file count, also those without results.

Examples:
    python tools/score.py outputs/val/results.json person_keypoints_val2017.json
    python tools/score.py results.json annotations.json --tasks bbox segm --json scores.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not


def build_parser() -> argparse.ArgumentParser:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('results', type=Path, metavar='RESULTS.json', help='COCO results')
    parser.add_argument(
        'annotations', type=Path, metavar='ANNOTATIONS.json', help='COCO annotations of people'
    )
    parser.add_argument(
        '--tasks',
        nargs='+',
        choices=('bbox', 'segm', 'keypoints'),
        default=['bbox', 'segm', 'keypoints'],
        help='what to score (default: all three)',
    )
    parser.add_argument('--json', type=Path, metavar='OUT', help='also write the metrics here')
    parser.add_argument(
        '--json-ids',
        action='store_true',
        help='list the ids of the scored photos, and of those without results, in --json too',
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Score, print the table, write the JSON; 1 and a message when the files do not fit."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.json_ids and args.json is None:
        parser.error('--json-ids goes with --json OUT')
    from rich.console import Console

    from pipeline.evaluation.coco import score_files

    try:
        metrics = score_files(args.results, args.annotations, args.tasks)
        if args.json is not None:
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(metrics.to_json(with_ids=args.json_ids))
    except (OSError, ValueError) as error:
        print(f'score.py: {error}', file=sys.stderr)
        return 1
    Console().print(metrics.table())
    return 0


if __name__ == '__main__':
    sys.exit(main())
