"""Training data of the box branch: detections paired with people, targets in the crop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmpose.datasets.transforms import GetBBoxCenterScale, RandomFlip, TopdownAffine

from projects.compact_models.pose.detected_people import DetectedPeopleDataset
from projects.compact_models.pose.person_box_target import LABELS, PersonBoxTarget
from projects.compact_models.tools import prepare_box_data

pytestmark = pytest.mark.usefixtures('mmpose_scope')


PERSON = (100, 40, 160, 200)


def cropped(person: Any, *, flip: bool = False, rotation: float = 0.0) -> dict[str, Any]:
    """A white rectangle on black, as a detector sees it roughly, cut out and labelled."""
    image = np.zeros((240, 320, 3), np.uint8)
    x1, y1, x2, y2 = PERSON
    image[y1:y2, x1:x2] = 255
    results: dict[str, Any] = {
        'img': image,
        'img_shape': image.shape[:2],
        'bbox': np.array([[90, 60, 170, 190]], np.float32),
        'keypoints': np.zeros((1, 17, 2), np.float32),
        'keypoints_visible': np.zeros((1, 17), np.float32),
        'flip_indices': list(range(17)),
    }
    if person is not None:
        results['person_bbox'] = np.array([person], np.float32)
    steps = [GetBBoxCenterScale(), RandomFlip(prob=1.0 if flip else 0.0)]
    for step in (*steps, TopdownAffine(input_size=(144, 192), use_udp=True)):
        results = step(results)
        if isinstance(step, RandomFlip):
            results['bbox_rotation'] = np.array([rotation], np.float32)
    return dict(PersonBoxTarget()(results))


@pytest.mark.parametrize('flip', [False, True])
def test_the_target_is_where_the_crop_shows_the_person(flip: bool) -> None:
    results = cropped(PERSON, flip=flip)
    inside = results['img'][..., 0] > 127
    x, y = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
    seen = np.array([x[0] / 143, y[0] / 191, (x[-1] + 1) / 143, (y[-1] + 1) / 191])
    np.testing.assert_allclose(results['person_box'][0].clip(0, 1), seen, atol=0.012)
    assert results['person_box_known'] == results['person_box_judged'] == [1]
    assert set(LABELS) <= set(results['label_mapping_table'])
    box = results['bbox'][0]  # the true box, whose area the OKS is measured by
    assert (box[2:] - box[:2]).tolist() == [60, 160]


def test_annotated_boxes_are_those_of_people() -> None:
    wanted = cropped((90, 60, 170, 190), flip=True)['person_box']
    annotated = cropped(None, flip=True)
    np.testing.assert_allclose(annotated['person_box'], wanted, atol=1e-6)
    assert annotated['person_box_known'] == [1]


@pytest.mark.parametrize(
    ('person', 'rotation', 'known', 'judged'),
    [
        pytest.param((np.nan,) * 4, 0.0, 0, 1, id='no person'),
        pytest.param((np.nan,) * 4, 30.0, 0, 1, id='no person, turned'),
        pytest.param(PERSON, 30.0, 0, 0, id='turned'),
        pytest.param(PERSON, 0.0, 1, 1, id='a person'),
    ],
)
def test_what_is_known_of_a_crop(person: Any, rotation: float, known: int, judged: int) -> None:
    results = cropped(person, rotation=rotation)
    assert (results['person_box_known'], results['person_box_judged']) == (known, judged)
    assert np.isfinite(results['person_box']).all()


def write_people(folder: Path) -> Path:
    """Two images as `prepare_compact_data.py` writes them, detections, keypoints."""
    images = [
        {'id': i, 'file_name': f'images/{i}.jpg', 'width': 320, 'height': 240} for i in (1, 2)
    ]
    people = [
        {'id': 1, 'image_id': 1, 'category_id': 1, 'iscrowd': 0, 'bbox': [100, 40, 60, 160]},
        {'id': 2, 'image_id': 1, 'category_id': 1, 'iscrowd': 1, 'bbox': [200, 0, 100, 100]},
    ]
    points = [120.0, 60.0, 2.0] * 5 + [0.0] * 36
    posed = [{**people[0], 'image_id': 7, 'keypoints': points, 'has_keypoints': True}]
    found = [
        ([105, 50, 60, 150], 0.9),  # the person
        ([0, 0, 30, 30], 0.4),  # no person
        ([210, 10, 50, 50], 0.5),  # inside the crowd region: unknown
    ]
    detections = [{'image_id': 1, 'category_id': 1, 'bbox': b, 'score': s} for b, s in found]
    named = [{'id': 7, 'file_name': 'elsewhere/1.webp', 'width': 320, 'height': 240}]
    files: dict[str, Any] = {
        'train.json': {'images': images, 'annotations': people},
        'keypoints.json': {'images': named, 'annotations': posed},
        'found.json': detections,
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def test_detections_are_paired_with_people_for_training(tmp_path: Path) -> None:
    folder = write_people(tmp_path)
    arguments = [str(folder), str(folder / 'found.json'), str(folder / 'out.json')]
    prepare_box_data.main([*arguments, '--keypoints', str(folder / 'keypoints.json')])
    rows = json.loads((folder / 'out.json').read_text())['annotations']
    assert [row['person_bbox'] for row in rows] == [[100, 40, 60, 160], None]
    assert [row['num_keypoints'] for row in rows] == [5, 0]
    dataset = DetectedPeopleDataset(
        ann_file=str(folder / 'out.json'), data_mode='topdown', pipeline=[]
    )
    assert len(dataset) == 2
    assert dataset[0]['bbox'].tolist() == [[105, 50, 165, 200]]
    assert dataset[0]['person_bbox'].tolist() == [[100, 40, 160, 200]]
    assert np.isnan(dataset[1]['person_bbox']).all()


def test_doubles_of_a_person_are_left_out_as_in_the_loop(tmp_path: Path) -> None:
    folder = write_people(tmp_path)
    found = json.loads((folder / 'found.json').read_text())
    found.append({**found[0], 'bbox': [102, 44, 60, 150], 'score': 0.95})
    (folder / 'found.json').write_text(json.dumps(found))
    arguments = [str(folder), str(folder / 'found.json'), str(folder / 'out.json')]
    arguments += ['--keypoints', str(folder / 'keypoints.json')]
    for limit, scores in (([], {0.9, 0.95, 0.4}), (['--max-iou', '0.5'], {0.95, 0.4})):
        prepare_box_data.main([*arguments, *limit])
        rows = json.loads((folder / 'out.json').read_text())['annotations']
        assert {row['score'] for row in rows} == scores


def test_wrong_files_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_people(tmp_path)
    other = [{'image_id': 99, 'category_id': 1, 'bbox': [0, 0, 9, 9], 'score': 0.5}]
    (folder / 'other.json').write_text(json.dumps(other))
    arguments = [str(folder), str(folder / 'other.json'), str(folder / 'out.json')]
    with pytest.raises(SystemExit):
        prepare_box_data.main([*arguments, '--keypoints', str(folder / 'keypoints.json')])
    assert '1 image ids are not in' in capsys.readouterr().err
    with pytest.raises(ValueError, match='no person_bbox'):
        DetectedPeopleDataset(
            ann_file=str(folder / 'keypoints.json'), data_mode='topdown', pipeline=[]
        )
