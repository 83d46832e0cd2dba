"""MMDetection's usual test pipeline, built from MMCV transforms.

MMDetection's `Resize` and `Pad` extend MMCV's to boxes and masks. At inference there are none, and
importing MMDetection's versions costs a second (imgaug, numba).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

_META_KEYS = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
Steps = Callable[[dict[str, Any]], dict[str, Any]]


def build_image_transforms(steps: Sequence[Mapping[str, Any]]) -> Steps | None:
    """Build a test pipeline without MMDetection's transforms.

    Args:
        steps: Configs of the test pipeline; the first one loads the image.

    Returns:
        Function from ``img`` (H, W, 3) BGR uint8 and ``img_id`` to ``inputs`` (3, h, w) uint8 and
        ``data_samples``, in the format of `PackDetInputs`. None if the pipeline has other steps
        than `Resize` and `Pad`, or does not end with `PackDetInputs`.
    """
    from mmcv.transforms import Compose, Pad, Resize

    kinds = {'Resize': Resize, 'Pad': Pad, 'mmdet.Resize': Resize, 'mmdet.Pad': Pad}
    *changes, last = steps[1:]
    if last['type'] not in ('PackDetInputs', 'mmdet.PackDetInputs'):
        return None
    if any(step['type'] not in kinds for step in changes):
        return None
    built = [kinds[s['type']](**{k: v for k, v in s.items() if k != 'type'}) for s in changes]
    composed: Steps = Compose([_start, *built, _Pack(last.get('meta_keys', _META_KEYS))])
    return composed


def _start(results: dict[str, Any]) -> dict[str, Any]:
    """Add the keys of `LoadImageFromNDArray`."""
    shape = results['img'].shape[:2]
    return {**results, 'img_path': None, 'img_shape': shape, 'ori_shape': shape}


class _Pack:
    """`PackDetInputs` for an image without annotations."""

    def __init__(self, meta_keys: Sequence[str]) -> None:
        self.meta_keys = meta_keys

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        from mmdet.structures import DetDataSample

        pixels = torch.from_numpy(np.ascontiguousarray(results['img']))
        meta = {key: results[key] for key in self.meta_keys if key in results}
        return {
            'inputs': pixels.permute(2, 0, 1).contiguous(),
            'data_samples': DetDataSample(metainfo=meta),
        }
