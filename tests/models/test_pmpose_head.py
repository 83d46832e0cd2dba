"""PMPoseHead: settings and training; projects/reference_parity has the recorded numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData
from mmpose.structures import PoseDataSample

from pipeline.keypoints import COCO_FLIP
from pipeline.poses.pmpose_head import PMPoseHead, sparsemax
from pipeline.poses.pmpose_losses import (
    SpatialCrossEntropyLoss,
    branch_losses,
    collect_targets,
    point_oks,
)
from tests.pose_samples import oks_samples, sample_of

BRANCHES = ('presence', 'visibility', 'oks')


pytestmark = pytest.mark.usefixtures('mmpose_scope')


def test_sparsemax_is_the_projection_onto_the_simplex() -> None:
    torch.manual_seed(0)
    logits = 3 * torch.randn(4, 5, 50, dtype=torch.float64)
    result = sparsemax(logits)
    low, high = logits.amin(-1, keepdim=True) - 1, logits.amax(-1, keepdim=True)
    for _ in range(60):
        middle = (low + high) / 2
        too_much = (logits - middle).clamp(min=0).sum(-1, keepdim=True) > 1
        low, high = torch.where(too_much, middle, low), torch.where(too_much, high, middle)
    torch.testing.assert_close(result, (logits - low).clamp(min=0), atol=1e-9, rtol=0)
    assert (result == 0).any()


@pytest.mark.parametrize(
    ('logits', 'expected'),
    [
        pytest.param([0.0, 0.0], [0.5, 0.5], id='equal'),
        pytest.param([5.0, 1.0, 0.0], [1.0, 0.0, 0.0], id='one far above'),
        pytest.param([1e4, 1e4 - 0.5], [0.75, 0.25], id='large values'),
        pytest.param([7.0], [1.0], id='one entry'),
    ],
)
def test_sparsemax_by_hand(logits: list[float], expected: list[float]) -> None:
    torch.testing.assert_close(sparsemax(torch.tensor(logits)), torch.tensor(expected))


@pytest.mark.parametrize('kwargs', [{'activation': 'relu'}, {'keypoint_score': 'best'}])
def test_refuses_unknown_settings(kwargs: Any) -> None:
    with pytest.raises(ValueError, match='allowed'):
        PMPoseHead(in_channels=8, out_channels=17, **kwargs)


def compact_head(**kwargs: Any) -> PMPoseHead:
    torch.manual_seed(0)
    sizes = {'in_channels': 8, 'out_channels': 17, 'deconv_out_channels': (8, 8)}
    branch = {'branch_channels': 4, 'branch_pools': ((3, 3), (2, 3), (2, 1))}
    decoder = {'type': 'UDPHeatmap', 'input_size': (144, 192), 'heatmap_size': (36, 48)}
    loss = {'activation': 'softmax', 'loss': {'type': 'SpatialCrossEntropyLoss'}}
    return PMPoseHead(decoder=decoder, init_cfg=[], **sizes | branch | loss | kwargs)


def sample_at(points: np.ndarray, levels: np.ndarray, *, flip: bool = False) -> PoseDataSample:
    """A packed sample with keypoints (17, 2) in input px and raw labels (17,)."""
    raw = np.concatenate([points, levels[:, None]], axis=1)
    sample = PoseDataSample(
        metainfo={
            'input_size': (144, 192),
            'input_scale': np.array([72.0, 96.0]),
            'flip': flip,
            'flip_indices': list(COCO_FLIP),
            'raw_ann_info': {'keypoints': raw.ravel().tolist()},
        }
    )
    heatmaps = torch.zeros(17, 48, 36)
    for k, (x, y) in enumerate(np.clip(points / 4, 0, 35).astype(int)):
        heatmaps[k, y, x] = 1
    sample.gt_fields = PixelData(heatmaps=heatmaps)
    sample.gt_instances = InstanceData(
        transformed_keypoints=points[None].astype(np.float32),
        bboxes=np.array([[10, 10, 50, 90]], np.float32),
    )
    weights = torch.from_numpy((levels > 0).astype(np.float32))[None]
    sample.gt_instance_labels = InstanceData(keypoint_weights=weights)
    return sample


def test_released_weights_load_strictly_without_the_error_branch() -> None:
    head = compact_head()
    state = head.state_dict()
    branch = {k: v for k, v in state.items() if k.startswith('oks_layers.')}
    released = {**state, **{k.replace('oks', 'error', 1): v for k, v in branch.items()}}
    head.load_state_dict(released, strict=True)
    assert not any(k.startswith('error_layers') for k in head.state_dict())
    with pytest.raises(RuntimeError, match='wrong_layers'):
        head.load_state_dict({**released, 'wrong_layers.0.weight': torch.zeros(1)}, strict=True)


@pytest.fixture
def samples() -> list[PoseDataSample]:
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 3, (2, 17)).astype(np.float32)
    return [sample_at(rng.uniform(0, 140, (17, 2)), row) for row in levels]


def test_targets_of_the_branches() -> None:
    points = np.full((17, 2), 50.0)
    points[1] = [-3.0, 20.0]
    levels = np.full(17, 2.0)
    levels[1:4] = [1, 0, 1]
    targets = collect_targets([sample_at(points, levels)], torch.device('cpu'))
    assert targets.annotated[0, :4].tolist() == [1, 1, 0, 1]
    assert targets.present[0, :3].tolist() == [1, 0, 1]
    assert targets.visible[0, :4].tolist() == [1, 0, 0, 0]
    assert targets.seen[0, :4].tolist() == [1, 0, 0, 1]
    # A box of 40 x 80 px, crops at twice the resolution of the image.
    assert targets.area[0, 0] == pytest.approx(40 * 80 * 0.53 * 4)


def test_labels_of_a_mirrored_sample_are_mirrored() -> None:
    levels = np.full(17, 2.0)
    levels[5] = 1
    sample = sample_at(np.full((17, 2), 50.0), levels, flip=True)
    visible = collect_targets([sample], torch.device('cpu')).visible[0]
    assert visible[6] == 0
    assert visible[5] == 1


def test_unlabelled_key_points_do_not_reach_the_losses(samples: list[PoseDataSample]) -> None:
    targets = collect_targets(samples, torch.device('cpu'))
    torch.manual_seed(0)
    logits = {name: torch.randn(2, 17) for name in BRANCHES}
    oks = torch.rand(2, 17)
    before = branch_losses(logits, oks, targets)
    moved = {name: torch.where(targets.annotated > 0, v, 9.0) for name, v in logits.items()}
    after = branch_losses(moved, oks, targets)
    assert {k: v.item() for k, v in before.items()} == {k: v.item() for k, v in after.items()}


def test_oks_is_one_at_the_truth_and_falls_with_distance(samples: list[PoseDataSample]) -> None:
    targets = collect_targets(samples, torch.device('cpu'))
    sigmas = torch.full((17,), 0.1)
    assert (point_oks(targets.points, targets, sigmas) == 1).all()
    # At d^2 = 2 area (2 sigma)^2 the similarity is 1 / e.
    distance = (2 * targets.area * 0.04).sqrt()[..., None] * torch.tensor([1.0, 0.0])
    oks = point_oks(targets.points + distance, targets, sigmas)
    torch.testing.assert_close(oks, torch.full_like(oks, np.exp(-1)), atol=1e-3, rtol=0)


def test_branches_do_not_train_the_features(samples: list[PoseDataSample]) -> None:
    feature = torch.randn(2, 8, 12, 9, requires_grad=True)
    losses = compact_head().loss((feature,), samples)
    scalars = [losses[f'loss_{name}'] for name in ('presence', 'visibility', 'oks')]
    (gradient,) = torch.autograd.grad(sum(scalars), feature, retain_graph=True, allow_unused=True)
    assert gradient is None
    (gradient,) = torch.autograd.grad(losses['loss_kpt'], feature)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    'kwargs',
    [
        pytest.param({}, id='softmax and cross entropy'),
        pytest.param(
            {'normalize': None, 'loss': {'type': 'KeypointMSELoss', 'use_target_weight': True}},
            id='plain heatmaps and squared error',
        ),
    ],
)
def test_a_few_steps_lower_every_loss(samples: list[PoseDataSample], kwargs: Any) -> None:
    head = compact_head(**kwargs)
    feature = torch.randn(2, 8, 12, 9)
    optimiser = torch.optim.Adam(head.parameters(), lr=1e-2)
    history = []
    for _ in range(25):
        losses = head.loss((feature,), samples)
        history.append({k: v.item() for k, v in losses.items()})
        optimiser.zero_grad()
        sum(v for k, v in losses.items() if k.startswith('loss_')).backward()  # type: ignore
        optimiser.step()
    for name in ('loss_kpt', 'loss_presence', 'loss_visibility'):
        assert history[-1][name] < history[0][name], name


def test_cross_entropy_ignores_points_without_weight() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(1, 3, 4, 4), torch.rand(1, 3, 4, 4)
    weights = torch.tensor([[1.0, 0.0, 1.0]])
    loss = SpatialCrossEntropyLoss()
    other = logits.clone()
    other[:, 1] += torch.randn(4, 4)
    assert loss(logits, target, weights) == loss(other, target, weights)
    assert loss(logits, target, torch.zeros(1, 3)) == 0


def test_confidence_can_be_the_keypoint_score() -> None:
    head = compact_head(keypoint_score='conf').eval()
    (prediction,) = head.predict((torch.randn(1, 8, 12, 9),), [PoseDataSample()], {})
    np.testing.assert_array_equal(prediction.keypoint_scores, prediction.keypoints_conf)
    assert prediction.keypoints.shape == (1, 17, 2)


@pytest.mark.parametrize('k', [17, 21, 23])
def test_every_convention_can_be_trained(k: int) -> None:
    head = compact_head(out_channels=k, activation='sparsemax', loss={'type': 'OKSHeatmapLoss'})
    found = head.loss((torch.randn(2, 8, 12, 9),), oks_samples(k))
    losses = {name: value for name, value in found.items() if name.startswith('loss_')}
    assert len(losses) == 4
    sum(losses.values()).backward()  # type: ignore[union-attr]
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_visibility_travels_through_the_codec() -> None:
    levels = np.full(23, 2.0)
    levels[1:3] = (1, 0)
    sample = sample_of(np.full((23, 2), 50.0), levels)
    targets = collect_targets([sample], torch.device('cpu'))
    assert targets.visible[0, :4].tolist() == [1, 0, 0, 1]
    assert targets.annotated[0, :4].tolist() == [1, 1, 0, 1]
