"""Parameter groups of a partly frozen SAM 2."""

from __future__ import annotations

import re
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from pipeline.training.layer_decay import group_trained_parameters

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
        trained = [name for name, p in module.named_parameters() if p.requires_grad]
        blocks = [int(m.group(1)) for m in map(_BLOCK.search, trained) if m]
        num_blocks = max(blocks, default=-1) + 1

        def compute_rates(name: str, parameter: nn.Parameter) -> tuple[float, float]:
            no_decay = parameter.ndim == 1 or name.endswith('.bias')
            decay = 0.0 if no_decay else self.base_wd or 0.0
            return self.base_lr * self._factor(name, num_blocks), decay

        params.extend(group_trained_parameters(module, compute_rates))

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
