"""The detector trainer on drawn people: data, painting, losses, one run, evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from pipeline.masks import Masks
from pipeline.structures import Detections
from projects.compact_models.trainers import find_detections, train_detector
from projects.compact_models.trainers.detector_data import (
    FILL,
    MEAN,
    STD,
    DetectorAugmentation,
    DetectorSampler,
    Images,
    load_images,
)
from projects.compact_models.trainers.detector_evaluate import detect, evaluate_detector
from projects.compact_models.trainers.detector_losses import TeacherLosses
from projects.compact_models.trainers.loop import Settings, train

from .synthetic_people import write_folder

ROOT = Path(__file__).resolve().parents[4]
PLAIN = DetectorAugmentation(
    crop=96, side=80, scale=(1.0, 1.0), colour=(0.0, 0.0, 0.0, 0.0), paint=0.0
)


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return load_images(write_folder(tmp_path_factory.mktemp('images')))


@pytest.fixture(scope='module')
def teacher() -> torch.nn.Module:
    torch.manual_seed(0)
    train_detector.build_model(train_detector.CONFIG, None)  # registers the parts of MMDetection
    model: torch.nn.Module = MODELS.build(Config.fromfile(train_detector.CONFIG).model)
    for layer in model.bbox_head.rtm_reg:  # type: ignore[union-attr]
        torch.nn.init.constant_(layer.bias, 2.0)  # boxes that are not empty
    return model.eval().requires_grad_(False)


def test_images_have_boxes_and_masks(images: Images) -> None:
    assert len(images) == 4
    assert all(boxes.shape == (2, 4) for boxes in images.boxes)
    assert [sum(mask is not None for mask in row) for row in images.masks] == [1] * 4


def test_boxes_and_masks_follow_the_crop(images: Images) -> None:
    """Images of 200 x 160 px become 80 x 64; the rest of the crop is grey."""
    sampler = DetectorSampler(images, PLAIN)
    batch = sampler.make_batch(np.random.default_rng(0), 8)
    assert batch.is_person.sum() == 8 and batch.masks.shape == (8, 24, 24)
    for box, mask in zip(batch.people[batch.is_person], batch.masks, strict=True):
        left = 4 if box[0] < 40 else 44
        expected = torch.tensor([left, 4, left + 32, 60])
        assert (box - expected).abs().max() <= 1
        assert abs(float(mask.sum()) * 16 - 32 * 56) < 160
    grey = (FILL - torch.tensor(MEAN)) / torch.tensor(STD)
    below = batch.images[:, :, 64:].permute(0, 2, 3, 1)
    torch.testing.assert_close(below, grey.expand_as(below))
    assert batch.images is batch.teacher_images


def test_painted_people_are_black_and_no_targets(images: Images) -> None:
    sampler = DetectorSampler(images, replace(PLAIN, paint=1.0))
    batch = sampler.make_batch(np.random.default_rng(0), 16)
    is_painted = batch.painted.any(2).any(1)
    assert 0 < is_painted.sum() < 16
    assert torch.equal(is_painted, ~batch.is_person.any(1))
    black = -torch.tensor(MEAN) / torch.tensor(STD)
    is_black = ((batch.images - black[:, None, None]).abs().amax(1) < 1e-4).flatten(1).any(1)
    assert torch.equal(is_black, is_painted)


def test_a_student_like_its_teacher_has_no_box_loss(
    images: Images, teacher: torch.nn.Module
) -> None:
    sampler = DetectorSampler(images, PLAIN)
    batch = sampler.make_batch(np.random.default_rng(0), 2)
    losses = TeacherLosses(teacher)(teacher, batch)
    assert set(losses) == {'loss_score', 'loss_box', 'loss_mask'}
    assert float(losses['loss_box']) < 1e-4 and float(losses['loss_score']) < 1e-6


def test_a_run_writes_weights_that_load(
    images: Images, teacher: torch.nn.Module, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    task = train_detector.DetectorTask(images, teacher, 96)
    settings = Settings(tmp_path, samples=8, batch_size=4, bfloat16=False, evaluate_samples=10**9)
    train(
        train_detector.build_model(train_detector.CONFIG, None), task, settings,
        evaluate=lambda model: {}, pack_weights=train_detector.pack_weights,
    )  # fmt: skip
    model = train_detector.build_model(train_detector.CONFIG, tmp_path / 'weights.pth')
    figures = evaluate_detector(model, images, 'x')
    assert set(figures) >= {'x_mask_iou'}
    boxes, scores, masks, _ = detect(model, images.pixels[0])
    assert len(boxes) == len(scores) == len(masks)


def test_detections_are_coco_results(tmp_path: Path) -> None:
    image = write_folder(tmp_path, num_images=1).with_name('0.png')
    find_detections.start_process(ROOT / 'checkpoints/rtmdet-ins_compact.pth')
    rows = find_detections.detect((7, image))
    assert all(row['image_id'] == 7 and row['score'] > 0.1 for row in rows)
    found = Detections(
        np.array([[10, 20, 40, 80]], np.float32), np.ones(1, np.float32),
        Masks.from_dense([np.ones((100, 50), np.bool_)], (100, 50)),
    )  # fmt: skip
    (row,) = find_detections.as_results(3, found)
    assert row['bbox'] == [10, 20, 30, 60] and row['segmentation']['size'] == [100, 50]
