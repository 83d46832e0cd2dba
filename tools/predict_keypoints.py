"""Adds predicted keypoints and their visibility to people of a COCO file who have none.

The pose model of a pipeline config looks into the annotated boxes, with the annotated masks if it
takes masks. People with keypoints keep theirs. A stopped run goes on with the same command plus
--resume; a broken photo is listed and the rest goes on.

Example (all in one line):
    python tools/predict_keypoints.py data/cihp/annotations/cihp_train.json
        data/cihp/annotations/cihp_train_keypoints.json --images data/cihp/Training/Images
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
    parser.add_argument('annotations', type=Path, help='COCO file with boxes')
    parser.add_argument('out', type=Path, help='COCO file to write')
    parser.add_argument('--images', type=Path, required=True, help='folder of the photos')
    parser.add_argument(
        '--config', default='bmp_v2', help='pipeline whose pose model is used (default: bmp_v2)'
    )
    parser.add_argument('--device', default='auto', help='torch device (default: auto)')
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument('--overwrite', action='store_true', help='replace OUT if it exists')
    existing.add_argument('--resume', action='store_true', help='go on with what is in OUT')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Predict; 0 all well, 1 photos could not be read, 2 nothing was done."""
    args = build_parser().parse_args(argv)
    if args.out.exists() and not (args.overwrite or args.resume):
        return _fail(f'{args.out} exists; give --resume to go on with it, or --overwrite')
    if not args.images.is_dir():
        return _fail(f'the folder of the photos, {args.images}, does not exist')
    from pipeline.build import build_pose_estimator
    from pipeline.config import load_config
    from pipeline.datasets.predicted_keypoints import add_keypoints
    from pipeline.io.annotations import load_coco
    from pipeline.io.atomic import write_json
    from pipeline.io.progress import make_reporter

    source = args.out if args.resume and args.out.exists() else args.annotations
    try:
        content = load_coco(source)
        resolved = load_config(args.config, {'runtime.device': args.device})
        estimate = build_pose_estimator(resolved)
    except (ValueError, RuntimeError, OSError) as error:
        return _fail(str(error))
    problems = add_keypoints(
        content, args.images, estimate, make_reporter(), lambda: write_json(args.out, content)
    )
    for problem in problems:
        print(f'not read: {problem.name}: {problem.reason}', file=sys.stderr)
    people = content['annotations']
    found = sum(1 for person in people if person.get('visibility') is not None)
    print(f'{args.out}: {found} of {len(people)} people with predicted keypoints')
    return 1 if problems else 0


def _fail(message: str) -> int:
    print(f'predict_keypoints.py: error: {message}', file=sys.stderr)
    return 2


if __name__ == '__main__':
    sys.exit(main())
