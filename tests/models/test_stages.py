"""The adapters on real models of mmdet, mmpose and sam2 with random weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config import CONFIG_FOLDER, ROOT
from pipeline.detectors.mmdet_detector import build_mmdet_detector
from pipeline.detectors.slices import EDGE, SliceConfig, SlicedDetector, make_slices
from pipeline.logit_crops import logit_crop
from pipeline.masks import Masks
from pipeline.openmmlab import scope_of
from pipeline.poses import mmpose_estimator
from pipeline.poses.mmpose_estimator import build_mmpose_estimator
from pipeline.runtime.options import Precision, RuntimeOptions
from pipeline.segmenters import sam2_segmenter
from pipeline.segmenters.prompts import PromptConfig
from pipeline.segmenters.sam2_forward import ImageEmbedding
from pipeline.segmenters.sam2_segmenter import build_sam2_segmenter
from pipeline.structures import Detections, MaskSource, Poses
from pipeline.synthetic.scene import SceneConfig, make_scene

COMPACT = CONFIG_FOLDER / 'compact'
SAM = str(COMPACT / 'sam2.1_hiera_compact.yaml')


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (150, 210, 3)).astype(np.uint8)


def boxes(n: int) -> np.ndarray:
    left = np.arange(n, dtype=np.float32)[:, None] * 7
    return np.concatenate([left, left, left + 60, left + 80], axis=1)


def poses(n: int, visible: int = 17) -> Poses:
    rng = np.random.default_rng(n)
    points = rng.uniform(5, 140, (n, 17, 2)).astype(np.float32)
    visibility = (np.arange(17) < visible).astype(np.float32)[None].repeat(n, 0)
    ones = np.ones((n, 17), np.float32)
    return Poses(
        boxes(n), np.ones(n, np.float32), Masks.empty(150, 210, n), points, ones, ones, visibility
    )


@pytest.mark.parametrize('precision', ['fp32', 'bf16', 'fp16'])
def test_an_instance_detector_gives_boxes_and_masks(
    image: np.ndarray, precision: Precision
) -> None:
    torch.manual_seed(0)
    detector = build_mmdet_detector(
        str(COMPACT / 'rtmdet-ins_compact.py'),
        None,
        runtime=RuntimeOptions('cpu', precision),
        score_threshold=0.001,
        max_people=7,
    )
    found = detector(image)
    assert 0 < len(found) <= 7
    assert found.boxes.dtype == np.float32
    assert (found.box_scores[:-1] >= found.box_scores[1:]).all()
    assert found.boxes.min() >= 0 and (found.boxes[:, 2:].max(0) <= [210, 150]).all()
    assert len(found.detector_masks) == len(found)


def test_the_highest_scoring_people_are_kept() -> None:
    from pipeline.detectors.selection import select_people

    left = np.arange(6, dtype=np.float32)[:, None] * 100
    found = np.concatenate([left, left, left + 50, left + 50], axis=1)
    scores = np.array([0.9, 0.5, 0.8, 0.7, 0.6, 0.2], np.float32)
    labels = np.array([56, 0, 0, 56, 0, 0])  # two of them are chairs

    def keep(max_people: int | None) -> list[int]:
        options = {'score_threshold': 0.3, 'max_iou': 0.3, 'max_people': max_people}
        return select_people(found, scores, labels, **options).tolist()

    assert keep(None) == [2, 4, 1] == keep(9)
    assert keep(2) == [2, 4]


@pytest.mark.parametrize(
    'config',
    [str(COMPACT / 'rtmdet-ins_compact.py'), 'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py'],
    ids=['RTMDet-Ins', 'YOLOX'],
)
def test_limits_hold_for_every_kind_of_detector(image: np.ndarray, config: str) -> None:
    torch.manual_seed(0)
    options = {'score_threshold': 0.001, 'max_iou': None}
    unlimited = build_mmdet_detector(config, None, **options)
    torch.manual_seed(0)
    three = build_mmdet_detector(config, None, max_people=3, **options)
    found = unlimited(image)
    assert len(found) > 3
    if 'yolox' in config:  # boxes only
        assert found.detector_masks.areas.sum() == 0
    np.testing.assert_array_equal(three(image).boxes, found.boxes[:3])


@pytest.mark.parametrize(
    ('config', 'weights'),
    [
        (str(COMPACT / 'rtmdet-ins_compact.py'), ROOT / 'checkpoints/rtmdet-ins_compact.pth'),
        ('mmdet::yolox/yolox_tiny_8xb8-300e_coco.py', None),
    ],
    ids=['RTMDet-Ins', 'YOLOX'],
)
def test_slices_work_with_every_kind_of_detector(config: str, weights: Path | None) -> None:
    torch.manual_seed(0)
    scene = SceneConfig(width=210, height=150, min_people=4, max_people=4, overlap=0.2)
    image = make_scene(scene).image
    inner = build_mmdet_detector(config, weights, score_threshold=0.001, max_people=9)
    slices = SliceConfig('2x1', overlap=0.0, max_iou=0.9999)
    assert make_slices((150, 210), slices) == [(0, 0, 105, 150), (105, 0, 210, 150)]
    left, right = inner(image[:, :105]), inner(image[:, 105:])
    left = left.select(left.boxes[:, 2] <= 105 - EDGE)
    right = right.select(right.boxes[:, 0] >= EDGE)
    right = dataclasses.replace(right, boxes=right.boxes + np.array([105, 0, 105, 0], np.float32))

    def rows(*parts: Detections) -> set[tuple[float, ...]]:
        """Box, score and mask area of each person; random networks repeat some."""
        return {
            (*box, score, area)
            for part in parts
            for box, score, area in zip(
                part.boxes.tolist(), part.box_scores.tolist(),
                part.detector_masks.areas.tolist(), strict=True,
            )
        }  # fmt: skip

    found = SlicedDetector(inner, slices)(image)
    assert rows(found) <= rows(inner(image), left, right)
    if 'rtmdet' in config:
        assert rows(found) == rows(inner(image), left, right)
        assert (found.detector_masks.areas > 0).any()


def test_a_detector_gets_rgb_as_bgr(image: np.ndarray) -> None:
    detector = build_mmdet_detector(str(COMPACT / 'rtmdet-ins_compact.py'), None)
    red = image.copy()
    red[..., 1:] = 0
    packed = detector.transforms({'img': np.ascontiguousarray(red[..., ::-1]), 'img_id': 0})
    seen = packed['inputs'].numpy()
    assert seen[2, :100].mean() > 50 and seen[0, :100].mean() < 1


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@pytest.mark.parametrize(
    'config',
    [
        'compact/vitpose_compact.py',
        'mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py',
    ],
)
def test_any_top_down_model_gives_17_keypoints(
    image: np.ndarray, config: str, precision: Precision
) -> None:
    torch.manual_seed(0)
    path = config if '::' in config else str(CONFIG_FOLDER / config)
    estimator = build_mmpose_estimator(path, None, RuntimeOptions('cpu', precision), batch_size=2)
    detections = Detections.from_boxes(boxes(5), image.shape[:2])
    found = estimator(image, detections)
    assert found.keypoints.shape == (5, 17, 2)
    for column in (found.keypoint_scores, found.presence, found.visibility):
        assert column.shape == (5, 17) and column.dtype == np.float32
        assert 0 <= column.min() and column.max() <= 1
    one = estimator(image, detections.select(np.array([3])))
    np.testing.assert_allclose(one.keypoint_scores[0], found.keypoint_scores[3], atol=2e-2)
    # A random network has near ties between far peaks; rounding may flip one or two of them.
    moved = np.abs(one.keypoints[0] - found.keypoints[3]).max(1) > 0.5
    assert precision != 'fp32' or moved.sum() <= 2


BOXES = [[300, 200, 340, 290], [0, 0, 30, 20], [590.3, 400.7, 640, 480], [5.1, 5.2, 635.3, 90.4]]


@pytest.mark.parametrize('box', BOXES)
def test_dimming_a_region_gives_the_same_crop(
    box: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3)).astype(np.uint8)
    estimator = build_mmpose_estimator(str(COMPACT / 'vitpose_compact.py'), None)
    mask = np.zeros((480, 640), bool)
    mask[int(box[1]) : int(box[3]), int(box[0]) : int(box[2]) - 9] = True
    person = Detections(
        np.array([box], np.float32), np.ones(1, np.float32), Masks.from_dense([mask], (480, 640))
    )

    def crop() -> np.ndarray:
        with scope_of('mmpose'):
            sample = estimator._sample(image, person, np.zeros_like(image), 0)
        return np.asarray(sample['inputs'])

    small = crop()
    monkeypatch.setattr(mmpose_estimator, '_window', lambda *_: (slice(0, 480), slice(0, 640)))
    np.testing.assert_array_equal(small, crop())
    assert small.any()


def test_no_people_give_empty_results(image: np.ndarray) -> None:
    estimator = build_mmpose_estimator(str(COMPACT / 'vitpose_compact.py'), None)
    found = estimator(image, Detections.from_boxes([], image.shape[:2]))
    assert found.keypoints.shape == (0, 17, 2)
    segment = build_sam2_segmenter(SAM, None, PromptConfig())(image)
    assert len(segment(poses(0), poses(0))) == 0
    assert 'embedding' not in vars(segment)  # without people, the image is not embedded


def test_mask_conditioning_can_be_disabled(image: np.ndarray) -> None:
    torch.manual_seed(0)
    path = str(COMPACT / 'vitpose_compact.py')
    mask = np.zeros(image.shape[:2], bool)
    mask[10:70, 10:40] = True
    with_mask = Detections(
        boxes(1), np.ones(1, np.float32), Masks.from_dense([mask], image.shape[:2])
    )
    without = Detections.from_boxes(boxes(1), image.shape[:2])
    conditioned = build_mmpose_estimator(path, None)
    ignoring = build_mmpose_estimator(path, None, mask_conditioning=False)
    ignoring.model.load_state_dict(conditioned.model.state_dict())
    plain = conditioned(image, without)
    assert (ignoring(image, with_mask).keypoint_scores == plain.keypoint_scores).all()
    assert (conditioned(image, with_mask).presence != plain.presence).any()


@pytest.mark.parametrize('precision', ['fp32', 'bf16', 'fp16'])
def test_sam_gives_one_mask_per_pose_in_batches(image: np.ndarray, precision: Precision) -> None:
    torch.manual_seed(0)
    segmenter = build_sam2_segmenter(
        SAM, None, PromptConfig(), RuntimeOptions('cpu', precision), batch_size=2
    )
    mixed = poses(3).concat(poses(2, visible=1)).concat(poses(1, visible=0))
    segments = segmenter(image)(mixed, poses(0))
    assert len(segments) == 6
    assert (segments.prompts >= 0).sum(1).tolist() == [3, 3, 3, 1, 1, 0]
    assert segments.mask_scores[5] == 0 and segments.logits.crops[5].size == 0
    assert (segments.mask_sources == MaskSource.SAM).all()
    if precision == 'fp32':
        for i in (0, 3, 4):
            alone = segmenter(image)(mixed.select(np.array([i])), poses(0))
            np.testing.assert_allclose(alone.mask_scores[0], segments.mask_scores[i], atol=1e-5)


def test_box_and_negative_prompts_are_taken(image: np.ndarray) -> None:
    torch.manual_seed(0)
    segmenter = build_sam2_segmenter(SAM, None, PromptConfig(use_box=True, num_negative=2))
    segments = segmenter(image)(poses(2, visible=4).concat(poses(1, visible=0)), poses(1))
    assert len(segments) == 3
    assert (segments.mask_scores > 0).all()  # a box alone is a prompt too


def test_prompts_can_be_drawn_as_a_mask_prompt_too(image: np.ndarray) -> None:
    torch.manual_seed(0)
    plain = build_sam2_segmenter(SAM, None, PromptConfig())
    drawing = build_sam2_segmenter(SAM, None, PromptConfig(), mask_prompt_from_keypoints=True)
    drawing.model.load_state_dict(plain.model.state_dict())
    scores = [s(image)(poses(2), poses(0)).mask_scores for s in (plain, drawing)]
    assert (scores[0] != scores[1]).all()
    boxed = build_sam2_segmenter(
        SAM, None, PromptConfig(use_box=True), mask_prompt_from_keypoints=True
    )
    assert len(boxed(image)(poses(2, visible=0), poses(0))) == 2


def test_prompt_with_mask_box_adds_a_second_pass(
    image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[torch.Tensor | None] = []

    def decode(*_: object, point_coords: torch.Tensor, boxes: torch.Tensor | None, **__: object):
        """Without a box a mask for the first person alone, with boxes a high logit everywhere."""
        prompts.append(boxes)
        n = len(point_coords)
        if boxes is not None:
            return torch.full((n, 1, 96, 96), 3.0), torch.full((n, 1), 0.9), None
        logits = torch.full((n, 1, 96, 96), -1.0)
        logits[0, 0, 10:20, 30:50] = 2
        return logits, torch.full((n, 1), 0.5), None

    monkeypatch.setattr(sam2_segmenter, 'decode_prompts', decode)
    segmenter = build_sam2_segmenter(SAM, None, PromptConfig(), prompt_with_mask_box=True)
    points, labels = torch.full((2, 3, 2), 100.0), torch.ones(2, 3, dtype=torch.int32)
    embedding = ImageEmbedding(torch.zeros(1), ())
    logits, quality = segmenter.predict_masks(embedding, points, labels, None)
    assert prompts[0] is None
    assert prompts[1].tolist() == [[120, 40, 200, 80]]  # cells of 4 px
    assert logits[0].unique().tolist() == [1, 2.5]
    assert (logits[0, 10:20, 30:50] == 2.5).all()
    assert (logits[1] == -1).all()
    assert quality.tolist() == pytest.approx([0.7, 0.5])
    segmenter.predict_masks(embedding, points, labels, torch.zeros(2, 4))
    assert len(prompts) == 3  # no second pass with a box prompt
    segmenter.prompt_with_mask_box = False
    assert (segmenter.predict_masks(embedding, points, labels, None)[0][0, 10:20, 30:50] == 2).all()


def test_the_channel_order_is_a_switch(image: np.ndarray) -> None:
    torch.manual_seed(0)
    rgb = build_sam2_segmenter(SAM, None, PromptConfig())
    bgr = build_sam2_segmenter(SAM, None, PromptConfig(), channel_order='bgr')
    bgr.model.load_state_dict(rgb.model.state_dict())
    swapped = np.ascontiguousarray(image[..., ::-1])
    first, second = rgb(image)(poses(2), poses(0)), bgr(swapped)(poses(2), poses(0))
    np.testing.assert_array_equal(first.mask_scores, second.mask_scores)


@pytest.mark.parametrize('everywhere', [False, True])
@pytest.mark.parametrize('visible', [None, (9, 8), (150, 160)])
@pytest.mark.parametrize('shape', [(150, 210), (37, 500), (96, 96), (10, 9)])
def test_an_enlarged_crop_equals_the_enlarged_mask(
    shape: tuple[int, int], visible: tuple[int, int] | None, everywhere: bool
) -> None:
    rng = np.random.default_rng(3)
    blob = torch.tensor(rng.normal(0 if everywhere else -9, 1, (96, 96)), dtype=torch.float32)
    blob[20:50, 60:80] += 6 + 9
    full = torch.nn.functional.interpolate(blob[None, None], shape, mode='bilinear')[0, 0].numpy()
    if visible is not None:
        visible = min(visible[0], shape[0]), min(visible[1], shape[1])
        full = full[: visible[0], : visible[1]]
    x, y, crop = logit_crop(blob, shape, visible)
    inside = np.zeros(full.shape, bool)
    inside[y : y + crop.shape[0], x : x + crop.shape[1]] = True
    assert (full[~inside] <= 0).all()
    np.testing.assert_allclose(crop, full[inside].reshape(crop.shape), atol=1e-4)
    assert logit_crop(torch.full((96, 96), -1.0), shape)[2].numel() == 0


def test_building_leaves_the_scope_of_a_host_program() -> None:
    from mmengine.registry import DefaultScope

    before = getattr(DefaultScope.get_current_instance(), 'scope_name', None)
    build_mmpose_estimator(str(COMPACT / 'vitpose_compact.py'), None)
    build_mmdet_detector(str(COMPACT / 'rtmdet-ins_compact.py'), None)
    assert getattr(DefaultScope.get_current_instance(), 'scope_name', None) == before
