"""Mask conditioning of a top-down pose model: dim the background of the person.

Outside the mask, the image is multiplied by 1 - alpha before cropping. Without a mask, the image is
unchanged, so one model serves both cases.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmpose.registry import TRANSFORMS
from numpy.typing import NDArray

from pipeline.values import check_ranges

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
@dataclass(eq=False)
class MaskBackground(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Dims the pixels outside the person's mask; place it before the crop.

    Reads `img` (uint8, (H, W, 3)) and the mask of the person: `mask` (bool or 0/1, (H, W)), else
    `segmentation` (COCO). Changes `img` only.

    The keyword-only settings are for training, where annotated masks should resemble those of a
    detector; they are off by default. Recipe of MaskPose: ``dilate_prob=0.5, dilate_amount=0.1,
    erode_prob=0.5, erode_amount=0.5``. See `MaskCorruption`.

    Raises:
        ValueError: A setting is out of range, or a required mask is missing.
    """

    alpha: float = 0.25  # the background is multiplied by 1 - alpha; in [0, 1]
    continue_on_failure: bool = True  # leave a person without a mask unchanged; False: an error
    prob: float = 1.0  # probability of using the mask, in [0, 1]; below 1 for training only
    _: KW_ONLY
    dilate_prob: float = 0.0  # probability of growing the mask
    dilate_amount: float = 0.1  # largest growth, as a fraction of the mask area
    erode_prob: float = 0.0  # probability of shrinking the mask
    erode_amount: float = 0.5  # largest loss, as a fraction of the mask area
    patch_prob: float = 0.5  # probability of changing patches instead of the outline

    def __post_init__(self) -> None:
        check_ranges(self, 'MaskBackground', alpha='in [0, 1]', prob='in [0, 1]')
        self.corruption: MaskCorruption | None = None
        if self.dilate_prob or self.erode_prob:
            from pipeline.poses.mask_corruption import MaskCorruption  # only training needs it

            self.corruption = MaskCorruption(
                self.dilate_prob, self.dilate_amount, self.erode_prob, self.erode_amount,
                self.patch_prob,
            )  # fmt: skip

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
