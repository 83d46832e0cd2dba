"""Differences between the results of two settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pycocotools.mask
import pytest

from projects.studies.tools.study_speed import compare


def person(image: int, x: int, shift: float = 0.0, score: float = 1.0) -> dict[str, Any]:
    mask = np.zeros((100, 100), np.uint8, order='F')
    mask[10:50, x : x + 20] = 1
    keypoints = np.array([[x + shift, 10, score], [x, 20, 0.1]])
    return {
        'image_id': image, 'bbox': [x, 10, 20, 40], 'keypoints': keypoints.ravel().tolist(),
        'segmentation': pycocotools.mask.encode(mask),
    }  # fmt: skip


def test_people_are_paired_by_box_and_sure_keypoints_compared() -> None:
    old = [person(1, 0), person(1, 60), person(2, 5), person(3, 5)]
    new = [person(1, 60, shift=3), person(1, 5, shift=1), person(2, 70)]
    found = compare(old, new)
    assert (found.people, found.paired) == (3, 2)  # of image 2 no box overlaps
    assert [found.box_iou, found.mask_iou] == pytest.approx([0.8, 0.8])  # of 1 and 15 / 25
    assert found.keypoints[0] == pytest.approx((3 + 6) / 2)  # not those below the score
