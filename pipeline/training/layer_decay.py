"""Layer-wise learning rate decay for vision transformers, with custom keys.

MMPose's `LayerDecayOptimWrapperConstructor` ignores `custom_keys`. This one applies them and
rejects keys that match no parameter. The layer rule is that of BEiT (arXiv 2106.08254).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

FACTORS = ('lr_mult', 'decay_mult')
SETTINGS = ('num_layers', 'layer_decay_rate', 'custom_keys')
# Parameters before the first transformer layer; other non-layer parameters come after the last.
EARLY = re.compile(r'backbone\.(patch_embed|pos_embed|cls_token|mask_token|stem)\b')
LAYER = re.compile(r'backbone\.layers\.(\d+)\.')


def unmatched_keys(keys: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return the keys that are part of no name."""
    known = list(names)
    return [key for key in keys if not any(key in name for name in known)]


def layer_of(name: str, num_layers: int) -> int:
    """Return the layer index: 0 before the transformer, i + 1 for `backbone.layers.i`, else L + 1.

    Args:
        name: Name of the parameter in the model.
        num_layers: Transformer layers of the backbone, L.

    Returns:
        A number in [0, L + 1].

    Raises:
        ValueError: The backbone has more layers.
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


def group_trained_parameters(
    module: nn.Module, compute_rates: Callable[[str, nn.Parameter], tuple[float, float]]
) -> list[dict[str, Any]]:
    """Group the trained parameters of a model by learning rate and weight decay.

    Args:
        module: Model.
        compute_rates: Function from name and parameter to learning rate and weight decay.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            lr, decay = compute_rates(name, parameter)
            group = groups.setdefault((lr, decay), {'params': [], 'lr': lr, 'weight_decay': decay})
            group['params'].append(parameter)
    return list(groups.values())


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class LayerDecayConstructor(DefaultOptimWrapperConstructor):  # type: ignore[misc,unused-ignore]
    """Learning rate `lr * layer_decay_rate ** (L + 1 - layer)` for each parameter.

    Biases and 1D parameters have no weight decay. `custom_keys` then change both rules: for the
    longest key that is part of the name, `lr_mult` multiplies the learning rate of the layer, and
    the weight decay becomes `decay_mult` times that of the optimizer. Frozen parameters are
    omitted.

    Args:
        optim_wrapper_cfg: Optimizer wrapper with `optimizer`, which has `lr`.
        paramwise_cfg: `num_layers` L, `layer_decay_rate` in (0, 1], `custom_keys` (optional).

    Raises:
        ValueError: A setting is unknown or missing, or (when called) a key matches no parameter.
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
        """Group the parameters of a model by their settings, and append the groups to `params`."""
        names = [name for name, _ in module.named_parameters()]
        unmatched = unmatched_keys(self.custom_keys, names)
        if unmatched:
            raise ValueError(f'custom_keys {unmatched} match no parameter of the model')
        params.extend(group_trained_parameters(module, self.compute_rates))

    def compute_rates(self, name: str, parameter: nn.Parameter) -> tuple[float, float]:
        """Return learning rate and weight decay of one parameter."""
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
