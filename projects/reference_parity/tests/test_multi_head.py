"""MultiHead: its settings and its training; `pose_rows` compares its numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample

from pipeline.poses.released_config import stock_config
from projects.reference_parity.multi_head import MultiHead, balanced_weights, heatmap_oks
from tests.pose_samples import SIZES, oks_samples

pytestmark = pytest.mark.usefixtures('mmpose_scope')


def released_head(**kwargs: Any) -> MultiHead:
    """A small `MultiHead` for feature maps of 12 x 9."""
    torch.manual_seed(0)
    settings = {'out_channels': 23, 'init_cfg': [], **kwargs}
    decoder = {'type': 'OKSArgMaxHeatmap', **SIZES}
    head = MultiHead(in_channels=8, deconv_out_channels=(8, 8), decoder=decoder, **settings)
    for name in ('probability_layers', 'visibility_layers', 'oks_layers'):
        head.get_submodule(name)[2] = torch.nn.MaxPool2d((3, 2))  # for a map of 12 x 9
    return head


@pytest.mark.parametrize('k', [17, 21, 23])
def test_every_convention_can_be_trained(k: int) -> None:
    head = released_head(out_channels=k)
    found = head.loss((torch.randn(2, 8, 12, 9),), oks_samples(k))
    losses = {name: value for name, value in found.items() if name.startswith('loss_')}
    assert len(losses) == 4
    sum(losses.values()).backward()  # type: ignore[union-attr]
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize('freeze_oks', [False, True])
def test_the_stock_head_of_a_released_config_predicts_the_same(freeze_oks: bool) -> None:
    head = released_head(freeze_oks=freeze_oks).eval()
    settings = dict(
        type='MultiHead', in_channels=8, out_channels=23, deconv_out_channels=(8, 8),
        deconv_kernel_sizes=(4, 4), error_loss=dict(type='L1LogLoss'), freeze_oks=freeze_oks,
        decoder=dict(type='OKSArgMaxHeatmap', **SIZES),
    )  # fmt: skip
    config = stock_config(Config(dict(model=dict(type='TopdownPoseEstimator', head=settings))))
    stock = MODELS.build(config.model.head).eval()
    for name in ('probability_layers', 'visibility_layers', 'oks_layers'):
        stock.get_submodule(name)[2] = torch.nn.MaxPool2d((3, 2))
    stock.load_state_dict(head.state_dict(), strict=True)
    feature = torch.randn(1, 8, 12, 9)
    ours, released = (h.predict((feature,), [PoseDataSample()], {})[0] for h in (stock, head))
    assert set(ours.keys()) == set(released.keys())
    for name, value in released.items():
        np.testing.assert_array_equal(ours.get(name), value)


@pytest.mark.parametrize(
    ('kwargs', 'reached'),
    [
        ({}, ()),
        ({'detach_probability': False}, ('loss_probability',)),
        ({'detach_visibility': False}, ('loss_visibility',)),
    ],
)
def test_detached_branches_do_not_shape_the_features(kwargs: Any, reached: tuple[str, ...]) -> None:
    feature = torch.randn(2, 8, 12, 9, requires_grad=True)
    losses = released_head(**kwargs).loss((feature,), oks_samples(23))
    for name in ('loss_probability', 'loss_visibility', 'loss_oks'):
        (gradient,) = torch.autograd.grad(
            losses[name], feature, retain_graph=True, allow_unused=True
        )
        assert (gradient is not None) == (name in reached), name


def test_a_frozen_oks_branch_is_neither_trained_nor_used() -> None:
    head = released_head(freeze_oks=True)
    assert 'loss_oks' not in head.loss((torch.randn(2, 8, 12, 9),), oks_samples(23))
    (found,) = head.eval().predict((torch.randn(1, 8, 12, 9),), [PoseDataSample()], {})
    np.testing.assert_array_equal(found.keypoint_scores, found.keypoints_conf)


@pytest.mark.parametrize(
    'kwargs', [{'freeze_error': False}, {'deconv_kernel_sizes': (4, 3)}, {'out_channels': 5}]
)
def test_released_settings_that_cannot_be_met_are_refused(kwargs: Any) -> None:
    with pytest.raises(ValueError, match=r'freeze_error|deconv_kernel_sizes|no sigmas'):
        released_head(**kwargs)


@pytest.mark.parametrize(
    ('target', 'annotated', 'expected'),
    [
        pytest.param([1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 3], id='three to one'),
        pytest.param([1, 1, 0, 0], [1, 0, 1, 1], [2, 0, 1, 1], id='one is not labelled'),
        pytest.param([1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0], id='one class'),
        pytest.param([1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], id='nothing labelled'),
    ],
)
def test_weights_even_out_the_classes(
    target: list[int], annotated: list[int], expected: list[int]
) -> None:
    rows = (torch.tensor([row], dtype=torch.float32) for row in (target, annotated))
    assert balanced_weights(*rows).tolist() == [expected]


def test_released_oks_is_stricter_than_that_of_coco() -> None:
    points = torch.tensor([[[10.0, 0.0]]])
    sigma = torch.tensor([0.1])
    released = heatmap_oks(points, torch.zeros(1, 1, 2), sigma, 64 * 48)
    assert released.item() == pytest.approx(np.exp(-100 / (2 * 0.04 * 0.53 * 64 * 48)))
    # The person fills the crop: COCO's area is 16 times that of the heat map.
    coco = np.exp(-100 / (2 * 0.04 * 0.53 * 256 * 192))
    assert np.log(released.item()) == pytest.approx(16 * np.log(coco))
