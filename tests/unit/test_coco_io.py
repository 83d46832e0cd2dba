from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from pipeline.datasets.coco_ground_truth import load_ground_truth
from pipeline.io.coco import select_task
from pipeline.structures import MaskSource, People
from tests.toy_people import people_in, person, toy_annotations, write

PAIR = [(10, 20, 60, 180), (40, 15, 100.126, 190)]


def test_one_json_dict_per_person_with_every_documented_key() -> None:
    results = people_in(PAIR, (200, 300)).to_coco(12)
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    assert set(results[0]) == {
        'image_id', 'category_id', 'person_id', 'bbox', 'score', 'segmentation', 'area',
        'keypoints', 'keypoint_scores', 'keypoint_visibility', 'keypoint_presence', 'box_score',
        'mask_score', 'pose_score', 'detector_bbox', 'round', 'mask_source', 'prompt_keypoints',
    }  # fmt: skip
    assert results[1]['bbox'] == [40.0, 15.0, 60.13, 175.0]
    assert [r['score'] for r in results] == [0.9, 0.5]
    assert results[0]['image_id'] == 12 and results[0]['category_id'] == 1
    assert len(results[0]['keypoints']) == 51
    assert results[0]['keypoints'][:3] == [35.0, 32.8, 0.8]
    assert results[0]['pose_score'] == 0.8
    assert [r['area'] for r in results] == [coco_mask.area(r['segmentation']) for r in results]


def test_fallbacks_rounds_and_prompts_are_named() -> None:
    people = dataclasses.replace(
        people_in(PAIR, (200, 300), points=23),
        mask_sources=np.array([MaskSource.DETECTOR, MaskSource.BOX], np.int32),
        rounds=np.array([1, 2], np.int32),
        prompts=np.array([[0, 5, 18] + [-1] * 20, [-1] * 23], np.int32),
    )
    keys = ('image_id', 'mask_source', 'round', 'prompt_keypoints')
    assert [[row[key] for key in keys] for row in people.to_coco('beach.jpg')] == [
        ['beach.jpg', 'detector', 1, ['nose', 'left_shoulder', 'keypoint_18']],
        ['beach.jpg', 'box', 2, []],
    ]


def test_17_keypoints_of_coco_and_further_ones_are_written() -> None:
    keys = ('keypoints', 'keypoint_scores', 'keypoint_presence', 'extra_keypoints')
    for points, lengths in ((17, [51, 17, 17, 0]), (23, [51, 17, 17, 18]), (14, [42, 14, 14, 0])):
        row = people_in(PAIR, (200, 300), points=points).to_coco(0)[0]
        assert [len(row.get(key, ())) for key in keys] == lengths
    assert People.empty(200, 300).to_coco(0) == []


def test_for_task_keeps_the_size_of_the_mask_and_the_given_dicts(tmp_path: Path) -> None:
    ground_truth = COCO(write(tmp_path / 'ground_truth.json', toy_annotations()))
    results = people_in([(10, 10, 110, 110)], (200, 300)).to_coco(7)
    before = copy.deepcopy(results)
    narrow = ground_truth.loadRes(select_task(results, 'segm'))
    assert results == before
    assert narrow.anns[1]['area'] == results[0]['area'] == 98 * 98
    assert ground_truth.loadRes(results).anns[1]['area'] == 100 * 100  # the area of the box


def test_ground_truth_is_read_as_people(tmp_path: Path) -> None:
    images = load_ground_truth(write(tmp_path / 'toy.json', toy_annotations()))
    assert [(p.image_id, p.file_name, len(p.people), p.num_crowds) for p in images] == [
        (7, '7.jpg', 2, 1), (3, '3.jpg', 3, 0), (9, '9.jpg', 0, 0),
    ]  # fmt: skip
    people = images[0].people
    assert (images[0].height, images[0].width) == people.image_shape == (200, 300)
    np.testing.assert_array_equal(people.boxes[0], [20, 30, 80, 180])
    np.testing.assert_array_equal(people.keypoint_scores[0, :5], [1, 1, 1, 1, 0])
    np.testing.assert_array_equal(people.presence[0, :5], [1, 1, 1, 1, 0])
    np.testing.assert_array_equal(people.visibility[0, :5], [1, 0, 1, 1, 0])
    np.testing.assert_array_equal(people.keypoints[0, 4], [50, 105])  # not labelled: mid of box
    assert people.masks.areas.tolist() == [60 * 150, 62 * 150]
    assert set(people.scores) == set(people.mask_scores) == {1}
    assert set(people.prompts.ravel()) == {-1} and set(people.rounds) == {1}


def test_ground_truth_reads_rle_masks_and_files_without_keypoints(tmp_path: Path) -> None:
    content = toy_annotations()
    crowd = content['annotations'][2] | {'iscrowd': 0}
    del crowd['keypoints']
    content['annotations'] = [crowd, person(9, 7, [0, 0, 10, 10], segmentation=[])]
    people = load_ground_truth(write(tmp_path / 'toy.json', content))[0].people
    assert people.masks.areas.tolist() == [10000, 0]
    assert people.keypoint_scores[0].sum() == 0


def test_ground_truth_of_crowdpose_has_the_limbs(tmp_path: Path) -> None:
    content = toy_annotations()
    points = [v for i in range(14) for v in (100 + i, 50 + i, i % 3)]
    content['annotations'] = [person(1, 7, [90, 40, 40, 60], keypoints=points)]
    del content['annotations'][0]['segmentation'], content['annotations'][0]['area']
    people = load_ground_truth(write(tmp_path / 'toy.json', content))[0].people
    assert people.masks.areas.tolist() == [0]
    assert people.keypoint_scores[0].tolist() == [0] * 5 + [0, 1, 1] * 4
    np.testing.assert_array_equal(people.keypoints[0, 0], [110, 70])  # the middle of the box
    np.testing.assert_array_equal(people.keypoints[0, 6], [101, 51])
    np.testing.assert_array_equal(people.visibility[0, 5:8], [0, 0, 1])


@pytest.mark.parametrize('name', ['person_keypoints.json', 'crowd_masks.json'])
def test_annotations_are_read(name: str, samples: Path) -> None:
    content = json.loads((samples / 'dev' / name).read_text())
    rows = [row for row in content['annotations'] if not row['iscrowd']]
    images = load_ground_truth(samples / 'dev' / name)
    assert len(images) == len(content['images'])
    assert sum(len(p.people) for p in images) == len(rows) > 0
    assert sum(p.num_crowds for p in images) == len(content['annotations']) - len(rows) > 0
    labelled = sum(int((p.people.keypoint_scores.sum(1) > 0).sum()) for p in images)
    assert labelled == sum(row.get('num_keypoints', 0) > 0 for row in rows)
    for image in images:
        # Annotated box and mask agree within the width of a polygon's line.
        assert np.abs(image.people.masks.boxes - image.people.boxes).max(initial=0) < 12
