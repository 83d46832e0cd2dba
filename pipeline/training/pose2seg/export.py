"""Trained weights as the stock `sam2` package and our pipelines read them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

PREFIX = 'sam.'


def sam_weights(state: Mapping[str, Any]) -> dict[str, Any]:
    """The SAM 2 part of the weights of a `PromptedSam`, under the names of the `sam2` package.

    Raises:
        ValueError: there is none.
    """
    found = {k[len(PREFIX) :]: v for k, v in state.items() if k.startswith(PREFIX)}
    if not found:
        raise ValueError(f'no weights of a PromptedSam: no name starts with {PREFIX!r}')
    return found


def write_sam_weights(state: Mapping[str, Any], path: Path) -> None:
    """Writes `{'model': weights}`, whole or not at all."""
    partial = path.with_suffix('.partial')
    torch.save({'model': sam_weights(state)}, partial)
    os.replace(partial, path)


@HOOKS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class ExportSamHook(Hook):  # type: ignore[misc,unused-ignore]
    """Keeps the newest weights in a file for `segmenter.checkpoint` and `build_sam2`.

    Comes after `EMAHook`, so averaged weights are the ones that are kept.

    Args:
        name: file in the work directory; replaced with each checkpoint.
    """

    priority = 'VERY_LOW'

    def __init__(self, name: str = 'sam.pt') -> None:
        self.name = name

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Writes the file."""
        if is_main_process():
            write_sam_weights(checkpoint['state_dict'], Path(runner.work_dir) / self.name)
