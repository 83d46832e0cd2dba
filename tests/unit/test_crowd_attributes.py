"""Attributes of the people of an image, against drawn crowds and simple skeletons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.crowd.attributes import (
    GroundSource,
    compute_crowd_index,
    find_orientations,
    measure_people,
)
from pipeline.crowd.occlusion import Bodies, find_occlusion
from pipeline.keypoints import KeypointSet
from pipeline.masks import Masks
from pipeline.structures import People
from pipeline.synthetic.scene import SceneConfig, make_scene
from tests.crowds import oracle_people, score_occlusion

# An upright person of 100 px that faces the camera, ankles at (50, 96).
FRONT = np.array([
    (50, 8), (52, 6), (48, 6), (54, 8), (46, 8), (63, 20), (37, 20), (66, 38), (34, 38), (66, 52),
    (34, 52), (58, 49), (42, 49), (58, 73), (42, 73), (58, 96), (42, 96),
], np.float32)  # fmt: skip


def at(x: float, y: float) -> np.ndarray:
    return FRONT + np.array((x, y), np.float32)


def make_people(
    points: np.ndarray, masks: list[tuple[int, int, int, int]], shape: tuple[int, int] = (200, 300)
) -> People:
    """People with skeletons (N, 17, 2); masks are rectangles xyxy, the first one in front."""
    number, one = len(points), np.ones(len(points), np.float32)
    owner = np.zeros(shape, int)
    for i, (x1, y1, x2, y2) in reversed(list(enumerate(masks))):
        owner[y1:y2, x1:x2] = i + 1
    bitmaps = Masks.from_dense([owner == i + 1 for i in range(number)], shape)
    x, y = np.clip(points.astype(int), 0, (shape[1] - 1, shape[0] - 1)).transpose(2, 0, 1)
    visible = (owner[y, x] == np.arange(1, number + 1)[:, None]).astype(np.float32)
    ones, none = np.ones((number, 17), np.float32), np.zeros(number, np.int32)
    boxes = np.array(masks, np.float32).reshape(-1, 4)
    return People(
        boxes, one, bitmaps, points, ones, ones, visible, bitmaps, one, none,
        np.full((number, 17), -1, np.int32), boxes, none + 1, one,
    )  # fmt: skip


@pytest.mark.parametrize(('number', 'seed'), [(20, 1), (60, 0)])
def test_drawn_crowds(number: int, seed: int) -> None:
    config = SceneConfig(
        width=1280, height=800, min_people=number, max_people=number, min_person_height=0.12,
        max_person_height=0.35, overlap=0.6, seed=seed, noise=0,
    )  # fmt: skip
    scene = make_scene(config)
    table, occlusion = measure_people(oracle_people(scene))
    hits, wrong, missed, right, pairs = score_occlusion(
        scene, occlusion.hides, table.depth_order, 0.02
    )
    assert 2 * hits / (2 * hits + wrong + missed) >= 0.95
    assert right / pairs >= 0.95 and pairs > number
    assert np.nanmean(np.abs(table.visible_fraction - scene.visible_fractions)) <= 0.05
    apart = np.linalg.norm(table.ground_px - scene.ground_points, axis=1) / scene.standing_heights
    assert np.nanmean(apart) <= 0.05 and np.isfinite(apart).mean() > 0.85
    assert np.nanmedian(np.abs(table.height_px / scene.standing_heights - 1)) < 0.1
    assert not occlusion.cycles


def test_ground_points_say_where_they_come_from() -> None:
    cases = {
        'both ankles': (at(100, 50), (134, 50, 166, 152), GroundSource.ANKLES),
        'feet covered': (at(10, 20), (44, 20, 76, 90), GroundSource.COVERED),
    }
    for name, (points, mask, source) in cases.items():
        table, _ = measure_people(make_people(points[None], [mask]))
        assert table.ground_sources.tolist() == [source], name
        assert table.ground_px[0] == pytest.approx(
            points[15:].mean(0) + np.array((0, 3.7)), abs=0.5
        ), name
    away = replace(make_people((at(100, 50))[None], [(134, 50, 166, 152)]))
    away.presence[:, 15:] = 0
    table, _ = measure_people(away)
    assert table.ground_sources.tolist() == [GroundSource.MASK]
    assert table.ground_px.tolist() == [[150, 152]]
    bottom = make_people((at(100, 150))[None], [(134, 150, 166, 200)])
    table, _ = measure_people(bottom)
    assert table.ground_sources.tolist() == [GroundSource.NONE]
    assert np.isnan(table.ground_px).all()


def test_a_person_in_front_hides_the_one_behind() -> None:
    points = np.stack([at(40, 60), at(60, 50)])
    people = make_people(points, [(70, 60, 110, 160), (90, 50, 130, 150)])
    table, occlusion = measure_people(people, image=7, seconds=0.5)
    assert table.occluders.tolist() == [(), (1,)] and table.occluded.tolist() == [(2,), ()]
    assert table.depth_order.tolist() == [0, 1]
    assert occlusion.graph.edges == {(1, 2)}
    assert table.visible_fraction[0] == 1 and 0.3 < table.visible_fraction[1] < 0.8
    assert table.neighbours.tolist() == [1, 1] and table.max_iou[0] > 0.2
    assert table.images.tolist() == [7, 7] and table.track_ids.tolist() == [-1, -1]


def test_circles_of_occlusion_are_named() -> None:
    points = np.stack([at(40, 60), at(60, 60)])
    people = make_people(points, [(70, 60, 110, 110), (70, 110, 130, 160)])
    lower = Masks.from_boxes(np.array([(70, 60, 130, 110), (70, 110, 130, 160)], np.float32),
                             people.image_shape)  # fmt: skip
    people = replace(people, masks=lower)
    occlusion = find_occlusion(people, Bodies.of(people), np.full(2, np.nan))
    assert occlusion.cycles == [[1, 2]]
    assert sorted(occlusion.depth_order.tolist()) == [0, 1]


@pytest.mark.parametrize(
    ('name', 'width', 'nose', 'expected'),
    [
        ('front', 1.0, 0, 0),
        ('to the right of the image', 0.0, 6, 90),
        ('to the left of the image', 0.0, -6, -90),
        ('back', -1.0, 0, 180),
        ('half right', 0.5, 4, 60),
    ],
)
def test_orientation(name: str, width: float, nose: float, expected: float) -> None:
    points = at(100, 50)
    points[[5, 6], 0] = 150 + np.array([0.5, -0.5]) * width * 25.8
    points[:5, 0] += nose
    people = make_people(points[None].astype(np.float32), [(134, 50, 166, 152)])
    angle = find_orientations(replace(Bodies.of(people), heights=np.array([100.0])))
    assert angle == pytest.approx([expected], abs=2), name


def test_missing_evidence_gives_empty_values_and_nobody_an_empty_table() -> None:
    people = make_people((at(100, 50))[None], [(134, 50, 166, 152)])
    people.presence[:] = 0
    table, _ = measure_people(people)
    for column in (table.head_px, table.height_px, table.orientation_deg, table.visible_fraction,
                   table.neighbours, table.density_per_height2, table.ground_m):  # fmt: skip
        assert np.isnan(column).all()
    assert table.ground_sources.tolist() == [GroundSource.MASK]
    bare = make_people(at(100, 50)[None], [(134, 50, 166, 152)])
    table, _ = measure_people(replace(bare, masks=Masks.empty(200, 300, 1)))
    assert np.isnan(table.visible_fraction).all() and table.height_px[0] > 90
    nobody, occlusion = measure_people(People.empty(10, 20))
    assert len(nobody) == 0 and occlusion.cycles == []
    assert np.isnan(compute_crowd_index(People.empty(10, 20)))


def test_crowd_index_counts_the_joints_of_others_in_each_box() -> None:
    points = np.stack([at(40, 60), at(200, 60)])
    alone = make_people(points, [(70, 60, 110, 160), (230, 60, 270, 160)])
    assert compute_crowd_index(alone) == 0
    same = make_people(np.stack([points[0]] * 2), [(70, 60, 110, 160)] * 2)
    assert compute_crowd_index(same) == 1


def test_other_keypoints_are_refused() -> None:
    hands = KeypointSet('hand', ('wrist',), np.ones(1))
    people = replace(People.empty(10, 20, 1), keypoint_set=hands)
    with pytest.raises(ValueError, match=r'17 keypoints of COCO; .* hand'):
        measure_people(people)
