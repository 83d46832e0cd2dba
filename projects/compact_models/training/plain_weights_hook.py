"""Keep a copy of the newest weights that needs no trust to be read.

MMEngine's checkpoints hold arrays and classes, which `torch.load(weights_only=True)` refuses.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


def plain(value: Any) -> Any:
    """The same content as dicts, lists, numbers and text."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(v) for v in value]
    return value.tolist() if hasattr(value, 'tolist') else value


@HOOKS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PlainWeightsHook(Hook):  # type: ignore[misc,unused-ignore]
    """Writes `{'state_dict', 'meta': {'dataset_meta'}}` whenever a checkpoint is saved.

    Comes after `EMAHook`, so the averaged weights are the ones that are kept.

    Args:
        name: file in the work directory; replaced each time.
    """

    priority = 'VERY_LOW'

    def __init__(self, name: str = 'weights.pth') -> None:
        self.name = name

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Write the file; an interrupted write leaves the old one."""
        target = Path(runner.work_dir) / self.name
        meta = {'dataset_meta': plain(checkpoint['meta'].get('dataset_meta', {}))}
        content = {'state_dict': dict(checkpoint['state_dict']), 'meta': meta}
        partial = target.with_suffix('.partial')
        torch.save(content, partial)
        os.replace(partial, target)
