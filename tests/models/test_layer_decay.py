"""Learning rate and weight decay of every parameter against a table made by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from pipeline.training.layer_decay import layer_of

LR, DECAY = 1.0, 0.1


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(4)
        self.qkv = nn.Linear(4, 4)


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 6, 4))
        self.patch_embed = nn.Conv2d(3, 4, 2)
        self.layers = nn.ModuleList([Layer(), Layer()])
        self.ln1 = nn.LayerNorm(4)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Linear(4, 17)


# Two layers, rate 0.5: the input has 0.5 ** 3, layer 0 has 0.5 ** 2, layer 1 has 0.5, the rest 1.
TABLE = {
    'backbone.pos_embed': (0.125, 0.1),
    'backbone.patch_embed.weight': (0.125, 0.1),
    'backbone.patch_embed.bias': (0.125, 0.0),
    'backbone.layers.0.ln1.weight': (0.25, 0.0),
    'backbone.layers.0.ln1.bias': (0.25, 0.0),
    'backbone.layers.0.qkv.weight': (0.25, 0.1),
    'backbone.layers.0.qkv.bias': (0.25, 0.0),
    'backbone.layers.1.ln1.weight': (0.5, 0.0),
    'backbone.layers.1.ln1.bias': (0.5, 0.0),
    'backbone.layers.1.qkv.weight': (0.5, 0.1),
    'backbone.layers.1.qkv.bias': (0.5, 0.0),
    'backbone.ln1.weight': (1.0, 0.0),
    'backbone.ln1.bias': (1.0, 0.0),
    'head.weight': (1.0, 0.1),
    'head.bias': (1.0, 0.0),
}


def rates(model: nn.Module, **paramwise: Any) -> dict[str, tuple[float, float]]:
    """(learning rate, weight decay) that the optimiser has for each parameter by name."""
    settings = {
        'type': 'OptimWrapper',
        'optimizer': {'type': 'AdamW', 'lr': LR, 'weight_decay': DECAY},
        'constructor': 'LayerDecayConstructor',
        'paramwise_cfg': {'num_layers': 2, 'layer_decay_rate': 0.5} | paramwise,
    }
    wrapper = build_optim_wrapper(model, settings)
    of = {
        id(parameter): (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for parameter in group['params']
    }
    return {name: of[id(p)] for name, p in model.named_parameters() if id(p) in of}


def test_layers_decay_as_in_the_table() -> None:
    assert rates(Model()) == TABLE


@pytest.mark.parametrize(
    ('keys', 'changes'),
    [
        pytest.param(
            {'pos_embed': {'decay_mult': 0.0}}, {'backbone.pos_embed': (0.125, 0.0)}, id='no decay'
        ),
        pytest.param(
            {'head': {'lr_mult': 10.0}},
            {'head.weight': (10.0, 0.1), 'head.bias': (10.0, 0.0)},
            id='on top of the layer, bias still without decay',
        ),
        pytest.param(
            {'layers.1': {'lr_mult': 2.0}, 'layers.1.qkv': {'lr_mult': 4.0, 'decay_mult': 0.5}},
            {
                'backbone.layers.1.ln1.weight': (1.0, 0.0),
                'backbone.layers.1.ln1.bias': (1.0, 0.0),
                'backbone.layers.1.qkv.weight': (2.0, 0.05),
                'backbone.layers.1.qkv.bias': (2.0, 0.05),
            },
            id='the longest key wins',
        ),
    ],
)
def test_custom_keys_act(keys: dict[str, Any], changes: dict[str, Any]) -> None:
    assert rates(Model(), custom_keys=keys) == TABLE | changes


def test_frozen_parameters_are_left_out() -> None:
    model = Model()
    model.backbone.requires_grad_(False)
    assert set(rates(model)) == {'head.weight', 'head.bias'}


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'custom_keys': {'heads': {'lr_mult': 1.0}}}, r"\['heads'\] match no parameter"),
        ({'custom_keys': {'head': {'decay_multi': 0.0}}}, 'decay_multi; known'),
        ({'layer_decay': 0.5}, 'has no layer_decay'),
        ({'layer_decay_rate': 1.5}, r'layer_decay_rate = 1\.5 in \(0, 1\]'),
        ({'num_layers': 0}, 'num_layers = 0 must be 1'),
        ({'num_layers': 1}, r'num_layers = 1, but the model has backbone\.layers\.1\.'),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rates(Model(), **settings)


def test_layers_of_a_real_transformer() -> None:
    from mmpretrain.models import VisionTransformer

    backbone = VisionTransformer(
        arch={'embed_dims': 8, 'num_layers': 3, 'num_heads': 2, 'feedforward_channels': 8},
        img_size=(32, 32), with_cls_token=False, out_type='featmap',
    )  # fmt: skip
    layers: dict[int, set[str]] = {}
    for name, _ in backbone.named_parameters():
        layers.setdefault(layer_of(f'backbone.{name}', 3), set()).add(name.split('.')[0])
    assert layers == {
        0: {'pos_embed', 'patch_embed'}, 1: {'layers'}, 2: {'layers'}, 3: {'layers'}, 4: {'ln1'},
    }  # fmt: skip
