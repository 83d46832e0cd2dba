"""Mask conditioning of a top-down pose model: dim the background of the person.

Outside the mask, the image is multiplied by 1 - alpha before cropping. Without a mask, the image is
unchanged, so one model serves both cases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmpose.registry import TRANSFORMS
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pipeline.poses.mask_corruption import MaskCorruption


def dim_background(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], alpha: float
) -> NDArray[np.uint8]:
    """Compute (1 - alpha) * image + alpha * image * mask, rounded half to even.

    Args:
        image: uint8, shape (H, W, C), any channel order.
        mask: bool, shape (H, W); an empty one leaves the image unchanged.
        alpha: Strength of the dimming, in [0, 1].

    Returns:
        uint8, shape (H, W, C); a new array unless the mask is empty.

    Raises:
        ValueError: Mask and image differ in size.
    """
    if mask.shape != image.shape[:2]:
        raise ValueError(
            f'mask of shape {mask.shape} for an image of {image.shape[:2]} (H, W); '
            'give the mask in the frame of the image'
        )
    if not mask.any():
        return image
    dimmed = np.rint((1 - alpha) * np.arange(256)).astype(np.uint8)
    result = cv2.copyTo(image, mask.astype(np.uint8), cv2.LUT(image, dimmed))
    return np.asarray(result, np.uint8).reshape(image.shape)


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class MaskBackground(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Dims the pixels outside the person's mask; place it before the crop.

    Reads `img` (uint8, (H, W, 3)) and the mask of the person: `mask` (bool or 0/1, (H, W)), else
    `segmentation` (COCO). Changes `img` only.

    The keyword-only settings are for training, where annotated masks should resemble those of a
    detector; they are off by default. Recipe of MaskPose: ``dilate_prob=0.5, dilate_amount=0.1,
    erode_prob=0.5, erode_amount=0.5``. See `MaskCorruption`.

    Args:
        alpha: The background is multiplied by 1 - alpha; in [0, 1].
        continue_on_failure: Leave a person without a mask unchanged; False raises an error.
        prob: Probability of using the mask, in [0, 1]; below 1 for training only.
        dilate_prob: Probability of growing the mask.
        dilate_amount: Largest growth, as a fraction of the mask area.
        erode_prob: Probability of shrinking the mask.
        erode_amount: Largest loss, as a fraction of the mask area.
        patch_prob: Probability of changing patches instead of the outline.

    Raises:
        ValueError: A setting is out of range, or a required mask is missing.
    """

    def __init__(
        self,
        alpha: float = 0.25,
        continue_on_failure: bool = True,
        prob: float = 1.0,
        *,
        dilate_prob: float = 0.0,
        dilate_amount: float = 0.1,
        erode_prob: float = 0.0,
        erode_amount: float = 0.5,
        patch_prob: float = 0.5,
    ) -> None:
        super().__init__()
        for name, value in (('alpha', alpha), ('prob', prob)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f'{name} = {value}; it must be in [0, 1]')
        self.alpha = alpha
        self.continue_on_failure = continue_on_failure
        self.prob = prob
        self.corruption: MaskCorruption | None = None
        if dilate_prob or erode_prob:
            from pipeline.poses.mask_corruption import MaskCorruption  # only training needs it

            self.corruption = MaskCorruption(
                dilate_prob, dilate_amount, erode_prob, erode_amount, patch_prob
            )

    @cache_randomness  # type: ignore[untyped-decorator,unused-ignore]
    def _use_mask(self) -> bool:
        return self.prob >= 1.0 or bool(np.random.rand() < self.prob)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Dim the background of one sample in place; see the class for the keys."""
        image = results['img']
        mask = self._mask_of(results)
        if not mask.any():
            if not self.continue_on_failure:
                raise ValueError(
                    'MaskBackground got no mask or an empty one; pass `mask` (H, W), or set '
                    'continue_on_failure=True to leave such people unchanged'
                )
            return results
        if self._use_mask():
            if self.corruption is not None:
                mask = self.corruption(mask)
            results['img'] = dim_background(image, mask, self.alpha)
        return results

    def _mask_of(self, results: dict[str, Any]) -> NDArray[np.bool_]:
        """Return the mask of the sample, (H, W); all False without one."""
        shape = results['img'].shape[:2]
        mask, segmentation = results.get('mask'), results.get('segmentation')
        if mask is not None:
            return np.asarray(mask, dtype=np.bool_)
        if segmentation is not None:
            from pipeline.rle import decode_segmentation  # annotations, not masks of a detector

            return decode_segmentation(segmentation, *shape)
        return np.zeros(shape, dtype=np.bool_)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(alpha={self.alpha}, '
            f'continue_on_failure={self.continue_on_failure}, prob={self.prob}, '
            f'corruption={self.corruption})'
        )
