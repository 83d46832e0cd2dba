r"""Cut people with keypoints out of a COCO-format set into small crops for pose training.

Training a small pose model is cheap, decoding whole images for it is not. This tool writes one
crop with context per training person, as an uncompressed image that loads in well under a
millisecond (or as JPEG, to carry it to another machine), and a COCO json of those crops.
Validation people stay in their original images, so that the score is measured on what the model
will see in use.

    python projects/compact_models/tools/prepare_compact_pose_data.py \
        --annotations DATA/annotations.json --images DATA --out work_dirs/pose/data
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # this checkout, installed or not

from pipeline.io.coco_checks import read_coco
from pipeline.io.inputs import InputError

# Width / height of the network input; boxes are widened or heightened to it as in MMPose.
ASPECT_RATIO = 0.75
# MMPose's GetBBoxCenterScale padding.
BOX_PADDING = 1.25


@dataclass(frozen=True)
class CropWindow:
    """Where a crop lies in its image: [x1, x2) x [y1, y2) in image px, then resized by `scale`."""

    x1: int
    y1: int
    x2: int
    y2: int
    scale: float


def plan_crop(
    box_xywh: NDArray[np.float64],
    image_size: tuple[int, int],
    *,
    context: float,
    input_height: int,
) -> CropWindow:
    """Choose the window around one person.

    Args:
        box_xywh: float64, shape (4,), person box in image px.
        image_size: (width, height) of the image in px.
        context: side of the window relative to the box after it was fixed to `ASPECT_RATIO`.
        input_height: the padded box is never stored higher than this, px; never enlarged either.

    Returns:
        The window, clipped to the image.
    """
    x, y, w, h = box_xywh
    fixed_h = max(h, w / ASPECT_RATIO)
    half = np.array([fixed_h * ASPECT_RATIO, fixed_h]) * context / 2
    low = np.floor(np.array([x + w / 2, y + h / 2]) - half).astype(int)
    high = np.ceil(np.array([x + w / 2, y + h / 2]) + half).astype(int)
    low = np.clip(low, 0, np.array(image_size) - 2)
    high = np.clip(high, low + 2, np.array(image_size))
    scale = min(1.0, input_height / (fixed_h * BOX_PADDING))
    return CropWindow(int(low[0]), int(low[1]), int(high[0]), int(high[1]), scale)


def move_annotation(annotation: dict[str, Any], window: CropWindow) -> dict[str, Any]:
    """Express box, keypoints and area of one annotation in crop px (mask: see `crop_mask`)."""
    scale = window.scale
    x, y, w, h = annotation['bbox']
    points = np.array(annotation['keypoints'], dtype=np.float64).reshape(-1, 3)
    labelled = points[:, 2] > 0
    # Pixel centres are at integers: cv2.resize maps x to (x + 0.5) * scale - 0.5.
    moved = (points[:, :2] - [window.x1, window.y1] + 0.5) * scale - 0.5
    points[:, :2] = np.where(labelled[:, None], moved, 0.0)
    return {
        'category_id': annotation['category_id'],
        'iscrowd': 0,
        'bbox': [(x - window.x1) * scale, (y - window.y1) * scale, w * scale, h * scale],
        'area': annotation['area'] * scale * scale,
        'keypoints': [round(float(v), 3) for v in points.ravel()],
        'num_keypoints': int(labelled.sum()),
        'source_id': annotation['id'],
    }


def crop_mask(segmentation: dict[str, Any], window: CropWindow) -> dict[str, Any]:
    """Cut and resize a COCO RLE mask to the crop; returns an RLE with a str `counts`."""
    import cv2
    from pycocotools import mask as mask_utils

    mask = mask_utils.decode(segmentation)[window.y1 : window.y2, window.x1 : window.x2]
    if window.scale < 1.0:
        size = scaled_size(window)
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR_EXACT)
    encoded = mask_utils.encode(np.asfortranarray(mask))
    return {'size': list(encoded['size']), 'counts': encoded['counts'].decode('ascii')}


def scaled_size(window: CropWindow) -> tuple[int, int]:
    """(width, height) of the stored crop in px."""
    width = max(2, round((window.x2 - window.x1) * window.scale))
    height = max(2, round((window.y2 - window.y1) * window.scale))
    return width, height


def write_crop(
    image_bgr: NDArray[Any], window: CropWindow, path: Path, jpeg_quality: int | None = None
) -> None:
    """Cut, resize and store one crop.

    Raises:
        OSError: the file cannot be written.
    """
    import cv2

    crop: NDArray[Any] = image_bgr[window.y1 : window.y2, window.x1 : window.x2]
    if window.scale < 1.0:
        crop = cv2.resize(crop, scaled_size(window), interpolation=cv2.INTER_AREA)
    options = [] if jpeg_quality is None else [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
    if not cv2.imwrite(str(path), crop, options):
        raise OSError(f'cannot write {path}; check that the folder exists and the disk has space')


def write_training_set(
    people: list[tuple[dict[str, Any], dict[str, Any]]], args: argparse.Namespace
) -> dict[str, Any]:
    """Write all crops and return their COCO dictionary (images and annotations, ids from 1)."""
    import cv2

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    loaded: tuple[int, NDArray[Any] | None] = (-1, None)
    for image, annotation in people:
        if loaded[0] != image['id']:
            loaded = (image['id'], cv2.imread(str(args.images / image['file_name'])))
        if loaded[1] is None:
            raise FileNotFoundError(f'cannot read {args.images / image["file_name"]}')
        size = (loaded[1].shape[1], loaded[1].shape[0])
        box = np.array(annotation['bbox'], dtype=np.float64)
        window = plan_crop(box, size, context=args.context, input_height=args.input_height)
        name = f'crops/{annotation["id"]}.{"bmp" if args.jpeg_quality is None else "jpg"}'
        write_crop(loaded[1], window, args.out / name, args.jpeg_quality)
        crop_id = len(images) + 1
        moved = move_annotation(annotation, window)
        if annotation.get('has_mask'):
            moved['segmentation'] = crop_mask(annotation['segmentation'], window)
        width, height = scaled_size(window)
        images.append({'id': crop_id, 'file_name': name, 'width': width, 'height': height})
        annotations.append({**moved, 'id': crop_id, 'image_id': crop_id})
    return {'images': images, 'annotations': annotations}


def select_people(
    data: dict[str, Any], *, validation: bool, min_keypoints: int
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(image, annotation) of the people with keypoints of one subset, ordered by image."""
    images = {image['id']: image for image in data['images']}
    people = []
    for annotation in data['annotations']:
        image = images[annotation['image_id']]
        if (image['subset'] == 'val') != validation or annotation.get('iscrowd'):
            continue
        if not annotation.get('has_keypoints') or annotation['num_keypoints'] < min_keypoints:
            continue
        people.append((image, annotation))
    return sorted(people, key=lambda pair: int(pair[0]['id']))


