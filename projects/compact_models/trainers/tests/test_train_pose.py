"""The pose trainer on drawn people: data, augmentation, losses, resume, evaluation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from projects.compact_models.trainers import train_pose
from projects.compact_models.trainers.crops import FLIP
from projects.compact_models.trainers.loop import Settings, train
from projects.compact_models.trainers.pose_augment import (
    Augmentation,
    H,
    PoseSampler,
    W,
    crop_matrices,
    transform_points,
    window_sides,
)
from projects.compact_models.trainers.pose_data import KINDS, People, load_people
from projects.compact_models.trainers.pose_evaluate import evaluate_pose, invert
from projects.compact_models.trainers.pose_losses import make_heatmaps, peaks_of

from .synthetic_people import write_detections, write_folder

PLAIN = Augmentation(
    half_body=0, edge=0, rotation=(0, 0), shift=(0, 0), scale=(0, 0), paste=0, mask=0,
    low_resolution=0, blur=0, colour=(0, 0, 0, 0), mixture=(('person', 1.0),),
)  # fmt: skip


@pytest.fixture(scope='module')
def coco_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('people')
    path = write_folder(folder)
    write_detections(folder / 'found.json', path)
    return path


@pytest.fixture(scope='module')
def people(coco_file: Path) -> People:
    return load_people(coco_file, subset='train', detections=coco_file.with_name('found.json'))


def test_rows_of_all_kinds_are_read(people: People) -> None:
    assert np.bincount(people.kind, minlength=4).tolist() == [6, 6, 0, 3]
    background = people.kind == KINDS.index('background')
    assert np.isnan(people.person_boxes[background]).all()
    assert (people.boxes[6:12] != people.person_boxes[6:12]).any()
    assert sum(mask is not None for mask in people.true_masks[:6]) == 3
    assert all(mask is not None for mask in people.found_masks[:6])
    assert len(people.cutouts) == 3


def test_crops_agree_with_mmpose(people: People) -> None:
    from mmpose.structures.bbox import get_udp_warp_matrix

    box = people.boxes[:1]
    center, sides = (box[:, :2] + box[:, 2:]) / 2, window_sides(box)
    expected = get_udp_warp_matrix(center[0], sides[0], 0, (W, H))
    np.testing.assert_allclose(crop_matrices(center, sides)[0], expected, atol=1e-4)


def test_keypoints_follow_the_crop(people: People) -> None:
    """A plain crop differs from the annotation by the flip alone."""
    batch = PoseSampler(people, PLAIN).make_batch(np.random.default_rng(1), 12)
    boxes = people.boxes[:6]
    matrices = crop_matrices((boxes[:, :2] + boxes[:, 2:]) / 2, window_sides(boxes))
    expected = transform_points(people.keypoints[:6, :, :2], matrices)
    mirrored = expected[:, FLIP] * [-1, 1] + [W - 1, 0]
    for points in batch.points.numpy():
        apart = np.abs(np.concatenate([expected, mirrored]) - points).max((1, 2))
        assert apart.min() < 1e-3
    assert batch.known.all() and batch.visible.all()


def test_box_target_of_a_plain_crop_is_padded_by_a_quarter(people: People) -> None:
    batch = PoseSampler(people, PLAIN).make_batch(np.random.default_rng(0), 8)
    sides = batch.boxes[:, 3] - batch.boxes[:, 1]
    torch.testing.assert_close(sides, torch.full_like(sides, 0.8), atol=1e-4, rtol=0)


def test_an_image_edge_makes_keypoints_absent(people: People) -> None:
    settings = replace(PLAIN, edge=1.0)
    batch = PoseSampler(people, settings).make_batch(np.random.default_rng(0), 40)
    absent = (batch.annotated == 1) & (batch.present == 0)
    assert absent.any(1).float().mean() > 0.8
    assert (batch.annotated * batch.present).sum(1).min() >= 3


def test_a_pasted_neighbour_hides_keypoints_but_never_too_much(people: People) -> None:
    settings = replace(PLAIN, paste=1.0)
    batch = PoseSampler(people, settings).make_batch(np.random.default_rng(0), 40)
    hidden = (batch.present * batch.annotated) > batch.visible
    assert hidden.any() and batch.annotated.all()


def test_full_dimming_leaves_the_person_alone(people: People) -> None:
    settings = replace(PLAIN, mask=1.0, wrong_mask=0.0)
    plain = PoseSampler(people, PLAIN).make_batch(np.random.default_rng(0), 40).images
    dimmed = PoseSampler(people, settings).make_batch(np.random.default_rng(0), 40).images
    black = (0 - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor([58.395, 57.12, 57.375])
    is_black = (dimmed.permute(0, 2, 3, 1) - black).abs().amax(-1) < 0.01
    assert plain.shape == dimmed.shape == (40, 3, H, W)
    assert is_black.float().mean() > 0.2


def test_heatmaps_peak_at_the_keypoints() -> None:
    points = torch.tensor([[[0.0, 0.0], [71.5, 95.5], [143.0, 191.0]]])
    peaks = peaks_of(make_heatmaps(points, (48, 36)))
    assert (peaks - points).abs().max() <= 2.1


def test_invert_undoes_a_crop(people: People) -> None:
    matrices = crop_matrices(np.full((2, 2), 50, np.float32), np.full((2, 2), 40, np.float32))
    points = np.array([[[3, 5]], [[60, 2]]], np.float32)
    moved = transform_points(transform_points(points, matrices), invert(matrices))
    np.testing.assert_allclose(moved, points, atol=1e-3)


def run(work_dir: Path, people: People, **changes: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    changes = {'workers': 2, **changes}
    settings = Settings(
        work_dir, batch_size=4, bfloat16=False, warmup=2, checkpoint_minutes=0,
        evaluate_samples=10**9, **changes,
    )  # fmt: skip
    model = train_pose.build_model(train_pose.CONFIG, None)
    averaged = train(
        model, train_pose.PoseTask(people), settings,
        evaluate=lambda model: {}, pack_weights=train_pose.pack_weights,
    )  # fmt: skip
    return averaged.state_dict()


def test_a_resumed_run_equals_an_uninterrupted_one(people: People, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = run(tmp_path / 'whole', people, samples=12)
    run(tmp_path / 'parts', people, samples=12, stop_minutes=0)
    counters = torch.load(tmp_path / 'parts/checkpoint.pth')['counters']
    assert counters['samples'] == 4
    parts = run(tmp_path / 'parts', people, samples=12)
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    with pytest.raises(ValueError, match='--workers 2'):
        run(tmp_path / 'parts', people, samples=12, workers=1)
    lines = [json.loads(row) for row in (tmp_path / 'parts/log.jsonl').read_text().splitlines()]
    assert lines[-1]['event'] == 'end' and lines[-1]['per_cpu_second'] > 0


def test_weights_load_into_the_shipped_config(people: People, tmp_path: Path) -> None:
    run(tmp_path, people, samples=4)
    model = train_pose.build_model(train_pose.CONFIG, tmp_path / 'weights.pth')
    figures = evaluate_pose(model, people, 'x')
    assert figures['x_people'] == 6
    assert 0 <= figures['x_oks'] <= 1 and 0 < figures['x_iou_detected'] < 1
    meta = torch.load(tmp_path / 'weights.pth', weights_only=True)['meta']['dataset_meta']
    assert meta['num_keypoints'] == 17
