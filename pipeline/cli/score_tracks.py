"""Score tracks: HOTA, MOTA, IDF1, identity switches and more, by boxes, masks or poses.

RESULTS and GROUND_TRUTH are files of one video: MOTChallenge text for boxes, MOTS text for masks,
PoseTrack18 JSON for poses. Or they are folders: RESULTS has a file NAME.txt or NAME.json per
sequence, GROUND_TRUTH has NAME/gt/gt.txt or the same file names. Definitions:
docs/user_guide/tracking.md.

Examples:
    bmp score-tracks results.txt MOT17-02/gt/gt.txt
    bmp score-tracks results/ MOT17/train/ --json scores.json
    bmp score-tracks results/ MOTS20/train/ --task masks
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .options import handle_errors, make_parser

if TYPE_CHECKING:
    from ..evaluation.track_files import TrackTask
    from ..evaluation.track_metrics import TrackScores

PROG = 'bmp score-tracks'
COMBINED = 'combined'
# Field of `TrackScores` -> column; fractions are printed in percent.
COLUMNS = {
    'hota': 'HOTA', 'deta': 'DetA', 'assa': 'AssA', 'mota': 'MOTA', 'idf1': 'IDF1',
    'switches': 'IDSW', 'fragments': 'Frag', 'false_positives': 'FP', 'misses': 'FN',
}  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = make_parser(PROG, __doc__)
    add = parser.add_argument
    add('results', type=Path, metavar='RESULTS', help='file or folder of results')
    add('ground_truth', type=Path, metavar='GROUND_TRUTH', help='file or folder')
    add('--task', choices=('boxes', 'masks', 'poses'), default='boxes',
        help='similarity: IoU of boxes or masks, OKS of poses (default: %(default)s)')  # fmt: skip
    add('--threshold', type=float, default=0.5,
        help='similarity of a match, for all figures but HOTA, DetA and AssA (default: 0.5)'
        )  # fmt: skip
    add('--json', type=Path, metavar='OUT', help='also write the figures here')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Score, print the table and write the file."""
    args = build_parser().parse_args(argv)
    with handle_errors(PROG):
        from ..io.atomic import write_json

        scores = score_files(args.results, args.ground_truth, args.task, args.threshold)
        print(format_table(scores))
        if args.json is not None:
            figures = {name: asdict(value) for name, value in scores.items()}
            write_json(args.json, {'task': args.task, 'threshold': args.threshold, **figures})
    return 0


def score_files(
    results: Path, ground_truth: Path, task: TrackTask = 'boxes', threshold: float = 0.5
) -> dict[str, TrackScores]:
    """Score each sequence, and all of them together if there are several.

    Raises:
        ValueError: Files are missing or invalid, or the package `trackers` is absent.
    """
    from ..evaluation.track_files import find_sequences, join_sequences, read_sequence
    from ..evaluation.track_metrics import score_tracks

    if not 0 < threshold <= 1:
        raise ValueError(f'--threshold {threshold} is out of range; choose more than 0, up to 1')
    frames = {
        files.name: read_sequence(files, task)
        for files in find_sequences(results, ground_truth, task)
    }
    if len(frames) > 1:
        frames[COMBINED] = join_sequences(list(frames.values()))
    try:
        return {name: score_tracks(part, threshold) for name, part in frames.items()}
    except ImportError as error:
        raise ValueError(str(error)) from error


def format_table(scores: Mapping[str, TrackScores]) -> str:
    """One line per sequence, fractions in percent."""
    width = max(len(name) for name in ('sequence', *scores))
    lines = [f'{"sequence":<{width}}' + ''.join(f'{c:>7}' for c in COLUMNS.values())]
    for name, value in scores.items():
        cells = [getattr(value, key) for key in COLUMNS]
        texts = [f'{100 * v:7.1f}' if isinstance(v, float) else f'{v:7d}' for v in cells]
        lines.append(f'{name:<{width}}' + ''.join(texts))
    return '\n'.join(lines)
