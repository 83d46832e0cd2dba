"""Parameter groups of a partly frozen SAM 2."""

from __future__ import annotations

import re
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

_TRUNK = 'image_encoder.trunk.'
_BLOCK = re.compile(r'image_encoder\.trunk\.blocks\.(\d+)\.')
_POSITIONS = 'trunk.pos_embed'  # keeps its learning rate in SAM 2's own training
_SETTINGS = ('layer_decay_rate', 'custom_keys')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class TrainedPartsConstructor(DefaultOptimWrapperConstructor):  # type: ignore[misc,unused-ignore]
    """Optimizer of the trained parameters; frozen parameters are omitted.

    Biases and 1D parameters (norms) have no weight decay. `paramwise_cfg` takes:

    - `layer_decay_rate` d in (0, 1], default 1: the learning rate of block i of the
      image encoder's L blocks is multiplied by d^(L - i), that of parameters before the blocks by
      d^(L + 1), as in SAM 2's training.
    - `custom_keys`: part of a name -> `lr_mult`, an additional factor; the longest match counts.

    Raises:
        ValueError: A setting is unknown or out of range.
    """

    def __init__(
        self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None
    ) -> None:
        settings = {'layer_decay_rate': 1.0, **(paramwise_cfg or {})}
        unknown = sorted(set(settings) - set(_SETTINGS))
        if unknown:
            raise ValueError(f'paramwise_cfg has no {", ".join(unknown)}; known: {_SETTINGS}')
        super().__init__(optim_wrapper_cfg, settings)
        self.rate = float(settings['layer_decay_rate'])
        if not 0 < self.rate <= 1:
            raise ValueError(f'paramwise_cfg.layer_decay_rate = {self.rate}, must be in (0, 1]')

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, **kwargs: Any) -> None:
        """Group the trained parameters of a model by their settings."""
        trained = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
        blocks = [int(m.group(1)) for m in (_BLOCK.search(name) for name, _ in trained) if m]
        groups: dict[tuple[float, float], dict[str, Any]] = {}
        for name, parameter in trained:
            lr = self.base_lr * self._factor(name, max(blocks, default=-1) + 1)
            free = parameter.ndim == 1 or name.endswith('.bias')
            decay = 0.0 if free else self.base_wd or 0.0
            group = groups.setdefault((lr, decay), {'params': [], 'lr': lr, 'weight_decay': decay})
            group['params'].append(parameter)
        params.extend(groups.values())

    def _factor(self, name: str, num_blocks: int) -> float:
        """Return the learning rate factor of a parameter."""
        keys = self.paramwise_cfg.get('custom_keys', {})
        key = max((key for key in keys if key in name), key=len, default=None)
        factor = float(keys[key].get('lr_mult', 1.0)) if key is not None else 1.0
        if _TRUNK not in name or _POSITIONS in name:
            return factor
        block = _BLOCK.search(name)
        depth = num_blocks - int(block.group(1)) if block else num_blocks + 1
        return factor * self.rate**depth
