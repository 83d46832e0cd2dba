"""Identities: motion model, association of people, gaps."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from pipeline.arrays import Floats, Image
from pipeline.masks import Masks
from pipeline.structures import People
from pipeline.tracking.association import AssociationConfig, AssociationTracker
from pipeline.tracking.camera import CameraMotion
from pipeline.tracking.motion import MotionConfig, MotionModel
from pipeline.tracking.observations import Observations, color_histograms, mask_similarity
from pipeline.tracking.tracks import FinishConfig, TrackRows, finish_tracks

SHAPE = (120, 400)
RED, BLUE = (200, 30, 30), (30, 30, 200)


def make_people(boxes: list[list[float]], scores: list[float] | None = None) -> People:
    """People whose masks fill their boxes, without keypoints."""
    n = len(boxes)
    rows: Floats = np.array(boxes, np.float32).reshape(-1, 4)
    one = np.ones(n, np.float32)
    rates = one if scores is None else np.array(scores, np.float32)
    masks, none = Masks.from_boxes(rows, SHAPE), np.zeros((n, 17), np.float32)
    return People(
        rows, rates, masks, np.zeros((n, 17, 2), np.float32), none, none, none, masks, one,
        np.zeros(n, np.int32), np.full((n, 17), -1, np.int32), rows, np.ones(n, np.int32),
        rates,
    )  # fmt: skip


def paint(boxes: list[list[float]], colors: list[tuple[int, int, int]]) -> Image:
    image = np.full((*SHAPE, 3), 90, np.uint8)
    for (x1, y1, x2, y2), color in zip(np.array(boxes, int).tolist(), colors, strict=True):
        image[max(y1, 0) : y2, max(x1, 0) : x2] = color
    return image


def box(x: float, y: float = 20) -> list[float]:
    return [x, y, x + 30, y + 80]


def track(
    scenes: list[dict[str, list[float]]], config: AssociationConfig | None = None
) -> list[dict[str, int]]:
    """Run a tracker on frames of named boxes; names that start with r are red, others blue."""
    tracker, result = AssociationTracker(config), []
    for index, scene in enumerate(scenes):
        boxes = list(scene.values())
        image = paint(boxes, [RED if name.startswith('r') else BLUE for name in scene])
        ids = tracker.update(make_people(boxes), image, index / 10)
        result.append(dict(zip(scene, ids.tolist(), strict=True)))
    return result


def test_crossing_people_keep_their_ids() -> None:
    scenes = [{'red': box(20 + 12 * i), 'blue': box(320 - 12 * i, 24)} for i in range(25)]
    ids = track(scenes)
    assert {(i['red'], i['blue']) for i in ids} == {(1, 2)}


def test_a_hidden_person_is_found_again() -> None:
    """The person walks on behind a wider one for 1.2 seconds."""
    scenes = []
    for i in range(30):
        scene = {'blue': [150.0, 10, 250, 110]}
        x = 60 + 8.0 * i
        if not 145 < x < 225:
            scene['red'] = box(x)
        scenes.append(scene)
    ids = [i['red'] for i in track(scenes) if 'red' in i]
    assert set(ids) == {ids[0]}


def test_people_who_merge_into_one_detection_keep_their_ids() -> None:
    """While they cross, the one detection goes over from the walking to the standing person."""
    places = [[100, 200 - 8 * i] for i in range(24)]
    places[10:16] = [[x] for x in (118, 112, 108, 104, 102, 100)]
    tracker, ids = AssociationTracker(), []
    for i, columns in enumerate(places):
        rows = [box(x) for x in columns]
        found = tracker.update(make_people(rows), paint(rows, [RED] * len(rows)), i / 10)
        ids.append(found.tolist())
    assert ids[9] == ids[23] == [1, 2]


def test_a_track_ends_when_it_is_lost_for_too_long() -> None:
    scenes: list[dict[str, list[float]]] = [{'red': box(100)}] * 5 + [{}] * 30 + [{'red': box(100)}]
    ids = track(scenes)
    assert ids[4]['red'] == 1
    assert ids[-1]['red'] == 2


def test_colors_separate_people_who_swap_places_unseen() -> None:
    """Motion alone would keep the ids at their places."""
    before = {'red': box(100), 'blue': box(140)}
    after = {'red': box(140), 'blue': box(100)}
    ids = track([before] * 6 + [{}] * 4 + [after] * 2)
    assert ids[-1] == ids[0]


@pytest.mark.parametrize(
    ('score', 'expected'), [(0.9, 1), (0.35, 1), (0.2, -1)], ids=['high', 'low', 'ignored']
)
def test_low_scores_continue_tracks(score: float, expected: int) -> None:
    tracker = AssociationTracker()
    image = paint([box(100)], [RED])
    for i in range(4):
        tracker.update(make_people([box(100)]), image, i / 10)
    assert tracker.update(make_people([box(100)], [score]), image, 0.4).tolist() == [expected]


def test_low_scores_start_no_track() -> None:
    tracker = AssociationTracker()
    image = paint([box(100)], [RED])
    for i in range(4):
        ids = tracker.update(make_people([box(100)], [0.35]), image, i / 10)
    assert ids.tolist() == [-1]


def test_frames_without_people() -> None:
    tracker = AssociationTracker()
    for i in range(3):
        assert tracker.update(make_people([]), paint([], []), i / 10).shape == (0,)


def test_motion_predicts_a_constant_velocity() -> None:
    model = MotionModel(MotionConfig())
    model.add(np.array([[0, 0, 40, 100]], np.float32))
    for i in range(1, 30):
        model.predict(0.1, np.zeros(1, bool))
        model.update(
            np.array([0]), np.array([[5.0 * i, 0, 40 + 5.0 * i, 100]], np.float32), np.ones(1)
        )
    model.predict(0.1, np.zeros(1, bool))
    np.testing.assert_allclose(model.boxes[0], [150, 0, 190, 100], atol=1)
    before = model.covariances.copy()
    model.predict(1.0, np.ones(1, bool))
    assert model.boxes[0, 0] == pytest.approx(150 + 50 * np.exp(-1.0 / 3.8), abs=3)
    assert model.covariances[0, 0, 0] > before[0, 0, 0]


def test_camera_motion_moves_boxes_and_velocities() -> None:
    model = MotionModel(MotionConfig())
    model.add(np.array([[10, 20, 30, 60]], np.float32))
    model.velocities[:] = 4
    model.warp(np.array([[2.0, 0, 5], [0, 2.0, -3]]))
    np.testing.assert_allclose(model.boxes[0], [25, 37, 65, 117])
    np.testing.assert_allclose(model.velocities[0], 8)


def test_masks_are_compared_after_the_shift() -> None:
    people = make_people([[10, 10, 30, 50], [100, 10, 120, 50]])
    rows = Observations.collect(people, paint([], []))
    pairs = np.array([0, 0]), np.array([1, 1])
    shifts = np.array([[90, 0], [100, 0]], np.float32)
    expected = [1.0, 10 * 40 / (30 * 40)]
    np.testing.assert_allclose(mask_similarity(rows, rows, pairs, shifts), expected)


def test_equal_colors_have_similarity_one() -> None:
    boxes = [box(10), box(60), box(110)]
    image = paint(boxes, [RED, RED, BLUE])
    rows = color_histograms(image, make_people(boxes).masks)
    np.testing.assert_allclose(rows @ rows.T, [[1, 1, 0], [1, 1, 0], [0, 0, 1]], atol=1e-6)


def texture(shift: int) -> Image:
    rng = np.random.default_rng(0)
    wide = np.repeat(np.repeat(rng.integers(0, 255, (30, 160, 3), np.uint8), 4, 0), 4, 1)
    return np.ascontiguousarray(wide[:, shift : shift + SHAPE[1]])


def test_the_camera_motion_is_estimated() -> None:
    camera = CameraMotion()
    none = np.zeros((0, 4), np.float32)
    camera.update(texture(40), none)
    transform, cut = camera.update(texture(46), none)
    assert not cut
    np.testing.assert_allclose(transform, [[1, 0, -6], [0, 1, 0]], atol=0.3)


def test_a_still_person_keeps_the_id_while_the_camera_pans() -> None:
    """The person jumps by a body width a frame in the image."""
    tracker, result = AssociationTracker(), []
    for i in range(6):
        image, place = texture(i * 20).copy(), box(300 - 20 * i)
        image[20:100, 300 - 20 * i : 330 - 20 * i] = RED
        result.append(tracker.update(make_people([place]), image, i / 10).tolist())
    assert result == [[1]] * 6


def test_tracks_end_at_a_cut() -> None:
    tracker = AssociationTracker()
    places = [box(100)]
    for i in range(4):
        tracker.update(make_people(places), paint(places, [RED]), i / 10)
    other = 255 - paint(places, [RED])
    other[20:100, 100:130] = RED
    assert tracker.update(make_people(places), other, 0.4).tolist() == [2]


def rows_of(track_id: int, frames: list[int], score: float = 0.9) -> TrackRows:
    n = len(frames)
    index = np.array(frames)
    boxes = np.stack([10.0 * index, 0 * index, 10.0 * index + 30, 0 * index + 80], axis=1)
    return TrackRows(
        index, index / 10, np.full(n, track_id), boxes.astype(np.float32),
        np.full(n, score, np.float32), np.zeros(n, np.int32),
    )  # fmt: skip


@pytest.mark.parametrize(
    ('frames', 'expected'),
    [
        ([0, 1, 2, 6, 7], [0, 1, 2, 3, 4, 5, 6, 7]),
        ([0, 1, 2, 20, 21], [0, 1, 2, 20, 21]),
        ([0, 1], []),
    ],
    ids=['short gap', 'long gap', 'too short'],
)
def test_gaps(frames: list[int], expected: list[int]) -> None:
    every = np.arange(30)
    done = finish_tracks(rows_of(4, frames), every, every / 10, FinishConfig(3, 0.0, 1.5))
    assert done.frames.tolist() == expected
    np.testing.assert_allclose(done.boxes[:, 0], 10.0 * done.frames, rtol=1e-5)
    assert ((done.person_rows == -1) == ~np.isin(done.frames, frames)).all()


def test_doubtful_tracks_are_dropped() -> None:
    """The best quarter of the scores decides: people are often seen badly, but not always."""
    every = np.arange(10)
    rows = rows_of(1, [0, 1, 2, 3], 0.55).concat(rows_of(2, [0, 1, 2], 0.3))
    rows = rows.concat(rows_of(2, [3], 0.8))
    done = finish_tracks(rows, every, every / 10, FinishConfig(min_detections=3))
    assert set(done.track_ids.tolist()) == {2}


@pytest.mark.parametrize(
    ('bottom', 'max_covered', 'filled'),
    [(90, 1.0, True), (90, 0.5, False), (90, 0.95, True), (70, 0.5, True)],
    ids=['all', 'covered', 'little covered', 'behind'],
)
def test_boxes_of_covered_people_are_not_filled_in(
    bottom: float, max_covered: float, filled: bool
) -> None:
    """Row 2 of track 1 is missing; 28 of its 30 columns lie in a box that ends at ``bottom``."""
    rows, other = rows_of(1, [0, 1, 3, 4]), rows_of(2, [0, 1, 2, 3, 4])
    other.boxes[:] = [22, -20, 60, bottom]
    every = np.arange(5)
    config = FinishConfig(min_detections=1, max_covered=max_covered)
    done = finish_tracks(rows.concat(other), every, every / 10, config)
    assert (2 in done.frames[done.track_ids == 1]) == filled


def test_a_new_track_survives_a_missing_detection() -> None:
    scenes: list[dict[str, list[float]]] = [{}, {'red': box(100)}, {}, {'red': box(102)}]
    ids = track(scenes)
    assert ids[1] == ids[3]


def test_a_track_of_long_ago_does_not_win_by_its_unknown_shape() -> None:
    """Two equal people meet where one of them was hidden; the one who was there keeps the id."""
    scenes = [{'red 1': box(100), 'red 2': box(118)}] * 6
    scenes += [{'red 1': box(100 + i)} for i in range(1, 10)] + [{'red 1': box(112)}] * 3
    ids = track(scenes)
    assert {i['red 1'] for i in ids} == {1}


def test_the_state_does_not_grow() -> None:
    """People come and go for 2,000 frames; only current tracks are kept."""
    tracker = AssociationTracker(AssociationConfig(camera=None))
    image, sizes = paint([], []), []
    for i in range(2000):
        # Four people for 20 frames, then nobody for longer than a lost track lives.
        places = [box(80 * n + i % 65) for n in range(4)] if i % 65 < 20 else []
        tracker.update(make_people(places), image, i / 10)
        if i % 13 == 0:
            sizes.append(len(pickle.dumps(tracker)))
    assert tracker.started > 100
    assert max(sizes[75:]) <= 1.01 * max(sizes[:30])
