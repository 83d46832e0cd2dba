"""Add predicted keypoints and visibility to people of a COCO file without keypoints.

The pose model of a pipeline config runs on the annotated boxes, and on the annotated masks if it
supports masks. Annotated keypoints are not changed. Broken images are listed. To continue a stopped
run, add --resume.

Example (all in one line):
    bmp predict-keypoints data/cihp/annotations/cihp_train.json
        data/cihp/annotations/cihp_train_keypoints.json --images data/cihp/Training/Images
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..datasets.annotations import load_annotations
from ..io.atomic import write_json
from .options import add_person_category, handle_errors, make_parser, make_reporter

PROG = 'bmp predict-keypoints'


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = make_parser(PROG, __doc__)
    add = parser.add_argument
    add('annotations', type=Path, help='COCO file with boxes')
    add('out', type=Path, help='COCO file to write')
    add('--images', type=Path, required=True, help='folder of the images')
    add('--config', default='bmp_v2', help='pipeline with the pose model (default: bmp_v2)')
    add('--device', default='auto', help='torch device (default: auto)')
    add_person_category(parser)
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument('--overwrite', action='store_true', help='replace OUT if it exists')
    existing.add_argument('--resume', action='store_true', help='continue the file OUT')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Predict; 0: success, 1: images could not be read, 2: no file was written."""
    args = build_parser().parse_args(argv)
    with handle_errors(PROG, failed=2):
        if args.out.exists() and not (args.overwrite or args.resume):
            raise ValueError(f'{args.out} exists; use --resume to continue it, or --overwrite')
        if not args.images.is_dir():
            raise ValueError(f'--images {args.images} does not exist')
        from ..build import build_pose_estimator
        from ..config import load_config
        from ..datasets.predicted_keypoints import add_keypoints

        source = args.out if args.resume and args.out.exists() else args.annotations
        content = load_annotations(source, person_category=args.person_category).content
        estimate = build_pose_estimator(load_config(args.config, {'runtime.device': args.device}))
        problems = add_keypoints(
            content, args.images, estimate, make_reporter(), lambda: write_json(args.out, content)
        )
    for problem in problems:
        print(f'not read: {problem.name}: {problem.reason}', file=sys.stderr)
    people = content['annotations']
    predicted = sum(person.get('visibility') is not None for person in people)
    print(f'{args.out}: {predicted} of {len(people)} people with predicted keypoints')
    return 1 if problems else 0
