"""The segmenter trainer on drawn people: windows, prompts, one run, evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from projects.compact_models.trainers import train_segmenter
from projects.compact_models.trainers.loop import Settings, train
from projects.compact_models.trainers.pose_data import People, load_people
from projects.compact_models.trainers.segmenter_data import (
    S,
    SegmenterAugmentation,
    SegmenterSampler,
    choose_keypoints,
    cut_window,
)

from .synthetic_people import write_folder


@pytest.fixture(scope='module')
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    path = write_folder(tmp_path_factory.mktemp('people'))
    return load_people(path, min_keypoints=4, kinds=('person',), with_masks=True)


def test_a_window_scales_keypoints_box_and_mask_alike(people: People) -> None:
    row = next(i for i, mask in enumerate(people.true_masks) if mask is not None)
    box = people.boxes[row]
    window = cut_window(people, row, box)
    assert window.box.tolist() == [0, 0, S, S]
    assert window.mask.mean() > 0.97 and window.known.all()
    fractions = (people.keypoints[row, :, :2] - box[:2]) / (box[2:] - box[:2])
    np.testing.assert_allclose(window.keypoints, fractions * S, atol=1e-3)


def test_a_skeleton_is_known_in_part(people: People) -> None:
    row = next(i for i, mask in enumerate(people.true_masks) if mask is None)
    box = people.boxes[row]
    window = cut_window(people, row, box + np.array([-20, -5, 20, 5], np.float32))
    x, y = np.rint(window.keypoints[5:13]).astype(int).T
    assert window.mask[y, x].all() and window.known[window.mask].all()
    assert not window.known.all() and 0.02 < window.mask.mean() < 0.6


def test_a_batch_has_two_prompts_per_window(people: People) -> None:
    batch = SegmenterSampler(people).make_batch(np.random.default_rng(0), 16)
    assert batch.images.shape == (8, 3, S, S)
    assert batch.points.shape[0] == batch.labels.shape[0] == len(batch.targets) == 16
    assert batch.image_index.tolist() == [i for i in range(8) for _ in range(2)]
    has_corner = (batch.labels == 2).any(1)
    assert has_corner.tolist() == [False, True] * 8
    assert (batch.targets * (1 - batch.known)).sum() == 0


def test_prompt_points_lie_on_the_person(people: People) -> None:
    settings = SegmenterAugmentation(masked=1.0, paste=0, jitter=(0, 0))
    sampler = SegmenterSampler(people, settings)
    batch = sampler.make_batch(np.random.default_rng(0), 16)
    for points, labels, target in zip(
        batch.points[::2], batch.labels[::2], batch.targets[::2], strict=True
    ):
        x, y = (points[labels == 1] / 2).floor().long().clamp(max=S // 2 - 1).T
        assert (target[0, y, x] > 0).all()


def test_chosen_keypoints_are_visible(people: People) -> None:
    window = cut_window(people, 0, people.boxes[0])
    hidden = window._replace(visibility=np.eye(17, dtype=np.float32)[3])
    assert choose_keypoints(hidden, 'distance+confidence').tolist() == [
        window.keypoints[3].tolist()
    ]


def test_a_run_writes_weights_that_load(people: People, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    first = train_segmenter.build_model(train_segmenter.CONFIG, None)
    memory = {k: v.clone() for k, v in first.state_dict().items() if k.startswith('memory')}
    settings = Settings(tmp_path, samples=16, batch_size=8, bfloat16=False, evaluate_samples=10**9)
    train(
        first, train_segmenter.SegmenterTask(people), settings, evaluate=lambda model: {},
        pack_weights=train_segmenter.pack_weights, weights_name='weights.pt',
        parameters=train_segmenter.trained_parameters,
    )  # fmt: skip
    model = train_segmenter.build_model(train_segmenter.CONFIG, tmp_path / 'weights.pt')
    for name, value in memory.items():
        assert torch.equal(model.state_dict()[name], value)
    figures = train_segmenter.evaluate_segmenter(model, people, 'x')
    assert figures['x_people'] == 4 and 0 <= figures['x_iou_both'] <= 1
