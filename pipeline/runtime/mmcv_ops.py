"""Operators of torchvision in place of mmcv's, where those are missing or wrong.

- Without a CUDA toolkit, mmcv is compiled for the CPU only, and MMDetection's models stop on a GPU
  with "nms_impl: implementation for device cuda:0 not found" (raised by
  ``mmcv/ops/csrc/common/pytorch_device_registry.hpp``, to which Python cannot add a kernel).
- RoIAlign of mmcv reads a ``channels_last`` input as if it were contiguous, so its features are
  wrong, without a message, under our default `RuntimeOptions.memory_format`.

The configs of the models can name other implementations, so this module changes configs, not mmcv.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import mmcv.ops
import torch
import torchvision
from torch import Tensor


def has_kernels(device: str | torch.device) -> bool:
    """Whether mmcv has compiled kernels for the device."""
    boxes, scores = torch.zeros((1, 4), device=device), torch.zeros(1, device=device)
    try:
        mmcv.ops.nms(boxes, scores, 0.5)
    except RuntimeError:
        return False
    return True


def use_torchvision_ops(model: Any, device: str | torch.device) -> None:
    """Name `RoIAlign` and, where mmcv has no kernels, `nms` in a model config, in place.

    Args:
        model: The ``model`` part of an MMDetection config, before it is built.
        device: Device on which the model will run.
    """
    is_complete = has_kernels(device)
    for part in _dicts(model):
        if _name(part.get('type')) == 'RoIAlign':
            part['type'] = RoIAlign
        settings: Any = part.get('nms')
        is_nms = isinstance(settings, dict) and _name(settings.get('type', 'nms')) == 'nms'
        if is_nms and not is_complete:
            settings['type'] = nms
    if not is_complete and torch.device(device).type == 'cuda':
        # The attention of DINO and Mask2Former takes no implementation from the config. With this
        # flag mmcv uses its implementation in plain PyTorch, as it does on other accelerators.
        attention: Any = import_module('mmcv.ops.multi_scale_deform_attn')
        attention.IS_CUDA_AVAILABLE = False


def nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    offset: int = 0,
    score_threshold: float = 0,
    max_num: int = -1,
) -> tuple[Tensor, Tensor]:
    """`mmcv.ops.nms` with the kernel of torchvision: the same arguments and results.

    Boxes are (N, 4) xyxy px, scores (N,). Returns boxes with scores (M, 5) and their rows (M,).
    """
    rows = (scores > score_threshold if score_threshold > 0 else scores == scores).nonzero()[:, 0]
    # Sorted as in mmcv, so that of equal scores the same one comes first.
    rows = rows[scores[rows].sort(descending=True).indices]
    ranks = torch.arange(len(rows), 0, -1, dtype=boxes.dtype, device=boxes.device)
    wide = boxes[rows] + boxes.new_tensor([0, 0, offset, offset])
    kept = rows[_run(torchvision.ops.nms, wide, ranks, iou_threshold)]
    kept = kept[:max_num] if max_num > 0 else kept
    return torch.cat([boxes[kept], scores[kept, None]], dim=1), kept


class RoIAlign(mmcv.ops.RoIAlign):  # type: ignore[misc,unused-ignore]
    """`mmcv.ops.RoIAlign` for any memory layout, with the kernel of torchvision."""

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Pool features (B, C, h, w) in boxes (N, 5), image index and xyxy: (N, C, H, W)."""
        if self.pool_mode != 'avg':  # torchvision has no other
            pooled: Tensor = super().forward(input.contiguous(), rois)
            return pooled
        return _run(
            torchvision.ops.roi_align, input, rois, self.output_size, self.spatial_scale,
            self.sampling_ratio, self.aligned,
        )  # fmt: skip


def _run(operator: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """Run an operator on its device or, without a kernel there, on the CPU."""
    try:
        return operator(*arguments)
    except NotImplementedError:
        on_cpu = (a.cpu() if isinstance(a, Tensor) else a for a in arguments)
        return operator(*on_cpu).to(arguments[0].device)


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every dict inside nested dicts and lists."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _dicts(item)


def _name(kind: Any) -> str:
    """Name of a type in a config, which may be a string or the object."""
    return str(getattr(kind, '__name__', kind)).rpartition('.')[2]
