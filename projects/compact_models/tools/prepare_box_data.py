r"""Pair what a detector finds in training images with the people annotated there.

The result teaches the pose model a second look at boxes (`DetectedPeopleDataset`). The detections
are those of `find_pseudo_boxes.py` with the detector that the pose model will follow.

Example:
    python projects/compact_models/tools/find_pseudo_boxes.py work_dirs/detector_data boxes.json \
        --file train.json --config configs/compact/rtmdet-ins_compact.py \
        --checkpoint checkpoints/rtmdet-ins_compact.pth --size 448 --min-score 0.08
    python projects/compact_models/tools/prepare_box_data.py work_dirs/detector_data \
        boxes.json work_dirs/box_data.json --keypoints data/people/annotations.json
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # this checkout, installed or not

from pipeline.boxes import box_areas, box_iou, box_nms, xywh_to_xyxy
from pipeline.io.coco_checks import read_coco, read_json
from pipeline.io.inputs import InputError
from pipeline.structures import Floats

PERSON_IOU = 0.35  # with an annotated person from here on a detection is about that person
CROWD_FRACTION = 0.4  # of a detection inside a crowd region: unknown
SAME_IOU = 0.9  # two files mean the same person
NO_KEYPOINTS = [0.0] * 51


def build_parser() -> argparse.ArgumentParser:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('source', type=Path, help='folder of prepare_compact_data.py, with train.json')
    add('detections', type=Path, help='COCO results with the image ids of that file')
    add('out', type=Path, help='COCO file to write; its images are those of the folder')
    add('--keypoints', type=Path, required=True, help='COCO file with keypoints, same image names')
    add('--people-per-image', type=int, default=8, help='at most (default: %(default)s)')
    add('--others-per-image', type=int, default=4, help='false positives, at most')
    add('--max-iou', type=float, help='box NMS before that, as detector.max_iou (default: none)')
    add('--seed', type=int, default=0, help='which ones are left out')
    return parser


def pair(detected: Floats, people: Floats, crowds: Floats) -> tuple[list[int], list[bool]]:
    """Finds the person of each detection.

    Args:
        detected: (N, 4) xyxy px.
        people: (M, 4) annotated people.
        crowds: (C, 4) regions with people that are not annotated one by one.

    Returns:
        Person of each detection, -1 for none; and whether that is certain.
    """
    persons, sure = [], []
    overlaps = box_iou(detected, people)
    for i, box in enumerate(detected):
        low, high = np.maximum(box[:2], crowds[:, :2]), np.minimum(box[2:], crowds[:, 2:])
        common = (high - low).clip(0).prod(1)
        is_crowd = bool((common > CROWD_FRACTION * box_areas(box[None])[0]).any())
        best = int(overlaps[i].argmax()) if len(people) else -1
        is_person = best >= 0 and overlaps[i, best] >= PERSON_IOU
        persons.append(best if is_person else -1)
        sure.append(is_person or not is_crowd)
    return persons, sure


def rows_xyxy(annotations: Sequence[dict[str, Any]]) -> Floats:
    """Boxes (N, 4) xyxy px of COCO annotations."""
    return xywh_to_xyxy([a['bbox'] for a in annotations])


def without_doubles(
    detections: Sequence[dict[str, Any]], max_iou: float | None
) -> Sequence[dict[str, Any]]:
    """COCO results of one image after the box NMS of the loop; all of them if `max_iou` is None."""
    if max_iou is None or not detections:
        return detections
    scores = np.asarray([row['score'] for row in detections], np.float32)
    return [detections[i] for i in box_nms(rows_xyxy(detections), scores, max_iou).tolist()]


def by_image(rows: Sequence[dict[str, Any]], names: dict[int, str]) -> dict[str, list[Any]]:
    """Rows by the stem of their image's file name, which all annotation files share."""
    grouped: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        grouped[names[row['image_id']]].append(row)
    return grouped


def stems(content: dict[str, Any]) -> dict[int, str]:
    """Stem of the file name by image id, of a COCO file."""
    return {image['id']: Path(image['file_name']).stem for image in content['images']}


