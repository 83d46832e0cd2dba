"""Mask conditioning of a top-down pose model: dim everything that is not the person.

The mask enters only as pixels, before the crop is cut: outside the mask the image is multiplied
by 1 - alpha, inside it is unchanged. No mask, no change; so one model serves both cases.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmpose.registry import TRANSFORMS
from numpy.typing import NDArray


def dim_background(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], alpha: float
) -> NDArray[np.uint8]:
    """(1 - alpha) * image + alpha * image * mask, rounded to the nearest even integer.

    Args:
        image: uint8, shape (H, W, C), any channel order.
        mask: bool, shape (H, W); an empty one leaves the image unchanged.
        alpha: how much of the background is taken away, in [0, 1].

    Returns:
        uint8, shape (H, W, C); a new array unless the mask is empty.

    Raises:
        ValueError: the mask is not of the size of the image.
    """
    if mask.shape != image.shape[:2]:
        raise ValueError(
            f'mask of shape {mask.shape} for an image of {image.shape[:2]} (H, W); '
            'give the mask in the frame of the image'
        )
    if not mask.any():
        return image
    dimmed = np.rint((1 - alpha) * np.arange(256)).astype(np.uint8)
    result: NDArray[np.uint8] = np.where(mask[..., None], image, dimmed[image])
    return result


def decode_segmentation(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """COCO segmentation (RLE, or polygons in px) as a bool mask of shape (height, width)."""
    from pycocotools import mask as mask_utils

    if isinstance(segmentation, dict) and isinstance(segmentation['counts'], (str, bytes)):
        rle = segmentation
    elif len(segmentation):
        parts = mask_utils.frPyObjects(segmentation, height, width)
        rle = mask_utils.merge(parts) if isinstance(parts, list) else parts
    else:
        return np.zeros((height, width), dtype=np.bool_)
    decoded: NDArray[np.bool_] = mask_utils.decode(rle).astype(np.bool_)
    return decoded


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class MaskBackground(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Dims the pixels outside the person's mask; comes before the crop is cut.

    Reads `img` (uint8, (H, W, 3)) and the mask of the person: `mask` (bool or 0/1, (H, W)), else
    `segmentation` (COCO). Changes `img` only.

    Args:
        alpha: the background is multiplied by 1 - alpha; in [0, 1].
        continue_on_failure: a person without a mask passes unchanged; if False that is an error.
        prob: how often a mask that is there is used, in [0, 1]; below 1 in training only.

    Raises:
        ValueError: alpha or prob outside [0, 1]; a person without mask where one is demanded.
    """

    def __init__(
        self, alpha: float = 0.25, continue_on_failure: bool = True, prob: float = 1.0
    ) -> None:
        super().__init__()
        for name, value in (('alpha', alpha), ('prob', prob)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f'{name} = {value}; it must be in [0, 1]')
        self.alpha = alpha
        self.continue_on_failure = continue_on_failure
        self.prob = prob

    @cache_randomness  # type: ignore[untyped-decorator,unused-ignore]
    def _use_mask(self) -> bool:
        return self.prob >= 1.0 or bool(np.random.rand() < self.prob)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Dim the background of one sample in place; see the class for the keys."""
        image = results['img']
        mask = results.get('mask')
        if mask is None and results.get('segmentation') is not None:
            mask = decode_segmentation(results['segmentation'], *image.shape[:2])
        if mask is None or not np.any(mask):
            if not self.continue_on_failure:
                raise ValueError(
                    'MaskBackground got no mask or an empty one; pass `mask` (H, W), or set '
                    'continue_on_failure=True to leave such people unchanged'
                )
            return results
        if self._use_mask():
            results['img'] = dim_background(image, np.asarray(mask, dtype=np.bool_), self.alpha)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(alpha={self.alpha}, '
            f'continue_on_failure={self.continue_on_failure}, prob={self.prob})'
        )
