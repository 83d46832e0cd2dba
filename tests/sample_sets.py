"""Annotation files in the formats of the public data sets: drawn crowds, and real samples."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.io.dataset_writers import CATEGORY
from pipeline.keypoint_sets import KEYPOINT_SETS, to_convention
from pipeline.synthetic.scene import SceneConfig, make_scene
from tests.toy_people import write

SIZES = ((320, 240), (360, 480), (320, 240), (80, 60))
Content = dict[str, Any]


def draw_samples(folder: Path) -> Path:
    """``folder`` with drawn crowds in the format of each data set, images beside the files."""
    coco = draw_crowds(folder / 'dev' / 'images')
    files = {
        'dev/person_keypoints.json': coco,
        'dev/crowd_masks.json': convert(coco, None, 'num_keypoints'),
        'test_samples/ochuman/test_ochuman.json': as_ochuman(coco),
        'test_samples/crowdpose/test_crowdpose.json': as_crowdpose(coco),
        'test_samples/exlpose/test_exlpose.json': as_crowdpose(coco),
        'test_samples/humanart/test_humanart.json': convert(coco, COCO, 'segmentation'),
        'test_samples/aic/test_aic.json': convert(coco, AIC, 'segmentation', 'area'),
        POSETRACK_FILE: convert(coco, POSETRACK, 'segmentation', 'area'),
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, content)
        for image in (folder / 'dev' / 'images').iterdir() if 'dev' not in name else ():
            os.link(image, path.parent / image.name)
    return folder


def draw_crowds(folder: Path) -> Content:
    """Drawn crowds in COCO format: a crowd region, a person without keypoints, an empty image."""
    folder.mkdir(parents=True)
    images, annotations = [], []
    for number, (width, height) in enumerate(SIZES, start=1):
        people = 6 if number < len(SIZES) else 0
        config = SceneConfig(
            width=width, height=height, min_people=people, max_people=people,
            min_person_height=0.15 if number == 1 else 0.4, overlap=0.7, seed=number,
        )  # fmt: skip
        scene = make_scene(config)
        image, rows = scene.to_coco(number, f'{number:06}.png')
        Image.fromarray(scene.image).save(folder / image['file_name'])
        images.append(image)
        annotations += rows
    region = {'size': [240, 320], 'counts': [0, 240 * 12, 240 * 308]}  # of image 3
    without = {'keypoints': [0] * 51, 'num_keypoints': 0}
    annotations[0] |= without
    crowd = {'id': 9001, 'iscrowd': 1, 'segmentation': region, 'bbox': [0, 0, 12, 240]}
    annotations.append(annotations[-1] | without | crowd | {'area': 240 * 12})
    return {'images': images, 'annotations': annotations, 'categories': [CATEGORY]}


def points_of(row: Content) -> np.ndarray:
    """Keypoints (17, 3) of an annotation: x, y and flag."""
    return np.reshape(np.array(row['keypoints'], np.float32), (17, 3))


COCO = KEYPOINT_SETS['coco17'].names
SIDES = ('Right', 'Left')
JOINTS = ('Shoulder', 'Elbow', 'Wrist'), ('Hip', 'Knee', 'Ankle')
LIMBS = tuple(f'{side} {joint}' for joints in JOINTS for side in SIDES for joint in joints)
AIC = (*LIMBS, 'Head top', 'Neck')
POSETRACK_FILE = 'test_samples/posetrack18/annotations/test_posetrack18_val.json'
POSETRACK = ('nose', 'head_bottom', 'head_top', *COCO[3:])


def convert(coco: Content, names: tuple[str, ...] | None, *absent: str) -> Content:
    """People with the keypoints of these names (0 where COCO has none), without ``absent``."""
    rows, category = [], {'id': 1, 'name': 'person', 'supercategory': 'person'}
    for row in coco['annotations']:
        points = dict(zip(COCO, points_of(row).tolist(), strict=True))
        ours = [points.get(n.lower().replace(' ', '_'), [0, 0, 0]) for n in names or ()]
        rows.append({k: v for k, v in row.items() if k not in (*absent, 'keypoints')})
        if names is not None:
            flags = sum(point[2] > 0 for point in ours)
            rows[-1] |= {'keypoints': [v for point in ours for v in point], 'num_keypoints': flags}
    people = [row for row in rows if not row['iscrowd']] if names is not None else rows
    named = category if names is None else category | {'keypoints': list(names)}
    return coco | {'annotations': people, 'categories': [named]}


def as_ochuman(coco: Content) -> Content:
    """The COCO file of OCHuman: areas are those of the boxes."""
    content = convert(coco, COCO)
    for row in content['annotations']:
        row['bbox'] = [round(v) for v in row['bbox']]
        row['area'] = row['bbox'][2] * row['bbox'][3]
    return content


def as_crowdpose(coco: Content) -> Content:
    """CrowdPose: 14 keypoints, of which the visible are counted; no masks and no areas."""
    names = KEYPOINT_SETS['crowdpose14'].names
    content = convert(coco, names, 'segmentation', 'area')
    everybody = [row for row in coco['annotations'] if not row['iscrowd']]
    points = np.stack([points_of(row) for row in everybody])
    xy, flags = to_convention(points[..., :2], points[..., 2], 'crowdpose14')
    flags = np.where(flags > 0, 2, 0)
    for row, places, seen in zip(content['annotations'], xy, flags, strict=True):
        row['keypoints'] = np.hstack([places.round(2), seen[:, None]]).ravel().tolist()
        row['num_keypoints'] = int((seen == 2).sum())
    content['images'] = [
        image | {'crowdIndex': index}
        for image, index in zip(coco['images'], (0.05, 0.4, 0.9, 0.5), strict=True)
    ]
    return content
