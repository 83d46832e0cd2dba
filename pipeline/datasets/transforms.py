"""Training transforms for MMDetection pipelines."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import BitmapMasks
from numpy.typing import NDArray


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class RemoveRandomInstances(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Paints random people black and drops them from the targets.

    The loop hides the people it has found by painting them black; a detector trained with this
    transform learns that a black figure is nobody, while the people around it still count. Only
    people with a non-empty mask can be painted.

    Args:
        prob: chance that a photo is changed, in [0, 1].
        max_instances: most people painted in one photo, at least 1.

    Raises:
        ValueError: if a setting is outside its range.
    """

    def __init__(self, prob: float = 0.3, max_instances: int = 3) -> None:
        if not 0.0 <= prob <= 1.0:
            raise ValueError(f'RemoveRandomInstances: prob = {prob}; give a value in [0, 1]')
        if max_instances < 1:
            raise ValueError(
                f'RemoveRandomInstances: max_instances = {max_instances}; give 1 or more'
            )
        self.prob = prob
        self.max_instances = max_instances

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Changes one photo and its targets.

        Args:
            results: `img` (H, W, 3) uint8, `gt_masks` N bitmaps of size (H, W), and per person
                `gt_bboxes`, `gt_bboxes_labels`, `gt_ignore_flags`.

        Returns:
            The same dict: painted photo (a copy), `painted` = True, without the painted people. A
            person left without a visible pixel is dropped as well.
        """
        masks = results['gt_masks'].masks
        candidates = masks.any(axis=(1, 2)).nonzero()[0]
        if len(candidates) == 0 or np.random.random() >= self.prob:
            return results
        count = np.random.randint(1, min(self.max_instances, len(candidates)) + 1)
        removed = np.random.choice(candidates, size=count, replace=False)
        return paint_and_drop(results, removed)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(prob={self.prob}, max_instances={self.max_instances})'


def paint_and_drop(results: dict[str, Any], removed: NDArray[np.intp]) -> dict[str, Any]:
    """Paints the given people black and drops them from the targets (see the class above).

    Args:
        results: pipeline dict of one photo.
        removed: (R,) indices of people with a mask.

    Returns:
        The same dict, changed.
    """
    masks = results['gt_masks'].masks
    painted = masks[removed].any(axis=0)
    image = results['img'].copy()
    image[painted] = 0
    had_mask = masks.any(axis=(1, 2))
    visible = np.where(painted[None], 0, masks).astype(masks.dtype)
    # An empty mask means "mask unknown", so a hidden person must go, not stay with an empty mask.
    keep = ~had_mask | visible.any(axis=(1, 2))
    keep[removed] = False
    results['img'] = image
    results['painted'] = True
    results['gt_masks'] = BitmapMasks(visible[keep], *painted.shape)
    for key in ('gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags'):
        results[key] = results[key][keep]
    return results
