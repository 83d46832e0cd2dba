"""The loop with stages that return ground truth."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from pipeline.loop import LoopConfig, PersonPipeline
from pipeline.masks import LogitMasks, Masks
from pipeline.scores import ScoreConfig
from pipeline.stages import PoseToMask
from pipeline.structures import Detections, Image, MaskSource, People, Poses, Segments
from tests.oracles import OracleDetector, OraclePoses, OracleSegmenter
from tests.scripted_detector import ScriptedDetector

SHAPE = (120, 400)
REFINE_ALL_IN_ROUND_ONE: dict[str, Any] = {'max_rounds': 1, 'refine': True, 'refine_min_side': 1}
# (left, top, right, bottom) of each person's body; a later one stands in front.
BODIES = [
    (20, 20, 60, 100),
    (40, 30, 90, 110),
    (200, 10, 240, 90),
    (220, 20, 270, 100),
    (250, 25, 300, 110),
]
HIDDEN_BY = np.array([1, -1, 3, 4, -1])


def ground_truth() -> People:
    """Five people in two stacks, three deep."""
    owner = np.full(SHAPE, -1)
    for i, (x1, y1, x2, y2) in enumerate(BODIES):
        owner[y1:y2, x1:x2] = i
    masks = Masks.from_dense([owner == i for i in range(len(BODIES))], SHAPE)
    n = len(BODIES)
    columns = np.linspace(0.05, 0.95, 17)
    points = np.array(
        [[[x1 + c * (x2 - x1), y1 + c * (y2 - y1)] for c in columns] for x1, y1, x2, y2 in BODIES]
    )
    inside = np.array([[owner[int(y), int(x)] == i for x, y in points[i]] for i in range(n)])
    ones, all_ones = np.ones(n, np.float32), np.ones((n, 17), np.float32)
    scores = np.linspace(0.9, 0.5, n).astype(np.float32)
    return People(
        masks.boxes, scores, masks, points.astype(np.float32), all_ones, all_ones,
        inside.astype(np.float32), masks, ones, np.zeros(n, np.int32),
        np.full((n, 17), -1, np.int32), masks.boxes, np.ones(n, np.int32), scores,
    )  # fmt: skip


def noise_image() -> Image:
    return np.random.default_rng(0).integers(40, 255, (*SHAPE, 3)).astype(np.uint8)


def run(
    *,
    poses: type[OraclePoses] = OraclePoses,
    segmenter: type[OracleSegmenter] = OracleSegmenter,
    user_boxes: Detections | None = None,
    blank: tuple[int, ...] = (),
    order: np.ndarray | None = None,
    with_masks: bool = True,
    **settings: Any,
) -> tuple[People, OracleDetector, OracleSegmenter]:
    """Run the loop with these `LoopConfig` settings on the five people."""
    detector = OracleDetector(ground_truth(), HIDDEN_BY, order, with_masks)
    segment = segmenter(ground_truth(), blank)
    loop = PersonPipeline(detector, poses(ground_truth()), segment, LoopConfig(**settings))
    return loop(noise_image(), user_boxes), detector, segment


def rows(people: People) -> list[int]:
    """Row of the true person with the mask of each result, or -1."""
    dense = [people.masks.dense(i) for i in range(len(people))]
    true = [ground_truth().masks.dense(i) for i in range(len(BODIES))]
    return [next((j for j, t in enumerate(true) if (m == t).all()), -1) for m in dense]


@pytest.mark.parametrize(('max_rounds', 'number'), [(1, 2), (2, 4), (3, 5), (None, 5)])
def test_each_round_finds_the_people_behind(max_rounds: int | None, number: int) -> None:
    people, detector, segmenter = run(max_rounds=max_rounds)
    found = dict(zip(rows(people), people.rounds.tolist(), strict=True))
    assert found == dict(list({1: 1, 4: 1, 0: 2, 3: 2, 2: 3}.items())[:number])
    assert (np.diff(people.scores) <= 0).all()
    # Without a limit: one more round without a new detection.
    assert len(detector.seen) == (max_rounds or 4)
    assert segmenter.embedded == 1


def test_painted_people_are_not_detected_again() -> None:
    people, detector, _ = run(max_rounds=None)
    last = detector.seen[-1]
    assert (last[people.masks.union()] == 0).all()
    rest = ~people.masks.union()
    assert (last[rest] == noise_image()[rest]).all()
    assert len(detector(last)) == 0


def test_the_order_of_detections_does_not_matter() -> None:
    expected = sorted(rows(run(max_rounds=None)[0]))
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(BODIES))
        people, _, _ = run(max_rounds=None, order=order)
        assert sorted(rows(people)) == expected


@pytest.mark.parametrize('refine', [False, True])
def test_no_detections_give_zero_people(refine: bool) -> None:
    people, _, _ = run(order=np.zeros(0, int), refine=refine)
    assert (len(people), people.image_shape) == (0, SHAPE)
    assert (people.keypoints.shape, people.boxes.shape) == ((0, 17, 2), (0, 4))


def test_user_boxes_replace_the_detector_in_round_one() -> None:
    user_boxes = Detections.from_boxes(ground_truth().boxes[[2]], SHAPE)
    people, detector, _ = run(user_boxes=user_boxes, max_rounds=2)
    assert (rows(people)[0], people.box_scores[0], people.rounds[0]) == (2, 1, 1)
    assert len(detector.seen) == 1


@pytest.mark.parametrize('count', [0, 1, 3])
def test_a_batch_needs_boxes_or_none_for_every_image(count: int) -> None:
    loop = PersonPipeline(
        OracleDetector(ground_truth(), HIDDEN_BY),
        OraclePoses(ground_truth()),
        OracleSegmenter(ground_truth()),
    )
    with pytest.raises(ValueError, match=f'got 2 images, but boxes of {count}'):
        loop.predict_batch([noise_image()] * 2, [None] * count)


def test_boxes_without_masks_run_the_whole_loop() -> None:
    people, _, _ = run(max_rounds=None, with_masks=False)
    assert sorted(rows(people)) == [0, 1, 2, 3, 4]


def test_a_missing_mask_falls_back_to_the_detector_then_the_box() -> None:
    people, _, _ = run(max_rounds=1, blank=(1,))
    assert people.mask_sources.tolist() == [MaskSource.DETECTOR, MaskSource.SAM]
    assert rows(people) == [1, 4]
    boxes_only, _, _ = run(max_rounds=1, blank=(1, 4), with_masks=False)
    assert boxes_only.mask_sources.tolist() == [MaskSource.BOX, MaskSource.BOX]
    assert boxes_only.boxes.tolist() == ground_truth().boxes[[1, 4]].tolist()
    assert boxes_only.mask_scores.tolist() == [0, 0]
    nothing, _, _ = run(max_rounds=1, fallback=None, blank=(1, 4))
    assert nothing.masks.areas.tolist() == [0, 0]


def test_a_fallback_box_takes_no_pixel_from_a_mask() -> None:
    people, _, _ = run(max_rounds=None, blank=(0,), with_masks=False)
    by_row = dict(zip(rows(people), people.mask_sources.tolist(), strict=True))
    # The box of 0 without the pixels of 1 in front of it is just what can be seen of 0.
    assert by_row == {0: MaskSource.BOX, **dict.fromkeys((1, 2, 3, 4), MaskSource.SAM)}


def test_no_pixel_belongs_to_two_people_and_boxes_follow_masks() -> None:
    people, _, _ = run(max_rounds=None)
    total = sum(people.masks.dense(i).astype(int) for i in range(len(people)))
    assert np.max(total) == 1
    assert people.boxes.tolist() == people.masks.boxes.tolist()
    detector_boxes, _, _ = run(max_rounds=None, boxes='detector')
    assert detector_boxes.boxes.tolist() == detector_boxes.detector_boxes.tolist()


def test_refining_keeps_masks_and_order_and_skips_small_people() -> None:
    plain, _, _ = run(max_rounds=None)
    refined, _, segmenter = run(max_rounds=None, refine=True, refine_min_side=85)
    assert rows(refined) == rows(plain)
    assert refined.rounds.tolist() == plain.rounds.tolist()
    assert segmenter.calls == 4  # three rounds and one pass for the large
    _, _, untouched = run(max_rounds=None, refine=True, refine_min_side=500)
    assert untouched.calls == 3


class DegradedPoses(OraclePoses):
    """Moves the even keypoints by 2 px and halves their scores when there is a mask."""

    def __call__(self, image: Image, detections: Detections) -> Poses:
        poses = super().__call__(image, detections)
        if not (detections.detector_masks.areas > 0).any():
            return poses
        keypoints, scores = poses.keypoints.copy(), poses.keypoint_scores.copy()
        keypoints[:, ::2] += 2
        scores[:, ::2] /= 2
        return dataclasses.replace(poses, keypoints=keypoints, keypoint_scores=scores)


@pytest.mark.parametrize(('which', 'off'), [('latest', 2.0), ('highest_score', 0.0)])
def test_refining_can_keep_keypoints_of_a_higher_score(which: str, off: float) -> None:
    people, _, _ = run(
        poses=DegradedPoses, with_masks=False, refine_keypoints=which, **REFINE_ALL_IN_ROUND_ONE
    )
    moved = people.keypoints - ground_truth().select(np.array([1, 4])).keypoints
    assert np.abs(moved[:, ::2]).max() == off and np.abs(moved[:, 1::2]).max() == 0
    assert people.keypoint_scores.min() == (0.5 if off else 1.0)


class ShrinkingSegmenter(OracleSegmenter):
    """Cuts the left column of each mask in the second call; scores the first mask higher."""

    def __call__(self, image: Image) -> PoseToMask:
        first = super().__call__(image)

        def masks_of(poses: Poses, others: Poses) -> Segments:
            segments = first(poses, others)
            if self.calls == 1:
                return segments
            crops = tuple(crop[:, 1:] for crop in segments.logits.crops)
            logits = LogitMasks(*SHAPE, segments.logits.offsets + np.array([1, 0]), crops)
            scores = np.array([0.95, 0.7], np.float32)
            return dataclasses.replace(segments, logits=logits, mask_scores=scores)

        return masks_of


@pytest.mark.parametrize(('which', 'lost'), [('latest', [1, 1]), ('highest_score', [1, 0])])
def test_refining_can_keep_masks_of_a_higher_score(which: str, lost: list[int]) -> None:
    people, _, _ = run(segmenter=ShrinkingSegmenter, refine_masks=which, **REFINE_ALL_IN_ROUND_ONE)
    whole = ground_truth().select(np.array([1, 4]))
    assert (people.masks.boxes[:, 0] - whole.masks.boxes[:, 0]).tolist() == lost
    scores = [0.95, 0.7 if lost[1] else 0.9]
    np.testing.assert_allclose(people.mask_scores, scores, rtol=1e-6)


def test_the_instance_score_is_the_product_of_its_parts() -> None:
    people, _, _ = run(max_rounds=1)
    np.testing.assert_allclose(people.scores, people.box_scores * 1.0 * 0.9, rtol=1e-6)
    only_boxes, _, _ = run(max_rounds=1, score=ScoreConfig(pose=0, mask=0))
    np.testing.assert_allclose(only_boxes.scores, only_boxes.box_scores)


def test_scores_of_later_rounds_can_be_scaled_down() -> None:
    equal, _, _ = run(max_rounds=3)
    less, _, _ = run(max_rounds=3, score=ScoreConfig(later_rounds=0.5))
    assert sorted(equal.rounds.tolist()) == [1, 1, 2, 2, 3]
    expected = np.where(equal.rounds > 1, 0.5, 1) * equal.scores
    before = dict(zip(rows(equal), expected, strict=True))
    assert dict(zip(rows(less), less.scores, strict=True)) == pytest.approx(before)
    assert (np.diff(less.scores) <= 0).all()


@pytest.mark.parametrize('rule', ['logits', 'scored_logits'])
def test_the_root_changes_scores_only(rule: str) -> None:
    plain, _, _ = run(max_rounds=3, resolve_overlaps=rule)
    root, _, _ = run(max_rounds=3, resolve_overlaps=rule, score=ScoreConfig(root=3))
    np.testing.assert_allclose(root.scores, plain.scores ** (1 / 3), rtol=1e-6)
    for i in range(len(plain)):
        assert (root.masks.dense(i) == plain.masks.dense(i)).all()


@pytest.mark.parametrize('refine', [False, True])
def test_low_scores_are_painted_out_but_not_reported(refine: bool) -> None:
    all_people, usual, _ = run(max_rounds=None, refine=refine)
    limit = float(np.median(all_people.scores))
    people, detector, _ = run(max_rounds=None, refine=refine, min_score=limit)
    keep = all_people.scores >= limit
    assert 0 < keep.sum() < len(all_people)
    assert rows(people) == [row for row, kept in zip(rows(all_people), keep, strict=True) if kept]
    for image, same in zip(detector.seen, usual.seen, strict=True):
        assert np.array_equal(image, same)


@pytest.mark.parametrize('refine', [False, True])
def test_dropped_people_take_no_pixel_from_reported_people(refine: bool) -> None:
    """Two soft masks overlap; the person with the lower score has the higher logits there."""
    pair = np.array([3, 4])
    bodies = Masks.from_boxes(np.array(BODIES, np.float32)[pair], SHAPE)

    class Overlapping(OracleSegmenter):
        def __call__(self, image: Image) -> PoseToMask:
            def masks_of(poses: Poses, others: Poses) -> Segments:
                confident = LogitMasks.from_masks(bodies.select(np.array([1])), 9.0)
                logits = LogitMasks.from_masks(bodies.select(np.array([0])), 4.0).concat(confident)
                of = np.array([int(box[0] > 230) for box in poses.boxes])
                return Segments(
                    logits.select(of), np.full(len(of), 0.9, np.float32),
                    np.full(len(of), MaskSource.SAM, np.int32),
                    np.full((len(of), 17), -1, np.int32),
                )  # fmt: skip

            return masks_of

    visible = ground_truth().select(pair)
    detections = Detections(visible.boxes, np.float32([0.9, 0.3]), visible.masks)

    def areas(**settings: Any) -> list[int]:
        settings |= {'max_rounds': 1, 'refine': refine, 'refine_min_side': 10}
        people, _, _ = run(segmenter=Overlapping, user_boxes=detections, **settings)
        return people.masks.areas.tolist()

    disputed = 20 * 75
    assert areas() == [50 * 80 - disputed, 50 * 85]
    assert areas(min_score=0.5) == [50 * 80]
    # 0.9 times 4 against 0.3 times 9.
    assert areas(resolve_overlaps='scored_logits') == [50 * 80, 50 * 85 - disputed]


class PosesAtBoxes(OraclePoses):
    """Moves each pose down by the top of its box."""

    def __call__(self, image: Image, detections: Detections) -> Poses:
        poses = super().__call__(image, detections)
        moved = poses.keypoints + detections.boxes[:, 1:2, None]
        return dataclasses.replace(poses, keypoints=moved)


@pytest.mark.parametrize(('fraction', 'found'), [(None, 3), (0.9, 3), (0.5, 2)])
def test_detections_on_painted_people_can_be_dropped(fraction: float | None, found: int) -> None:
    """A ghost over a painted-out person, with a pose unlike that person's."""
    boxes = ground_truth().boxes
    ghost = boxes[[1]] + np.float32([0, -20, 0, -20])
    rounds = [Detections.from_boxes(b, SHAPE) for b in (boxes[[1, 4]], ghost)]
    loop = PersonPipeline(
        ScriptedDetector(rounds), PosesAtBoxes(ground_truth()), OracleSegmenter(ground_truth()),
        LoopConfig(max_rounds=2, max_covered_fraction=fraction),
    )  # fmt: skip
    assert len(loop(noise_image())) == found


def test_an_xywh_box_is_refused() -> None:
    with pytest.raises(ValueError, match='is it x, y, width, height'):
        Detections.from_boxes([[400, 100, 100, 200]], SHAPE)
