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
    """Optimiser of the parameters that are trained; the frozen ones stay out of it.

    Biases and all parameters of one dimension (norms) have no weight decay. `paramwise_cfg` takes:

    - `layer_decay_rate` d in (0, 1], default 1: block i of the image encoder's L blocks learns
      d^(L - i) times as fast, what comes before the blocks d^(L + 1) times, as in SAM 2's own
      training. It acts only where the image encoder is trained.
    - `custom_keys`: part of a name -> `lr_mult`, a further factor; the longest match counts.

    Raises:
        ValueError: an unknown setting or a value out of range.
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
        """Sorts the trained parameters of a model into groups of equal settings."""
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
        """Learning rate of a parameter as a multiple of the optimiser's."""
        keys = self.paramwise_cfg.get('custom_keys', {})
        key = max((key for key in keys if key in name), key=len, default=None)
        factor = float(keys[key].get('lr_mult', 1.0)) if key is not None else 1.0
        if _TRUNK not in name or _POSITIONS in name:
            return factor
        block = _BLOCK.search(name)
        depth = num_blocks - int(block.group(1)) if block else num_blocks + 1
        return factor * self.rate**depth
