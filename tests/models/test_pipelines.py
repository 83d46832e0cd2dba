"""The shipped pipelines have the settings of what they are named after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import load_pipeline
from pipeline.build import build_pipeline
from pipeline.config import (
    CONFIG_FOLDER,
    ConfigError,
    PipelineConfig,
    SegmenterConfig,
    load_config,
)
from pipeline.detectors.mmdet_detector import MMDetDetector
from pipeline.detectors.slices import SlicedDetector
from pipeline.loop import LoopConfig
from pipeline.nms import PoseNMSConfig
from pipeline.runtime.options import RuntimeOptions
from pipeline.segmenters.prompts import PromptConfig
from pipeline.structures import Detections, MaskSource
from pipeline.weights.manifest import CheckpointError, read_manifest

STAGES = ('detector', 'pose', 'segmenter')
RANDOM_CPU = {f'{stage}.checkpoint': None for stage in STAGES} | {'runtime.device': 'cpu'}


def settings_of(name: str) -> PipelineConfig:
    return load_config(name).settings


@pytest.mark.parametrize(
    ('name', 'num_keypoints', 'method', 'threshold'),
    [('bmp_v2', 3, 'k_most_visible', 0.5), ('bmp_v1', 6, 'distance+confidence', 0.3)],
)
def test_released_values(name: str, num_keypoints: int, method: Any, threshold: float) -> None:
    settings = settings_of(name)
    assert (settings.detector.score_threshold, settings.detector.max_iou) == (0.3, 0.3)
    assert settings.segmenter.prompt == PromptConfig(
        num_keypoints=num_keypoints, method=method, visibility_threshold=threshold,
        min_confident=threshold,
    )  # fmt: skip
    nms = PoseNMSConfig(max_oks=0.8, confidence_threshold=threshold)
    assert settings.loop == LoopConfig(max_rounds=2, pose_nms=nms)
    assert settings.loop.resolve_overlaps is not None


# Pipeline -> what differs from bmp_v2, and the checkpoints it names.
VARIANTS = {
    'bmp_v2': (set(), 'PMPose-b-1.0.0', 'SAM-pose2seg_hiera_b+'),
    'bmp_v2_s': ({'pose'}, 'PMPose-s-1.0.0', 'SAM-pose2seg_hiera_b+'),
    'bmp_v2_l': ({'pose'}, 'PMPose-l-1.0.0', 'SAM-pose2seg_hiera_b+'),
    'bmp_v2_h': ({'pose'}, 'PMPose-h-1.0.0', 'SAM-pose2seg_hiera_b+'),
    'bmp_v2_plus': ({'loop'}, 'PMPose-b-1.0.0', 'SAM-pose2seg_hiera_b+'),
    'bmp_v1': ({'pose', 'segmenter', 'loop'}, 'MaskPose-b-1.0.0', 'sam2.1_hiera_base_plus'),
    'bmp_maskpose': ({'pose'}, 'MaskPose-b-1.1.0', 'SAM-pose2seg_hiera_b+'),
    'bmp_vitpose': ({'pose'}, 'ViTPose-b-multi', 'SAM-pose2seg_hiera_b+'),
    'bmp_stock_sam': ({'segmenter'}, 'PMPose-b-1.0.0', 'sam2.1_hiera_base_plus'),
}


@pytest.mark.parametrize('name', VARIANTS)
def test_variants_change_what_they_say(name: str) -> None:
    differing, pose, sam = VARIANTS[name]
    ours, v2 = settings_of(name), settings_of('bmp_v2')
    parts = ('detector', 'pose', 'segmenter', 'loop', 'runtime')
    assert {part for part in parts if getattr(ours, part) != getattr(v2, part)} == differing
    assert ours.detector.checkpoint == 'rtmdet-ins-l-mask'
    assert (ours.pose.checkpoint, ours.segmenter.checkpoint) == (pose, sam)
    assert ours.pose.mask_conditioning == (name != 'bmp_vitpose')
    assert (ours.loop.refine, ours.loop.refine_min_side) == (name == 'bmp_v2_plus', 100)


@pytest.mark.parametrize('name', [*VARIANTS, 'bmp_custom_example'])
def test_without_weights_nothing_is_built_and_every_file_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError('built a model')

    for builder in ('_detectors', '_pose_estimator', '_segmenter'):
        monkeypatch.setattr(f'pipeline.build.{builder}', refuse)
    monkeypatch.setenv('BMP_CHECKPOINTS', str(tmp_path))
    settings = settings_of(name)
    with pytest.raises(CheckpointError) as error:
        load_pipeline(name)
    for stage in STAGES:
        entry = read_manifest()[getattr(settings, stage).checkpoint]
        assert str(tmp_path / entry.file) in str(error.value)
        assert entry.urls[0] in str(error.value)


def test_every_pipeline_file_is_in_the_tables() -> None:
    names = {path.stem for path in CONFIG_FOLDER.glob('*.py')}
    assert names == {*VARIANTS, 'bmp_compact', 'bmp_custom_example'}


def test_the_template_has_no_setting_of_the_compact_models() -> None:
    settings = settings_of('bmp_custom_example')
    detector, pose, segmenter = (getattr(settings, stage) for stage in STAGES)
    assert (settings.loop, settings.runtime) == (LoopConfig(), RuntimeOptions())
    assert (detector.eval_score_threshold, pose.refine_boxes, pose.keypoints) == (
        None,
        False,
        'all',
    )
    assert segmenter == SegmenterConfig(segmenter.config, segmenter.checkpoint)


def test_models_named_in_the_example_build_without_a_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError('asked for the network')

    monkeypatch.setattr('socket.socket.connect', refuse)
    monkeypatch.setattr('socket.getaddrinfo', refuse)
    loaded = load_pipeline('bmp_custom_example', RANDOM_CPU)
    assert loaded.weights == {}


@pytest.mark.parametrize('name', ['mmpose::rtmpose/no.py', 'mmdet::no.py', 'nolib::no.py'])
def test_unknown_configs_of_libraries_are_named(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"no config '{name}' .*mmdet::.* or mmpose::"):
        load_pipeline('bmp_custom_example', RANDOM_CPU | {'pose.config': name})


# Other kinds of models, by name of the library: two stages, boxes only; coordinates, heatmaps.
@pytest.mark.parametrize(
    ('detector', 'pose'),
    [
        pytest.param(
            'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
            'mmpose::body_2d_keypoint/rtmpose/coco/rtmpose-s_8xb256-420e_coco-256x192.py',
            id='Mask R-CNN, RTMPose',
        ),
        pytest.param(
            'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py',
            'mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_hrnet-w32_8xb64-210e_coco-256x192.py',
            id='YOLOX, HRNet',
        ),
    ],
)
def test_other_detectors_and_pose_models_plug_in_by_name(detector: str, pose: str) -> None:
    torch.manual_seed(0)
    options = RANDOM_CPU | {
        'detector.config': detector,
        'detector.max_people': 2,
        'pose.config': pose,
        'segmenter.config': 'compact/sam2.1_cspnext_compact.yaml',
        'segmenter.prompt.visibility_threshold': 0.0,
    }
    built = build_pipeline(load_config('bmp_custom_example', options))
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)
    # Own boxes in round one, the detector in round two.
    people = built.run(image, Detections.from_boxes([[10, 10, 80, 110]], (120, 160)))
    assert 1 <= len(people) <= 3 and people.keypoints.shape[1:] == (17, 2)
    assert np.isfinite(people.scores).all()
    assert (people.mask_sources == MaskSource.SAM).any()


@pytest.mark.parametrize(
    ('slices', 'first', 'second'),
    [
        ({}, MMDetDetector, MMDetDetector),
        ({'grid': '2x2'}, SlicedDetector, SlicedDetector),
        ({'grid': '2x2', 'from_round': 2}, MMDetDetector, SlicedDetector),
    ],
    ids=['off', 'every round', 'from round 2'],
)
def test_slices_replace_the_detector_from_a_round_on(
    slices: dict[str, Any], first: type, second: type
) -> None:
    options = RANDOM_CPU | {f'detector.slices.{key}': value for key, value in slices.items()}
    run = build_pipeline(load_config('bmp_compact', options | {'detector.max_people': 4})).run
    assert [type(run.detector_of(number)) for number in (1, 2, 3)] == [first, second, second]
    if second is SlicedDetector:
        assert (run.detector_of(2).config.grid, run.detector_of(2).max_people) == ('2x2', 4)


def test_wrong_segmenter_configs_are_wrong_settings(tmp_path: Path) -> None:
    forked = tmp_path / 'forked.yaml'
    forked.write_text('model: {_target_: sam2.modeling.sam2_base.SAM2Base, n_kpts_encoder: 8}')
    for config, message in ((str(forked), 'n_kpts_encoder'), ('sam2.1_hiera_xl', 'hiera_xl')):
        options = {f'{stage}.checkpoint': None for stage in STAGES} | {'segmenter.config': config}
        with pytest.raises(ConfigError, match=message):
            build_pipeline(load_config('bmp_compact', options))
