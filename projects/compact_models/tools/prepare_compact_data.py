"""Prepare the data of the compact detector: images with boxes, some people with a mask.

Reads a COCO-format set of people images and writes a self-contained folder for
`projects/compact_models/configs/rtmdet-ins_compact_train.py`:

    images/           the images as JPEG (fast to decode)
    train.json        images in which every person has a box, person-free images, and the
                      images of `--extra-sources`
    val.json          images with `subset` = val that are fully annotated (boxes)
    val_masks.json    those of them in which every person has a mask

A person without a mask gets an empty mask: the training head reads it as "mask unknown".

Example:
    python projects/compact_models/tools/prepare_compact_data.py data/people data/compact_detector
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # this checkout, installed or not

from pipeline.io.coco_checks import read_coco, read_json
from pipeline.io.inputs import InputError

Record = dict[str, Any]

MIN_PSEUDO_SCORE = 0.4
# Between the two the teacher is uncertain: the region is ignored.
MIN_IGNORE_SCORE = 0.25
MAX_PSEUDO_OVERLAP = 0.3


def build_parser() -> argparse.ArgumentParser:
    """Returns the command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, help='folder with annotations.json and its images')
    parser.add_argument('out', type=Path, help='folder to write')
    parser.add_argument(
        '--extra-sources',
        nargs='*',
        default=[],
        metavar='NAME',
        help='sources whose images are used although bystanders have no box',
    )
    parser.add_argument(
        '--all-sources',
        action='store_true',
        help='use every image of the training part; give --pseudo-boxes too, or people without a '
        'box teach "no person"',
    )
    parser.add_argument(
        '--pseudo-boxes',
        type=Path,
        help='COCO results file of another detector: its people that no annotation covers are '
        'added to partly annotated images, as boxes without a mask or, with a low score, as '
        'places to ignore (iscrowd)',
    )
    parser.add_argument('--jpeg-quality', type=int, default=92, help='1 to 100')
    return parser


def empty_rle(height: int, width: int) -> Record:
    """Returns the RLE of a mask without any pixel (`counts` uncompressed), size (H, W)."""
    return {'size': [height, width], 'counts': [height * width]}


def overlap_of_smaller(first_xywh: Sequence[float], second_xywh: Sequence[float]) -> float:
    """Returns the intersection of two boxes over the area of the smaller one, in [0, 1]."""
    left, top = max(first_xywh[0], second_xywh[0]), max(first_xywh[1], second_xywh[1])
    right = min(first_xywh[0] + first_xywh[2], second_xywh[0] + second_xywh[2])
    bottom = min(first_xywh[1] + first_xywh[3], second_xywh[1] + second_xywh[3])
    smaller = min(first_xywh[2] * first_xywh[3], second_xywh[2] * second_xywh[3])
    return max(0.0, right - left) * max(0.0, bottom - top) / max(smaller, 1e-6)


def missing_people(known: Sequence[Record], found: Iterable[Record]) -> list[Record]:
    """Returns detections of people that no annotation of the image covers.

    Uncertain detections become ignored regions (`iscrowd` 1).

    Args:
        known: annotations of one image (COCO, `bbox` xywh).
        found: detections on the same image (COCO results).
    """
    people: list[Record] = []
    for detection in sorted(found, key=lambda item: -float(item['score'])):
        boxes = [item['bbox'] for item in (*known, *people)]
        overlaps = [overlap_of_smaller(detection['bbox'], box) for box in boxes]
        score = detection['score']
        if score >= MIN_IGNORE_SCORE and max(overlaps, default=0) < MAX_PSEUDO_OVERLAP:
            width, height = detection['bbox'][2:]
            is_unsure = int(score < MIN_PSEUDO_SCORE)
            people.append({'bbox': detection['bbox'], 'area': width * height, 'iscrowd': is_unsure})
    return people


def to_training_people(image: Record, people: Iterable[Record], first_id: int) -> list[Record]:
    """Returns an image's annotations with the fields that training needs, ids from `first_id`."""
    return [
        {
            'id': first_id + index,
            'image_id': image['id'],
            'category_id': 1,
            'bbox': person['bbox'],
            'area': person['area'],
            'iscrowd': int(person.get('iscrowd', 0)),
            'segmentation': person['segmentation']
            if person.get('has_mask')
            else empty_rle(image['height'], image['width']),
        }
        for index, person in enumerate(people)
    ]


