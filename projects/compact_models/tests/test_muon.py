"""Muon beside what it should compute, and AdamW beside PyTorch's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from projects.compact_models.training.muon import MuonAdamW, is_matrix, orthogonalised

SHAPES = [(64, 576), (64, 64), (100, 60), (300, 20), (20, 300), (1, 7)]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_singular_vectors_stay_and_values_come_near_one(shape: tuple[int, int]) -> None:
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.linspace(0.05, 3.0, len(v))
    moved = u.T @ orthogonalised((u * values) @ v) @ v.T
    diagonal = moved.diagonal()
    assert ((diagonal > 0.6) & (diagonal < 1.25)).all()
    assert torch.allclose(moved, torch.diag(diagonal), atol=1e-4)


def test_a_narrow_and_a_wide_matrix_are_treated_alike() -> None:
    square = torch.randn(40, 40)
    beside = torch.cat([square, torch.zeros(40, 60)], 1)  # takes the way by the small side
    assert torch.allclose(orthogonalised(beside)[:, :40], orthogonalised(square), atol=1e-4)
    assert torch.allclose(orthogonalised(square.T), orthogonalised(square).T, atol=1e-4)


def test_no_gradient_no_move() -> None:
    assert torch.equal(orthogonalised(torch.zeros(20, 90)), torch.zeros(20, 90))


@pytest.mark.parametrize(
    ('parameter', 'taken'),
    [
        (nn.Linear(32, 16).weight, True),
        (nn.Linear(32, 15).weight, False),  # a short side
        (nn.Conv2d(3, 16, 3).weight, True),  # 16 x 27
        (nn.Conv2d(32, 32, 5, groups=32).weight, False),  # depthwise
        (nn.Linear(32, 16).bias, False),
        (torch.zeros(1, 108, 128), False),  # position embedding
    ],
    ids=['linear', 'short', 'kernel', 'depthwise', 'bias', 'embedding'],
)
def test_who_goes_to_muon(parameter: Any, taken: bool) -> None:
    assert is_matrix(parameter, 16) is taken


def test_a_step_of_a_kernel() -> None:
    """First step: the gradient's own direction, decayed weights, elements of about 0.2 lr."""
    kernel = nn.Parameter(torch.randn(32, 16, 3, 3))
    before, kernel.grad = kernel.detach().clone(), torch.randn(32, 16, 3, 3)
    MuonAdamW([kernel], lr=0.01, weight_decay=0.1).step()
    expected = orthogonalised(kernel.grad.reshape(32, 144)).reshape(kernel.shape)
    move = kernel.detach() - before * (1 - 0.01 * 0.1)
    assert torch.allclose(move, -0.01 * 0.2 * 144**0.5 * expected, atol=1e-5)
    assert 0.1 < move.square().mean().sqrt() / 0.01 < 0.3


def test_all_others_move_as_with_adamw() -> None:
    ours = nn.ParameterList([torch.randn(7), torch.randn(8, 1, 5, 5), torch.randn(1, 6, 4)])
    stock = copy.deepcopy(ours)
    settings: dict[str, Any] = {'lr': 0.02, 'weight_decay': 0.1, 'betas': (0.9, 0.99)}
    pairs = (MuonAdamW(ours, **settings), ours), (torch.optim.AdamW(stock, **settings), stock)
    for _ in range(5):
        gradients = [torch.randn_like(p) for p in ours]
        for optimiser, parameters in pairs:
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient.clone()
            optimiser.step()
    for a, b in zip(ours, stock, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def _steps(model: nn.Module, optimiser: Any, seeds: range) -> None:
    for seed in seeds:
        x = torch.randn(8, 24, generator=torch.Generator().manual_seed(seed))
        optimiser.zero_grad()
        model(x).square().mean().backward()
        optimiser.step()


def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(tmp_path: Any) -> None:
    whole = nn.Sequential(nn.Linear(24, 20), nn.LayerNorm(20), nn.Linear(20, 30))
    stopped = copy.deepcopy(whole)
    _steps(whole, MuonAdamW(whole.parameters()), range(6))
    optimiser = MuonAdamW(stopped.parameters())
    _steps(stopped, optimiser, range(3))
    torch.save(optimiser.state_dict(), tmp_path / 'state.pt')
    again = MuonAdamW(stopped.parameters())
    again.load_state_dict(torch.load(tmp_path / 'state.pt', weights_only=True))
    _steps(stopped, again, range(3, 6))
    for a, b in zip(whole.parameters(), stopped.parameters(), strict=True):
        assert torch.equal(a, b)


def test_parameters_without_a_gradient_stay_and_a_closure_is_called() -> None:
    still, moved = nn.Parameter(torch.ones(20, 20)), nn.Parameter(torch.ones(3))

    def loss() -> Any:
        value = moved.sum()
        value.backward()
        return value

    assert MuonAdamW([still, moved]).step(loss) == 3
    assert torch.equal(still, torch.ones(20, 20))
    assert (moved < 1).all()


def test_by_name_in_a_config_with_settings_of_groups() -> None:
    model = nn.Sequential(nn.Linear(24, 20), nn.LayerNorm(20))
    wrapper = build_optim_wrapper(
        model,
        {
            'optimizer': {'type': 'MuonAdamW', 'lr': 0.003, 'weight_decay': 0.1},
            'paramwise_cfg': {'norm_decay_mult': 0.0},
        },
    )
    assert isinstance(wrapper.optimizer, MuonAdamW)
    decay = {
        id(p): group['weight_decay']
        for group in wrapper.optimizer.param_groups
        for p in group['params']
    }
    assert decay[id(model[0].weight)] == 0.1
    assert decay[id(model[1].weight)] == 0.0


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'lr': -1.0}, 'lr must be >= 0, got -1.0'),
        ({'weight_decay': -0.1}, 'weight_decay must be >= 0, got -0.1'),
        ({'momentum': 1.0}, r'momentum must be in \[0, 1\), got 1.0'),
        ({'betas': (0.9, 1.5)}, r'betas\[1\] must be in \[0, 1\), got 1.5'),
        ({'min_side': 0}, 'min_side must be >= 1, got 0'),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MuonAdamW([nn.Parameter(torch.ones(2))], **settings)
