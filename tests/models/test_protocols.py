"""Protocols: inputs of the stages, and one result per annotated person."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from pipeline.cli import protocols
from pipeline.cli.protocols import (
    Protocol,
    ProtocolError,
    load_protocol,
    read_ground_truth,
    select_ground_truth,
)
from pipeline.config import load_config
from pipeline.loop import LoopConfig, PersonPipeline
from pipeline.masks import LogitMasks, Masks
from pipeline.nms import PoseNMSConfig
from pipeline.segmenters.prompts import PromptConfig, make_prompts
from pipeline.stages import PoseEstimator
from pipeline.structures import Detections, Image, MaskSource, People, Poses, Segments
from tests.oracles import FunctionDetector
from tests.toy_people import people_in, person

SHAPE = (200, 300)
IMAGE = {'id': 1, 'height': 200, 'width': 300, 'file_name': '1.jpg'}
PIXELS: Image = np.full((*SHAPE, 3), 90, np.uint8)
BOX = [20.0, 30.0, 60.0, 150.0]
NOTHING = {'keypoints': [0] * 51, 'num_keypoints': 0}
ANNOTATIONS = [
    person(11, 1, BOX),
    person(12, 1, BOX),  # the same box
    person(13, 1, [150.0, 40.0, 80.0, 120.0], **NOTHING),
    person(14, 1, [200.0, 20.0, 60.0, 150.0]),
    person(15, 1, [0.0, 0.0, 90.0, 90.0], iscrowd=1, **NOTHING),
]
LABELLED = [11, 12, 14]
ALL_PEOPLE = [11, 12, 13, 14]


class Stages(PoseEstimator):
    """Stages that record their inputs; masks cover the left half of the box."""

    num_keypoints = 17

    def __init__(self) -> None:
        self.detected = 0
        self.posed: list[Detections] = []
        self.prompted: list[Poses] = []

    def detect(self, image: Image) -> Detections:
        self.detected += 1
        boxes = [[100, 10, 160, 190], [101, 10, 161, 190], [10, 10, 60, 190]]
        return Detections.from_boxes(boxes, SHAPE)

    def __call__(self, image: Image, detections: Detections) -> Poses:
        self.posed.append(detections)
        people = people_in(detections.boxes, SHAPE)
        return Poses(
            detections.boxes, detections.box_scores, detections.detector_masks,
            people.keypoints, people.keypoint_scores, people.presence, people.visibility,
        )  # fmt: skip

    def segment(self, image: Image) -> Any:
        def to_masks(poses: Poses, others: Poses) -> Segments:
            self.prompted.append(poses)
            boxes = poses.boxes.copy()
            boxes[:, 2] = boxes[:, [0, 2]].mean(1)
            masks = LogitMasks.from_masks(Masks.from_boxes(boxes, SHAPE), 3.0)
            scores = np.full(len(poses), 0.5, np.float32)
            sources = np.full(len(poses), MaskSource.SAM, np.int32)
            prompts = make_prompts(poses, others, PromptConfig()).keypoints
            return Segments(masks, scores, sources, prompts)

        return to_masks


def ground_truth(protocol: Protocol, annotations: Any = ANNOTATIONS) -> People:
    return read_ground_truth(select_ground_truth(protocol, IMAGE, annotations, 'coco17'), SHAPE)


def run(protocol: Protocol, annotations: Any = ANNOTATIONS) -> tuple[People, Stages]:
    stages = Stages()
    # Protocols override these settings.
    config = LoopConfig(max_rounds=3, refine=True, pose_nms=PoseNMSConfig(max_oks=0.5))
    loop = PersonPipeline(FunctionDetector(stages.detect), stages, stages.segment, config)
    pipeline, boxes = protocols._replace_stages(loop, protocol, ground_truth(protocol, annotations))
    return pipeline(PIXELS, boxes), stages


def ids(protocol: Protocol) -> list[int]:
    return [p['id'] for p in select_ground_truth(protocol, IMAGE, ANNOTATIONS, 'coco17')['people']]


@pytest.mark.parametrize(
    ('protocol', 'expected'),
    [
        (Protocol('loop'), []),
        (Protocol('gt_boxes'), LABELLED),
        (Protocol('gt_keypoints'), LABELLED),
        (Protocol('detected_keypoints'), []),
        (Protocol('detected_keypoints', gt_boxes=True), ALL_PEOPLE),
        (Protocol('oracle'), ALL_PEOPLE),
    ],
    ids=str,
)
def test_every_person_of_the_protocol_has_a_result(protocol: Protocol, expected: list[int]) -> None:
    assert ids(protocol) == expected
    if protocol.from_ground_truth:
        people, _ = run(protocol)
        assert len(people) == len(expected)
        wanted = [a['bbox'][:2] for a in ANNOTATIONS if a['id'] in expected]
        np.testing.assert_allclose(people.detector_boxes[:, :2], wanted)
        assert len(run(protocol, [])[0]) == 0


def test_gt_boxes() -> None:
    people, stages = run(Protocol('gt_boxes'))
    assert (stages.detected, len(stages.posed), stages.prompted) == (0, 1, [])
    assert stages.posed[0].detector_masks.areas.tolist() == [0, 0, 0]
    # Box and mask are the annotated ones; the score is 1 x the pose score.
    np.testing.assert_allclose(people.boxes, people.detector_boxes)
    assert people.masks.areas.tolist() == [60 * 150] * 3
    np.testing.assert_allclose(people.scores, 0.8, rtol=1e-6)
    np.testing.assert_allclose(people.keypoint_scores, 0.8, rtol=1e-6)
    masked = run(Protocol('gt_boxes', gt_masks=True))[1].posed[0]
    assert masked.detector_masks.areas.tolist() == [60 * 150] * 3


def test_gt_keypoints() -> None:
    people, stages = run(Protocol('gt_keypoints'))
    assert (stages.detected, stages.posed) == (0, [])
    (poses,) = stages.prompted
    # Keypoint 1 is hidden (v = 1) and 4 not labelled; prompts need v = 2.
    assert poses.visibility[0].tolist() == [1, 0, 1, 1, 0] + [1] * 12
    assert people.prompts[0][:4].tolist() == [0, 2, 3, -1]
    # Overlaps are not resolved.
    assert people.masks.areas.tolist() == [30 * 150] * 3
    np.testing.assert_allclose(people.scores, 0.5)
    np.testing.assert_allclose(people.boxes[0], [20, 30, 50, 180])


def test_gt_keypoints_without_visible_keypoints() -> None:
    points = [1.0 if n % 3 == 2 else v for n, v in enumerate(ANNOTATIONS[0]['keypoints'])]
    people, stages = run(Protocol('gt_keypoints'), [ANNOTATIONS[0] | {'keypoints': points}])
    assert stages.prompted[0].visibility.max() == 0
    assert len(people) == 1 and people.prompts.max() == -1


def test_detected_keypoints() -> None:
    people, stages = run(Protocol('detected_keypoints'))
    # One pass; pose NMS removes one of the two equal boxes.
    assert (stages.detected, len(stages.posed), len(stages.prompted)) == (1, 1, 1)
    assert people.detector_boxes[:, 0].tolist() == [100, 10]
    people, stages = run(Protocol('detected_keypoints', gt_boxes=True))
    assert (stages.detected, len(people)) == (0, 4)
    assert people.masks.areas.tolist() == [30 * 150] * 2 + [40 * 120] + [30 * 150]


def test_loop() -> None:
    people, stages = run(Protocol('loop'))
    assert stages.detected > 1 and len(stages.posed) > 2  # rounds and refinement
    assert people.masks.areas.sum() == people.masks.union().sum()


def test_oracle() -> None:
    people, stages = run(Protocol('oracle'))
    assert (stages.detected, stages.prompted) == (0, [])
    np.testing.assert_allclose(people.boxes, people.detector_boxes)
    assert people.masks.areas.tolist() == [60 * 150] * 2 + [80 * 120] + [60 * 150]


def test_an_image_of_another_size_is_refused() -> None:
    content = select_ground_truth(Protocol('oracle'), IMAGE, ANNOTATIONS, 'coco17')
    with pytest.raises(ValueError, match='image has 200 x 300 px, its annotations 300 x 200'):
        read_ground_truth(content, (300, 200))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'name': 'loop', 'gt_boxes': True}, '--gt-boxes needs --protocol detected_keypoints'),
        ({'name': 'gt_boxes', 'gt_boxes': True}, 'not gt_boxes'),
        ({'name': 'gt_keypoints', 'gt_masks': True}, '--gt-masks needs .* not gt_keyp'),
        ({'name': 'detected_keypoints', 'gt_masks': True}, 'with --gt-boxes'),
    ],
)
def test_options_of_other_protocols(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        Protocol(**options)


def test_text_for_tables() -> None:
    options = {'segmenter.prompt.num_keypoints': 5, 'segmenter.prompt.method': 'k_most_visible'}
    settings = load_config('bmp_compact', options).settings
    text = Protocol('gt_keypoints').text(settings)
    assert text == (
        'ground-truth keypoints -> mask, prompts: 5 keypoints (k_most_visible) with box'
    )
    refined = dataclasses.replace(settings.loop, refine=True, max_rounds=None)
    text = Protocol('loop').text(dataclasses.replace(settings, loop=refined))
    assert text == 'detector boxes, the whole loop, rounds all (at most 20), refined'
    both = Protocol('detected_keypoints', gt_boxes=True, gt_masks=True).text(settings)
    assert 'ground-truth boxes, poses inside ground-truth masks' in both


def test_idle_stages_need_no_weights() -> None:
    """Only the weights of the segmenter are loaded."""
    options = {
        'detector.checkpoint': 'absent.pth',
        'pose.checkpoint': 'absent.pth',
        'segmenter.prompt.method': 'k_most_visible',
    }
    pipeline = load_protocol('bmp_compact', options, Protocol('gt_keypoints'))
    assert list(pipeline.weights) == ['sam2.1_cspnext_compact']
    expected = read_ground_truth(
        select_ground_truth(pipeline.protocol, IMAGE, ANNOTATIONS, 'coco17'), SHAPE
    )
    people = pipeline(PIXELS, expected)
    assert len(people) == 3
    np.testing.assert_array_equal(people.keypoints, expected.keypoints)
    assert people.prompts[0][:4].tolist() == [0, 2, 3, -1]
    assert (people.mask_sources == MaskSource.SAM).all()


EVAL = 'detector.eval_score_threshold'


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ({}, 'min_score=None'),  # low scores are kept by default
        ({'loop.min_score': 0.3}, 'min_score=0.3'),
        ({EVAL: None}, ' score_threshold=0.2'),
        ({EVAL: 0.07}, ' score_threshold=0.07'),
        ({EVAL: 0.07, 'detector.score_threshold': 0.6}, ' score_threshold=0.6'),
    ],
)
def test_thresholds_of_the_evaluation(options: dict[str, Any], expected: str) -> None:
    unloaded = {f'{stage}.checkpoint': 'absent.pth' for stage in ('detector', 'pose')}
    unloaded['segmenter.checkpoint'] = None
    pipeline = load_protocol('bmp_compact', unloaded | options, Protocol('gt_keypoints'))
    assert expected in pipeline.config_text
    threshold = load_config('bmp_compact', options).settings.detector.score_threshold
    assert threshold == options.get('detector.score_threshold', 0.2)


def test_gt_boxes_with_real_models() -> None:
    pipeline = load_protocol('bmp_compact', {}, Protocol('gt_boxes'))
    assert list(pipeline.weights) == ['vitpose_compact']
    expected = read_ground_truth(
        select_ground_truth(pipeline.protocol, IMAGE, ANNOTATIONS, 'coco17'), SHAPE
    )
    people = pipeline(PIXELS, expected)
    assert people.masks.areas.tolist() == [60 * 150] * 3
    # Two people with the same box have the same pose.
    np.testing.assert_allclose(people.keypoints[0], people.keypoints[1], atol=1e-3)
