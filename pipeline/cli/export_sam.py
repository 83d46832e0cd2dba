"""Convert a training checkpoint of `PromptedSam` to weights for the sam2 package and pipelines.

Example:
    bmp export-sam work_dirs/RUN/best_pose2seg_iou_3_epoch_15.pth sam-pose2seg.pt
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .options import handle_errors, make_parser

PROG = 'bmp export-sam'


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = make_parser(PROG, __doc__)
    parser.add_argument('checkpoint', type=Path, help='checkpoint of the training')
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument('--overwrite', action='store_true', help='replace OUT if it exists')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Export the weights; exit code 2 after an error."""
    args = build_parser().parse_args(argv)
    with handle_errors(PROG, failed=2):
        if args.out.exists() and not args.overwrite:
            raise ValueError(f'{args.out} exists; use --overwrite to replace it')
        from ..training.pose2seg.export import write_sam_weights
        from ..weights.loading import load_state

        state, _ = load_state(args.checkpoint)
        try:
            write_sam_weights(state, args.out)
        except ValueError as error:
            raise ValueError(f'{args.checkpoint}: {error}') from error
    print(f'{args.out}: {args.out.stat().st_size / 2**20:.1f} MiB')
    return 0
