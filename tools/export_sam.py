"""Turns a training checkpoint of `PromptedSam` into weights for the sam2 package and pipelines.

Example:
    python tools/export_sam.py work_dirs/RUN/best_pose2seg_iou_3_epoch_15.pth sam-pose2seg.pt
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
    parser.add_argument('checkpoint', type=Path, help='file that training has written')
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument('--overwrite', action='store_true', help='replace OUT if it exists')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Export; 2 after a message if that cannot be done."""
    args = build_parser().parse_args(argv)
    if args.out.exists() and not args.overwrite:
        return _fail(f'{args.out} exists; give --overwrite to replace it')
    from pipeline.training.pose2seg.export import write_sam_weights
    from pipeline.weights.checkpoints import CheckpointError, load_state

    try:
        state, _ = load_state(args.checkpoint)
        write_sam_weights(state, args.out)
    except (CheckpointError, ValueError, OSError) as error:
        return _fail(f'{args.checkpoint}: {error}')
    print(f'{args.out}: {args.out.stat().st_size / 2**20:.1f} MiB')
    return 0


def _fail(message: str) -> int:
    print(f'export_sam.py: error: {message}', file=sys.stderr)
    return 2


if __name__ == '__main__':
    sys.exit(main())
