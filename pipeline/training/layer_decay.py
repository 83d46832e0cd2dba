"""Learning rates that fall towards the input of a vision transformer, with custom keys that act.

MMPose's `LayerDecayOptimWrapperConstructor` reads `custom_keys` nowhere, so that the factors in
its configs (some of them misspelt) never acted. This one applies them and refuses those that
match no parameter. The rule for layers is that of BEiT (arXiv 2106.08254).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

FACTORS = ('lr_mult', 'decay_mult')
SETTINGS = ('num_layers', 'layer_decay_rate', 'custom_keys')
# Before the first transformer layer; all else behind the last one.
EARLY = re.compile(r'backbone\.(patch_embed|pos_embed|cls_token|mask_token|stem)\b')
LAYER = re.compile(r'backbone\.layers\.(\d+)\.')


def unmatched_keys(keys: Iterable[str], names: Iterable[str]) -> list[str]:
    """The keys that are part of no name."""
    known = list(names)
    return [key for key in keys if not any(key in name for name in known)]


def layer_of(name: str, num_layers: int) -> int:
    """Layer of a parameter: 0 before the transformer, i + 1 for `backbone.layers.i`, else the last.

    Args:
        name: name of the parameter in the model.
        num_layers: transformer layers of the backbone, L.

    Returns:
        A number in [0, L + 1].

    Raises:
        ValueError: the backbone has more layers.
    """
    if EARLY.match(name):
        return 0
    found = LAYER.match(name)
    if found is None:
        return num_layers + 1
    layer = int(found.group(1)) + 1
    if layer > num_layers:
        raise ValueError(
            f'paramwise_cfg.num_layers = {num_layers}, but the model has {name}; give the number '
            'of transformer layers of the backbone'
        )
    return layer


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class LayerDecayConstructor(DefaultOptimWrapperConstructor):  # type: ignore[misc,unused-ignore]
    """Optimiser with `lr * layer_decay_rate ** (L + 1 - layer)` for each parameter.

    Biases and parameters of one dimension have no weight decay. Both rules are then changed by
    `custom_keys`: the longest key that is part of the name wins, its `lr_mult` multiplies the
    learning rate of the layer, its `decay_mult` replaces the weight decay by `decay_mult` times
    the optimiser's. Frozen parameters are left out.

    Args:
        optim_wrapper_cfg: optimiser wrapper with `optimizer`, which has `lr`.
        paramwise_cfg: `num_layers` L, `layer_decay_rate` in (0, 1], `custom_keys` (optional).

    Raises:
        ValueError: an unknown or missing setting; a key that matches no parameter (when called).
    """

    def __init__(
        self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None
    ) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        settings = self.paramwise_cfg
        unknown = sorted(set(settings) - set(SETTINGS))
        if unknown:
            raise ValueError(f'paramwise_cfg has no {", ".join(unknown)}; known: {SETTINGS}')
        self.num_layers: int = settings.get('num_layers', 0)
        self.rate: float = settings.get('layer_decay_rate', 0.0)
        self.custom_keys: Mapping[str, Mapping[str, float]] = settings.get('custom_keys', {})
        if self.num_layers < 1 or not 0.0 < self.rate <= 1.0:
            raise ValueError(
                f'paramwise_cfg: num_layers = {self.num_layers} must be 1 or more and '
                f'layer_decay_rate = {self.rate} in (0, 1]'
            )
        for key, factors in self.custom_keys.items():
            wrong = sorted(set(factors) - set(FACTORS))
            if wrong:
                raise ValueError(f'custom_keys[{key!r}] has {", ".join(wrong)}; known: {FACTORS}')

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, **kwargs: Any) -> None:
        """Sorts the parameters of a model into groups of equal settings, appended to `params`."""
        names = [name for name, _ in module.named_parameters()]
        unmatched = unmatched_keys(self.custom_keys, names)
        if unmatched:
            raise ValueError(f'custom_keys {unmatched} match no parameter of the model')
        groups: dict[tuple[float, float], dict[str, Any]] = {}
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                rates = self.rates_of(name, parameter)
                empty = {'params': [], 'lr': rates[0], 'weight_decay': rates[1]}
                groups.setdefault(rates, empty)['params'].append(parameter)
        params.extend(groups.values())

    def rates_of(self, name: str, parameter: nn.Parameter) -> tuple[float, float]:
        """Learning rate and weight decay of one parameter."""
        distance = self.num_layers + 1 - layer_of(name, self.num_layers)
        lr = self.base_lr * self.rate**distance
        base_decay = self.base_wd or 0.0
        decay = 0.0 if parameter.ndim == 1 or name.endswith('.bias') else base_decay
        key = max((key for key in self.custom_keys if key in name), key=len, default=None)
        if key is not None:
            factors = self.custom_keys[key]
            lr *= factors.get('lr_mult', 1.0)
            if 'decay_mult' in factors:
                decay = base_decay * factors['decay_mult']
        return lr, decay
