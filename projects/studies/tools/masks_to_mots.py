"""Convert the masks of DAVIS, palette images with a number per object, to MOTS text.

Examples:
    python projects/studies/tools/masks_to_mots.py Annotations/480p/dogs-jump gt.txt --objects 3
    bmp track dogs-jump.mp4 --save mots --out-dir outputs
    bmp score-tracks outputs/videos/dogs-jump/mots.txt gt.txt --task masks
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # this checkout, installed or not

from pipeline.cli.options import handle_errors, make_parser
from pipeline.masks import Masks
from pipeline.tracking.formats import mots_line


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file; returns the exit code."""
    parser = make_parser('masks_to_mots.py', __doc__)
    parser.add_argument('folder', type=Path, help='an image per frame, in the order of their names')
    parser.add_argument('out', type=Path)
    parser.add_argument('--objects', type=int, nargs='+', default=[1], metavar='N',
                        help='numbers of the people (default: 1)')  # fmt: skip
    args = parser.parse_args(argv)
    with handle_errors('masks_to_mots.py'):
        lines = []
        for index, path in enumerate(sorted(args.folder.glob('*.png'))):
            objects = np.asarray(PIL.Image.open(path))
            dense = [objects == number for number in args.objects]
            rles = Masks.from_dense(dense, objects.shape).to_rle()
            lines += [
                mots_line(index, number, rle)
                for number, rle, mask in zip(args.objects, rles, dense, strict=True)
                if mask.any()
            ]
        if not lines:
            raise ValueError(f'{args.folder}: no PNG with an object {args.objects}')
        args.out.write_text(''.join(lines))
    return 0


if __name__ == '__main__':
    sys.exit(main())
