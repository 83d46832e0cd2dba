"""Export of trained weights for the `sam2` package and the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ...io.atomic import atomic_file

PREFIX = 'sam.'


def extract_sam_weights(state: Mapping[str, Any]) -> dict[str, Any]:
    """Extract the SAM 2 weights of a `PromptedSam`, with the names of the `sam2` package.

    Raises:
        ValueError: There are none.
    """
    found = {k[len(PREFIX) :]: v for k, v in state.items() if k.startswith(PREFIX)}
    if not found:
        raise ValueError(f'no weights of a PromptedSam: no name starts with {PREFIX!r}')
    return found


def write_sam_weights(state: Mapping[str, Any], path: Path) -> None:
    """Write `{'model': weights}` atomically."""
    weights = extract_sam_weights(state)
    with atomic_file(path) as stream:
        torch.save({'model': weights}, stream)


@HOOKS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class ExportSamHook(Hook):  # type: ignore[misc,unused-ignore]
    """Writes the newest weights to a file for `segmenter.checkpoint` and `build_sam2`.

    Runs after `EMAHook`, so it writes the averaged weights.

    Args:
        name: File in the work directory, replaced at each checkpoint.
    """

    priority = 'VERY_LOW'

    def __init__(self, name: str = 'sam.pt') -> None:
        self.name = name

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Write the file."""
        if is_main_process():
            write_sam_weights(checkpoint['state_dict'], Path(runner.work_dir) / self.name)
