"""Prompt rules that the reference does not have or gets wrong."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.masks import Masks
from pipeline.segmenters.prompts import PromptConfig, make_prompts
from pipeline.structures import Poses

K = 17


def people(visibility: np.ndarray, offset: float = 0.0) -> Poses:
    n = len(visibility)
    points = np.stack([np.arange(K) * 3.0 + offset, np.arange(K) * 5.0], -1)
    boxes = np.array([[offset, 0, 60 + offset, 90]], np.float32).repeat(n, 0)
    scores = np.linspace(1, 0.2, K, dtype=np.float32)[None].repeat(n, 0)
    return Poses(
        boxes, np.ones(n, np.float32), Masks.empty(200, 200, n),
        points[None].repeat(n, 0).astype(np.float32), scores, scores, visibility.astype(np.float32),
    )  # fmt: skip


NOBODY = people(np.zeros((0, K)))


def test_three_most_visible_in_order() -> None:
    visibility = np.full((1, K), 0.1)
    visibility[0, [4, 9, 2, 7]] = [0.7, 0.9, 0.6, 0.8]
    prompts = make_prompts(people(visibility), NOBODY, PromptConfig())
    assert prompts.keypoints[0, :4].tolist() == [9, 7, 4, -1]
    assert prompts.labels.tolist() == [[1, 1, 1]]


def test_one_visible_keypoint_is_enough_and_none_gives_no_prompt() -> None:
    visibility = np.zeros((2, K))
    visibility[0, 5] = 0.9
    prompts = make_prompts(people(visibility), NOBODY, PromptConfig(num_negative=2))
    assert prompts.num_points.tolist() == [1, 0]
    assert not prompts.has_box.any()


@pytest.mark.parametrize(
    ('settings', 'number'),
    [
        ({}, 17),
        ({'confidence_threshold': 0.6}, 8),  # above it
        ({'presence_threshold': 0.6}, 9),  # at least this
        ({'presence_threshold': 0.6, 'visibility_threshold': 0.0}, 9),
    ],
)
def test_thresholds_of_confidence_and_presence(settings: dict[str, float], number: int) -> None:
    poses = people(np.ones((1, K)))  # both fall from 1 to 0.2, and keypoint 8 has 0.6
    config = PromptConfig(num_keypoints=17, **settings)
    chosen = make_prompts(poses, NOBODY, config).keypoints[0]
    assert set(chosen[chosen >= 0].tolist()) == set(range(number))


def test_crowding_changes_count_and_box_of_the_crowded_only() -> None:
    config = PromptConfig(num_keypoints=2, num_keypoints_in_crowd=5, crowd_iou=0.5, use_box=True)
    crowded = make_prompts(people(np.ones((2, K))), NOBODY, config)
    assert crowded.num_points.tolist() == [5, 5]
    assert not crowded.has_box.any()
    by_others = make_prompts(people(np.ones((1, K))), people(np.ones((1, K))), config)
    assert by_others.num_points.tolist() == [5]
    alone = make_prompts(people(np.ones((1, K))), people(np.ones((1, K)), 100), config)
    assert alone.num_points.tolist() == [2]
    assert alone.has_box.all()
