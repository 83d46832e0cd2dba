"""Parts that need no model: the crowd, the clocks, decisions of the reference's loop."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.loop import LoopConfig
from pipeline.masks import LogitMasks, Masks, assign_pixels
from pipeline.nms import keep_distinct_poses
from pipeline.structures import Poses
from projects.reference_schedule.case import Case, Seconds
from projects.reference_schedule.crowd import make_crowd
from projects.reference_schedule.reference_loop import _distinct, _resolve_overlaps, _with_fallback


@pytest.mark.parametrize(
    ('width', 'height', 'people'), [(160, 120, 1), (320, 240, 7), (640, 480, 60), (300, 600, 12)]
)
def test_a_crowd_agrees_with_its_image(width: int, height: int, people: int) -> None:
    crowd = make_crowd(width, height, people, rounds=2)
    assert crowd.image.shape == (height, width, 3) and len(crowd) == people
    owners = sum(crowd.masks.dense(i).astype(int) for i in range(people))
    assert np.asarray(owners).max() == 1
    np.testing.assert_array_equal(crowd.boxes, crowd.masks.boxes)
    assert (crowd.visible.sum(1) >= 3).all()
    for i in range(people):
        x, y = np.floor(crowd.keypoints[i, crowd.visible[i]]).astype(int).T
        assert crowd.masks.dense(i)[y, x].all()
    rounds = crowd.detections()
    assert sum(map(len, rounds)) == people
    rows = np.concatenate([crowd.rows_of(people_of_round.boxes) for people_of_round in rounds])
    assert sorted(rows.tolist()) == list(range(people))


def test_equal_seeds_give_equal_crowds() -> None:
    one, same, other = (make_crowd(160, 120, 4, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.image, same.image)
    np.testing.assert_array_equal(one.keypoints, same.keypoints)
    assert (one.image != other.image).any()


def test_a_crowd_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match='hidden by others'):
        make_crowd(64, 48, 60, tall=48)


def test_medians_of_both_clocks() -> None:
    rows = [Seconds(1, 10), Seconds(3, 20), Seconds(2, 60)]
    assert Seconds.median(rows) == Seconds(2, 20)


@pytest.mark.parametrize('name', ['people', 'rounds', 'width', 'threads'])
def test_a_case_names_what_is_wrong(name: str) -> None:
    with pytest.raises(ValueError, match=f'{name} must be >= 1, got 0'):
        Case(**{name: 0})  # type: ignore[arg-type]


def poses(n: int, seed: int) -> Poses:
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 60, (n, 17, 2)).astype(np.float32)
    points[n // 2 :] = points[: n - n // 2] + 0.5  # doubles
    low = points.min(1)
    scores = rng.uniform(0, 1, (n, 17)).astype(np.float32)
    scores[0] = 0  # sure of nothing
    return Poses(
        np.concatenate([low, points.max(1)], 1), rng.uniform(0.3, 1, n).astype(np.float32),
        Masks.empty(60, 60, n), points, scores, scores, scores,
    )  # fmt: skip


def test_pair_by_pair_suppression_agrees_with_the_package() -> None:
    for seed in range(5):
        old, new = poses(4, seed), poses(9, seed + 10)
        result = keep_distinct_poses(old, new, LoopConfig().pose_nms)
        reference = _distinct(old, new, LoopConfig())
        assert len(result[1]) < 9
        for one, other in zip(result, reference, strict=True):
            np.testing.assert_array_equal(one, other)


def test_dense_overlap_resolution_agrees_with_the_package() -> None:
    rng = np.random.default_rng(0)
    dense = rng.normal(0, 3, (5, 20, 30)).astype(np.float16)
    package = assign_pixels(LogitMasks.from_crops(20, 30, [(0, 0, d) for d in dense]))
    reference = _resolve_overlaps(dense.astype(np.float32))
    for i in range(5):
        np.testing.assert_array_equal(package.dense(i), reference[i])


def test_people_without_a_mask_get_the_detectors_or_their_box() -> None:
    logits = np.full((3, 10, 12), -1, np.float32)
    logits[0, 2:4, 2:4] = 5
    detector = np.zeros((3, 10, 12), bool)
    detector[1, 5:8, 1:6] = True
    boxes = np.array([[0, 0, 3, 3], [0, 0, 3, 3], [7.4, 1, 11, 4.2]], np.float32)
    filled = _with_fallback(logits, detector, boxes) > 0
    assert filled[0].sum() == 4
    np.testing.assert_array_equal(filled[1], detector[1])
    np.testing.assert_array_equal(filled[2], Masks.from_boxes(boxes[2:], (10, 12)).dense(0))