def keypoints_of(boxes: Floats, posed: Sequence[dict[str, Any]]) -> list[list[float]]:
    """COCO keypoints of the people with these boxes (N, 4) xyxy px; zeros where there are none."""
    if not posed:
        return [NO_KEYPOINTS] * len(boxes)
    overlaps = box_iou(boxes, rows_xyxy(posed))
    best = overlaps.argmax(1)
    is_same = overlaps.max(1) >= SAME_IOU
    return [
        posed[j]['keypoints'] if same else NO_KEYPOINTS
        for j, same in zip(best, is_same, strict=True)
    ]


def paired_rows(
    detections: Sequence[dict[str, Any]],
    annotations: Sequence[dict[str, Any]],
    posed: Sequence[dict[str, Any]],
    limits: tuple[int, int],
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Training rows of one image.

    Args:
        detections: COCO results.
        annotations: with boxes, crowd regions among them.
        posed: annotations with keypoints.
        limits: maximum rows with a person and without.
        rng: chooses the rows that are left out.
    """
    people = [a for a in annotations if not a.get('iscrowd')]
    crowds = [a for a in annotations if a.get('iscrowd')]
    boxes = rows_xyxy(people)
    persons, sure = pair(rows_xyxy(detections), boxes, rows_xyxy(crowds))
    keypoints = keypoints_of(boxes, posed)
    with_person = [i for i, person in enumerate(persons) if person >= 0]
    without = [i for i, person in enumerate(persons) if person < 0 and sure[i]]
    chosen = [
        *rng.permutation(with_person)[: limits[0]].tolist(),
        *rng.permutation(without)[: limits[1]].tolist(),
    ]
    rows = []
    for i in map(int, chosen):
        person = persons[i]
        points = NO_KEYPOINTS if person < 0 else keypoints[person]
        rows.append(
            {
                'bbox': detections[i]['bbox'],
                'score': detections[i]['score'],
                'person_bbox': None if person < 0 else people[person]['bbox'],
                'keypoints': points,
                'num_keypoints': sum(v > 0 for v in points[2::3]),
            }
        )
    return rows


def paired_set(args: argparse.Namespace) -> dict[str, Any]:
    """The COCO dictionary of all training images that have detections.

    Raises:
        InputError: a file cannot be used, or the detections are those of other images.
    """
    coco = read_coco(args.source / 'train.json')
    names = stems(coco)
    found = read_json(args.detections)
    unknown = {row['image_id'] for row in found} - set(names)
    if unknown:
        raise InputError(
            f'{args.detections}: {len(unknown)} image ids are not in {args.source}/train.json, '
            f'such as {min(unknown)}; run the detector on that file'
        )
    keypoints = read_coco(args.keypoints)
    posed = [a for a in keypoints['annotations'] if a.get('has_keypoints') and not a.get('iscrowd')]
    grouped = (
        by_image(found, names),
        by_image(coco['annotations'], names),
        by_image(posed, stems(keypoints)),
    )
    rng = np.random.default_rng(args.seed)
    limits = (args.people_per_image, args.others_per_image)
    annotations: list[dict[str, Any]] = []
    for image in coco['images']:
        stem = names[image['id']]
        found_here, coco_here, posed_here = (g.get(stem, []) for g in grouped)
        distinct = without_doubles(found_here, args.max_iou)
        for row in paired_rows(distinct, coco_here, posed_here, limits, rng):
            ids = {'id': len(annotations) + 1, 'image_id': image['id'], 'category_id': 1}
            annotations.append({**ids, 'iscrowd': 0, **row})
    return {
        'images': coco['images'],
        'annotations': annotations,
        'categories': [{'id': 1, 'name': 'person'}],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the tool."""
    from pipeline.io.atomic import write_json

    parser = build_parser()
    args = parser.parse_args(argv)
    if not (args.source / 'train.json').is_file():
        parser.error(f'no train.json in {args.source}; give a folder of prepare_compact_data.py')
    try:
        made = paired_set(args)
    except InputError as error:
        parser.error(str(error))
    write_json(args.out, made)
    rows = made['annotations']
    people = sum(row['person_bbox'] is not None for row in rows)
    print(f'{args.out}: {people} detections of a person, {len(rows) - people} false positives')


if __name__ == '__main__':
    main()