def validation_set(people: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """COCO dictionary of people who stay in their images (masks are left out: not scored)."""
    keys = ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd', 'keypoints')
    images = {image['id']: image for image, _ in people}
    fields = ('id', 'file_name', 'width', 'height')
    return {
        'images': [{k: image[k] for k in fields} for image in images.values()],
        'annotations': [
            {**{k: a[k] for k in keys}, 'num_keypoints': a['num_keypoints']} for _, a in people
        ],
    }


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n\n')[0])
    parser.add_argument('--annotations', type=Path, required=True, help='COCO json with `subset`')
    parser.add_argument('--images', type=Path, required=True, help='folder the file names start in')
    parser.add_argument('--out', type=Path, required=True, help='output folder')
    parser.add_argument('--context', type=float, default=1.7, help='crop side / fixed box side')
    parser.add_argument('--input-height', type=int, default=256, help='stored height limit, px')
    parser.add_argument('--jpeg-quality', type=int, help='1 to 100 (default: not compressed)')
    parser.add_argument('--min-keypoints', type=int, default=3, help='fewer: left out of training')
    args = parser.parse_args(argv)
    if args.jpeg_quality is not None and not 1 <= args.jpeg_quality <= 100:
        parser.error(f'--jpeg-quality {args.jpeg_quality} is out of range; choose 1 to 100')
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    try:
        data = read_coco(args.annotations)
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    (args.out / 'crops').mkdir(parents=True, exist_ok=True)
    training = select_people(data, validation=False, min_keypoints=args.min_keypoints)
    validation = select_people(data, validation=True, min_keypoints=1)
    train_json = write_training_set(training, args)
    for name, part in (('train', train_json), ('val', validation_set(validation))):
        part['categories'] = data['categories']
        part['info'] = {'context': args.context, 'input_height': args.input_height}
        (args.out / f'{name}.json').write_text(json.dumps(part))
        print(f'{name}: {len(part["annotations"])} people, {len(part["images"])} images')
    return 0


if __name__ == '__main__':
    sys.exit(main())
