r"""Give people without a mask the one that a pipeline's segmenter finds from their annotated box.

Each person is looked at twice, in the image and in its mirror image. The mean of both masks is kept
where both agree and fit the annotated box; the others stay without. Written is the COCO file with
these masks added, each marked `pseudo_mask`. People of the validation part stay as they are.

Example:
    python projects/compact_models/tools/find_pseudo_masks.py data/people pseudo_masks.json
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # this checkout, installed or not

from pipeline.boxes import box_iou, box_of_mask, xywh_to_xyxy
from pipeline.io.atomic import write_json
from pipeline.io.coco_checks import read_coco
from pipeline.io.images import ImageReadError, read_image
from pipeline.io.inputs import InputError
from pipeline.keypoints import NUM_COCO
from pipeline.masks import LogitMasks, Masks
from pipeline.structures import Detections, Image, Poses, size_of

Record = dict[str, Any]
_VISIBLE = 2  # COCO's keypoint flag
_NO_PERSON = -10.0  # logit outside of a crop: surely not the person


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('source', type=Path, help='folder with annotations.json and its images')
    add('out', type=Path, help='COCO file to write')
    add('--config', default='bmp_compact', help='pipeline whose segmenter it is (%(default)s)')
    add('--min-side', type=float, default=32, help='people with a shorter longer side are left out')
    add('--min-agreement', type=float, default=0.85, help='IoU of both masks (%(default)s)')
    add('--min-box-iou', type=float, default=0.8, help='of the mask and the box (%(default)s)')
    return parser


def poses_of(people: Sequence[Mapping[str, Any]], shape: tuple[int, int]) -> Poses:
    """Annotated people as poses; keypoints that are not labelled visible are not there.

    Args:
        people: COCO annotations; those without keypoints have none that is visible.
        shape: H, W of the image.
    """
    boxes = Detections.from_boxes(xywh_to_xyxy([person['bbox'] for person in people]), shape)
    rows = [person.get('keypoints') or [0] * 3 * NUM_COCO for person in people]
    points = np.asarray(rows, np.float32).reshape(len(people), NUM_COCO, 3)
    seen = (points[..., 2] == _VISIBLE).astype(np.float32)
    return Poses(
        boxes.boxes, boxes.box_scores, boxes.detector_masks, points[..., :2], seen, seen, seen
    )


def mirrored(poses: Poses, width: int) -> Poses:
    """Mirror poses in an image of ``width`` px; left and right keep their names."""
    # Edges of boxes lie between pixels, keypoints in the middle of them.
    boxes = poses.boxes.copy()
    boxes[:, [0, 2]] = width - poses.boxes[:, [2, 0]]
    keypoints = poses.keypoints.copy()
    keypoints[..., 0] = width - 1 - keypoints[..., 0]
    return replace(poses, boxes=boxes, keypoints=keypoints)


def dense(logits: LogitMasks, row: int) -> NDArray[np.float32]:
    """One soft mask in the size of the image, (H, W)."""
    whole = np.full((logits.height, logits.width), _NO_PERSON, np.float32)
    whole[logits.window(row)] = logits.crops[row]
    return whole


def trusted_mask(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    box: NDArray[np.float32],
    min_agreement: float,
    min_box_iou: float,
) -> NDArray[np.bool_] | None:
    """The mean of two soft masks, or None if they differ or do not fill the box.

    Args:
        first: (H, W) logits.
        second: (H, W) logits.
        box: (4,) xyxy px, the person's.
        min_agreement: least IoU of the two.
        min_box_iou: least IoU of the box and that of the mask.
    """
    union = ((first > 0) | (second > 0)).sum()
    mask = np.asarray(first + second > 0)
    if not mask.any() or ((first > 0) & (second > 0)).sum() < min_agreement * union:
        return None
    own = box_of_mask(mask)[None]
    return mask if box_iou(own, box[None])[0, 0] >= min_box_iou else None


def masks_of_image(
    segmenter: Any, image: Image, people: Sequence[Record], args: argparse.Namespace
) -> list[NDArray[np.bool_] | None]:
    """One mask (H, W) or None per person of an image."""
    height, width = size_of(image)
    poses = poses_of(people, (height, width))
    others = Poses.empty_poses(height, width, NUM_COCO)
    first = segmenter(image)(poses, others).logits
    flipped = np.ascontiguousarray(image[:, ::-1])
    second = segmenter(flipped)(mirrored(poses, width), others).logits
    return [
        trusted_mask(
            dense(first, i), dense(second, i)[:, ::-1], poses.boxes[i],
            args.min_agreement, args.min_box_iou,
        )
        for i in range(len(people))
    ]  # fmt: skip


def is_wanted(person: Mapping[str, Any], min_side: float) -> bool:
    """Whether a mask is looked for."""
    is_one = not person.get('iscrowd') and not person.get('merged_people')
    return is_one and not person.get('segmentation') and max(person['bbox'][2:]) >= min_side


def find_masks(args: argparse.Namespace) -> None:
    """Runs the segmenter and writes the file.

    Raises:
        InputError: the COCO file cannot be used.
        ImageReadError: an image cannot be read.
    """
    content = read_coco(args.source / 'annotations.json')
    images = content['images']

    from rich.progress import track

    from pipeline.build import build_pipeline
    from pipeline.config import load_config

    segmenter = build_pipeline(load_config(args.config)).run.segmenter
    people: dict[Any, list[Record]] = defaultdict(list)
    for person in content['annotations']:
        people[person['image_id']].append(person)
    found = wanted = 0
    for image in track(images, description='images', update_period=5):
        group = [p for p in people[image['id']] if is_wanted(p, args.min_side)]
        if not group or image.get('subset') == 'val':
            continue
        wanted += len(group)
        pixels = read_image(args.source / image['file_name'])
        for person, mask in zip(group, masks_of_image(segmenter, pixels, group, args), strict=True):
            if mask is not None:
                person['segmentation'] = Masks.from_dense([mask], size_of(pixels)).to_rle()[0]
                person['pseudo_mask'] = True
                found += 1
    write_json(args.out, content)
    print(f'{args.out}: masks of {found} of {wanted} people, {len(images)} images')


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line and runs the tool."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if not (args.source / 'annotations.json').is_file():
        parser.error(f'no annotations.json in {args.source}; give the folder of the image set')
    for name in ('min_agreement', 'min_box_iou'):
        fraction = getattr(args, name)
        if not 0 <= fraction <= 1:
            option = '--' + name.replace('_', '-')
            parser.error(f'{option} {fraction} is out of range; choose 0 to 1')
    try:
        find_masks(args)
    except (InputError, ImageReadError) as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