def write_jpeg(source: Path, target: Path, quality: int) -> None:
    """Re-encodes an image as JPEG; a finished file is kept.

    Raises:
        OSError: if the image is missing or damaged.
    """
    from PIL import Image

    if not target.exists():
        with Image.open(source) as image:
            image.convert('RGB').save(target, quality=quality)


def write_split(path: Path, images: Sequence[Record], people: dict[int, list[Record]]) -> None:
    """Writes one COCO file with the given images and their people."""
    annotations: list[Record] = []
    for image in images:
        annotations += to_training_people(image, people[image['id']], len(annotations) + 1)
    kept = [
        {
            'id': image['id'],
            'file_name': jpeg_name(image),
            'height': image['height'],
            'width': image['width'],
        }
        for image in images
    ]
    categories = [{'id': 1, 'name': 'person'}]
    content = {'images': kept, 'annotations': annotations, 'categories': categories}
    path.write_text(json.dumps(content))
    num_masks = sum(bool(person.get('has_mask')) for i in images for person in people[i['id']])
    print(f'{path}: {len(images)} images, {len(annotations)} people, {num_masks} masks')


def jpeg_name(image: Record) -> str:
    """Returns the image's file name in the written folder."""
    return 'images/' + Path(image['file_name']).with_suffix('.jpg').name


def prepare(args: argparse.Namespace) -> None:
    """Selects the images, writes them and the three annotation files.

    Raises:
        InputError: a file cannot be used.
    """
    content = read_coco(args.source / 'annotations.json')
    people: dict[int, list[Record]] = defaultdict(list)
    for annotation in content['annotations']:
        people[annotation['image_id']].append(annotation)
    extra = {i['source'] for i in content['images']} if args.all_sources else args.extra_sources
    train, val = select_images(content['images'], extra)
    if args.pseudo_boxes is not None:
        partial = [image for image in train if not image['fully_annotated']]
        add_missing_people(people, partial, read_json(args.pseudo_boxes))
    train += person_free_images(args.source, first_id=1 + max(i['id'] for i in content['images']))
    masked = [i for i in val if all(person.get('has_mask') for person in people[i['id']])]

    (args.out / 'images').mkdir(parents=True, exist_ok=True)
    for image in train + val:
        source = args.source / image['file_name']
        write_jpeg(source, args.out / jpeg_name(image), args.jpeg_quality)
    for name, images in (('train', train), ('val', val), ('val_masks', masked)):
        write_split(args.out / f'{name}.json', images, people)


def select_images(
    images: Iterable[Record], extra_sources: Collection[str]
) -> tuple[list[Record], list[Record]]:
    """Returns the images to train on and the fully annotated images to validate on."""
    train, val = [], []
    for image in images:
        if image['subset'] == 'val':
            val += [image] if image['fully_annotated'] else []
        elif image['fully_annotated'] or image['source'] in extra_sources:
            train.append(image)
    return train, val


def add_missing_people(
    people: dict[int, list[Record]], images: Iterable[Record], results: Iterable[Record]
) -> None:
    """Adds to `people` (image id -> annotations) those that only another detector found.

    Args:
        people: changed in place.
        images: the images to complete.
        results: detections of the other detector (COCO results).
    """
    found: dict[int, list[Record]] = defaultdict(list)
    for detection in results:
        found[detection['image_id']].append(detection)
    for image in images:
        people[image['id']] += missing_people(people[image['id']], found[image['id']])


def person_free_images(source: Path, first_id: int) -> list[Record]:
    """Returns the images of `backgrounds.json`, if there is one, with ids from `first_id`."""
    path = source / 'backgrounds.json'
    if not path.exists():
        return []
    content = read_json(path)
    images: list[Record] = content['images'] if isinstance(content, dict) else content
    return [{**image, 'id': first_id + index} for index, image in enumerate(images)]


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the command line and prepares the data."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if not (args.source / 'annotations.json').is_file():
        parser.error(f'no annotations.json in {args.source}; give the folder of the image set')
    if not 1 <= args.jpeg_quality <= 100:
        parser.error(f'--jpeg-quality {args.jpeg_quality} is out of range; choose 1 to 100')
    try:
        prepare(args)
    except InputError as error:
        parser.error(str(error))


if __name__ == '__main__':
    main()
