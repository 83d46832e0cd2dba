"""Models of MMPose and MMDetection in the loop keep their keypoints and give valid results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import ConfigError
from pipeline.io.coco_people import people_from_coco
from pipeline.io.records import people_from_record, people_to_record
from pipeline.keypoints import COCO_17
from pipeline.structures import People
from tests.model_table import (
    BOTTOM_UP,
    DETECTORS,
    IMAGE,
    POSES,
    detector_row,
    load,
    pose_row,
    run_detector,
    run_pose,
)

PAGE = (Path(__file__).parents[2] / 'docs/user_guide/openmmlab.md').read_text()


def check(people: People) -> None:
    assert 1 <= len(people) <= 4
    for name in ('boxes', 'keypoints', 'keypoint_scores', 'visibility', 'scores', 'mask_scores'):
        assert np.isfinite(getattr(people, name)).all(), name
    assert people.masks.areas.sum() == people.masks.union().sum()  # no pixel has two owners
    record = json.loads(json.dumps(people_to_record(people)))
    again = people_from_record(record)
    assert people_to_record(again) == record
    assert again.keypoint_set.names == people.keypoint_set.names
    drawn = again.draw(IMAGE)
    assert (drawn != IMAGE).any() and (drawn == people.draw(IMAGE)).all()
    assert len(people_from_coco(people.to_coco(), *IMAGE.shape[:2])) == len(people)


@pytest.mark.parametrize('name', POSES)
def test_pose_models(name: str) -> None:
    config, count = POSES[name]
    people = run_pose(config)
    check(people)
    assert people.keypoints.shape[1:] == (count, 2)
    assert people.keypoint_set.num == count == len(set(people.keypoint_set.names))
    assert (people.prompts < count).all() and (people.prompts[:, 0] >= 0).all()
    assert pose_row(name, people) in PAGE


@pytest.mark.parametrize('name', DETECTORS)
def test_detectors(name: str, tmp_path: Path) -> None:
    config, has_masks = DETECTORS[name]
    people = run_detector(config, tmp_path)
    check(people)
    assert people.detector_masks.areas.any() == has_masks
    assert detector_row(name, people) in PAGE


@pytest.mark.parametrize('name', BOTTOM_UP)
def test_bottom_up_models_are_refused_when_they_load(name: str) -> None:
    with pytest.raises(ConfigError, match=r'is a bottom-up model .* needs a top-down model'):
        load(**{'pose.config': BOTTOM_UP[name]})


def test_coco17_needs_the_keypoints_of_coco() -> None:
    options = {'pose.config': POSES['MobileNetV2, MPII'][0], 'pose.keypoints': 'coco17'}
    with pytest.raises(ConfigError, match=r"pose.keypoints = 'coco17', but .* no nose, left_eye"):
        load(**options)
    people = run_pose(POSES['RTMPose-t, Halpe'][0], **{'pose.keypoints': 'coco17'})
    assert people.keypoint_set is COCO_17 and people.num_keypoints == 17
