"""Cut people with a mask out of a COCO-format image set, for copy-paste augmentation.

Writes PNG files with an alpha channel and `cutouts.json`, the list of their names. People of the
validation part (`subset` = val) are left out, and masks over several people (`iscrowd`).

Example:
    python projects/compact_models/tools/prepare_cutouts.py data/people work_dirs/cutouts
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # this checkout, installed or not

from pipeline.io.coco_checks import read_coco
from pipeline.io.images import ImageReadError, read_image
from pipeline.io.inputs import InputError

Record = dict[str, Any]


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, help='folder with annotations.json and its images')
    parser.add_argument('out', type=Path, help='folder to write')
    parser.add_argument('--min-height', type=int, default=48, help='lower people are left out, px')
    return parser


def cut_out(image_bgr: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the person's window of an image as BGR and alpha, (h, w, 4) uint8.

    Alpha falls to 0 within two pixels around the edge, so that a pasted person has no hard one.

    Args:
        image_bgr: (H, W, 3) uint8.
        mask: (H, W), 0 or 1, not empty.
    """
    import cv2

    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    alpha = cv2.GaussianBlur(mask[window] * np.uint8(255), (3, 3), 0)
    cutout: NDArray[np.uint8] = np.dstack([image_bgr[window], alpha])
    return cutout


def prepare(args: argparse.Namespace) -> None:
    """Writes all cut-outs and their index.

    Raises:
        InputError: `annotations.json` is not what it should be.
        ImageReadError: an image cannot be read.
    """
    import cv2
    from pycocotools import mask as mask_utils

    content = read_coco(args.source / 'annotations.json')
    people: dict[int, list[Record]] = defaultdict(list)
    for person in content['annotations']:
        if person.get('has_mask') and not person.get('iscrowd'):
            people[person['image_id']].append(person)
    args.out.mkdir(parents=True, exist_ok=True)
    names = []
    for image in content['images']:
        if image['subset'] == 'val' or image['id'] not in people:
            continue
        image_bgr = np.ascontiguousarray(read_image(args.source / image['file_name'])[..., ::-1])
        for person in people[image['id']]:
            mask = mask_utils.decode(person['segmentation'])
            if mask.any(axis=1).sum() < args.min_height:
                continue
            names.append(f'{person["id"]}.png')
            cv2.imwrite(str(args.out / names[-1]), cut_out(image_bgr, mask))
    (args.out / 'cutouts.json').write_text(json.dumps(names))
    print(f'{args.out}: {len(names)} people')


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line and writes the cut-outs."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if not (args.source / 'annotations.json').is_file():
        parser.error(f'no annotations.json in {args.source}; give the folder of the image set')
    try:
        prepare(args)
    except (InputError, ImageReadError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
