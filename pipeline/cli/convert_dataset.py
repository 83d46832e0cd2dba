"""Convert a data set to a COCO file for `bmp test` and `bmp score`.

Missing and broken images are left out and listed; the exit code is then 1. The data sets are
described in docs/user_guide/datasets.md.

Examples:
    bmp convert ochuman ochuman.json all.json --images data/ochuman/images
    bmp convert cihp data/cihp/Validation data/cihp/annotations/cihp_val.json
    bmp convert crowdpose crowdpose_test.json test.json
    bmp convert cocopersons person_keypoints_val2017.json cocopersons_val.json
    bmp convert coco annotations.json people.json --images images/
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..io.atomic import write_json
from ..io.progress import Reporter
from ..values import in_line
from .options import add_person_category, handle_errors, make_parser, make_reporter

if TYPE_CHECKING:
    from ..datasets.convert import Conversion

PROG = 'bmp convert'
SOURCES = {
    'ochuman': 'OCHuman in its original format, ochuman.json',
    'cihp': 'CIHP, the folder Validation or Training',
    'crowdpose': 'CrowdPose, crowdpose_*.json with 14 keypoints',
    'cocopersons': 'people of COCO with keypoints, from person_keypoints_*.json',
    'coco': 'the people of any COCO file, checked and completed',
}


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = make_parser(PROG, __doc__)
    formats = parser.add_subparsers(dest='format', required=True, metavar='FORMAT')
    for name, text in SOURCES.items():
        sub = formats.add_parser(name, help=text, description=text)
        add = sub.add_argument
        add('source', type=Path, help='file or folder to convert')
        add('out', type=Path, help='COCO file to write')
        add('--overwrite', action='store_true', help='replace OUT if it exists')
        if name != 'cihp':
            add('--images', type=Path, metavar='FOLDER',
                help='images, to find missing and broken ones and other sizes',
            )  # fmt: skip
        if name not in ('cihp', 'ochuman'):
            add_person_category(sub)
        if name in ('ochuman', 'cocopersons'):
            add('--others', choices=('drop', 'ignore'), default='drop',
                help='people without keypoints or mask: left out (the published protocol), or '
                'ignored like crowd regions (default: drop)')  # fmt: skip
        if name == 'ochuman':
            add('--only', type=Path, metavar='FILE',
                help='only the images of this COCO file or list of names (val or test)',
            )  # fmt: skip
            add('--boxes', choices=('xyxy', 'xywh'), default='xyxy',
                help='format of the boxes (default: xyxy)')  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; 0: success, 1: images were left out, 2: no file was written."""
    args = build_parser().parse_args(argv)
    with handle_errors(PROG, failed=2):
        if args.out.exists() and not args.overwrite:
            raise ValueError(f'{args.out} exists; use --overwrite to replace it')
        conversion = convert(args, make_reporter())
        for problem in conversion.problems:
            print(f'left out: {in_line(problem.name)}: {in_line(problem.reason)}', file=sys.stderr)
        if not conversion.content['images']:
            raise ValueError(f'no images left; {args.out} is not written')
        write_json(args.out, conversion.content)
    return _report(args.out, conversion)


def convert(args: argparse.Namespace, reporter: Reporter) -> Conversion:
    """Run the converter of the arguments."""
    from ..datasets.convert import (
        ConversionError,
        convert_coco,
        convert_cocopersons,
        convert_crowdpose,
    )
    from ..datasets.convert_cihp import convert_cihp
    from ..datasets.convert_ochuman import convert_ochuman

    if args.format == 'cihp':
        return convert_cihp(args.source, reporter)
    if args.images is not None and not args.images.is_dir():
        raise ConversionError(f'--images {args.images} does not exist')
    if args.format == 'ochuman':
        return convert_ochuman(
            args.source,
            args.images,
            reporter,
            only=args.only,
            boxes=args.boxes,
            others=args.others,
        )
    person = args.person_category
    if args.format == 'cocopersons':
        return convert_cocopersons(
            args.source, args.images, reporter, others=args.others, person_category=person
        )
    converter = convert_crowdpose if args.format == 'crowdpose' else convert_coco
    return converter(args.source, args.images, reporter, person_category=person)


def _report(out: Path, conversion: Conversion) -> int:
    for line in conversion.warnings:
        print(f'warning: {line}')
    people = conversion.content['annotations']
    crowds = sum(row['iscrowd'] for row in people)
    print(
        f'{out}: {len(conversion.content["images"])} images, {len(people) - crowds} people'
        + (f', {crowds} ignored regions' if crowds else '')
        + (f'; {len(conversion.problems)} left out' if conversion.problems else '')
    )
    return 1 if conversion.problems else 0
