"""MMPose's `inference_topdown` with person masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ..boxes import xywh_to_xyxy
from ..openmmlab import scope_of

if TYPE_CHECKING:
    from mmpose.structures import PoseDataSample
    from torch import nn


def inference_topdown_with_masks(
    model: nn.Module,
    img: NDArray[np.uint8] | str,
    bboxes: ArrayLike,
    masks: Sequence[Any],
    bbox_format: Literal['xyxy', 'xywh'] = 'xyxy',
) -> list[PoseDataSample]:
    """`mmpose.apis.inference_topdown` with a mask per person.

    The masks enter the test pipeline of the model in the field that `MaskBackground` reads. Without
    masks, the result equals that of `inference_topdown`.

    Args:
        model: Result of `mmpose.apis.init_model`.
        img: A path, or a BGR uint8 image (H, W, 3).
        bboxes: (N, 4) px. Zero rows give an empty result (MMPose would use the whole image).
        masks: N masks, or an array (N, H, W). Each is (H, W) bool or 0/1, a COCO segmentation (RLE
            or polygons), or None for a person without a mask.
        bbox_format: Format of ``bboxes``.

    Returns:
        N samples with one person each, like `inference_topdown`.

    Raises:
        ValueError: Counts or shapes do not match, or the test pipeline has no `MaskBackground`.
    """
    import mmcv
    from mmengine.dataset import Compose, pseudo_collate

    boxes = _boxes_xyxy(bboxes, bbox_format)
    if len(masks) != len(boxes):
        raise ValueError(f'{len(boxes)} boxes, but {len(masks)} masks; give None for no mask')
    estimator: Any = model  # MMPose stores config and keypoint metadata on the model
    # The samples share the image; no transform modifies it.
    image = mmcv.imread(img) if isinstance(img, str) else img
    shared = {'img': image, 'img_path': img if isinstance(img, str) else None}
    with scope_of(estimator.cfg.get('default_scope', 'mmpose')), torch.no_grad():
        transforms = Compose(estimator.cfg.test_dataloader.dataset.pipeline)
        _check_masks_are_used(transforms)
        samples = [
            transforms(
                {
                    **shared,
                    'bbox': box[None],
                    'bbox_score': np.ones(1, np.float32),
                    **_mask_field(mask),
                    **estimator.dataset_meta,
                }
            )
            for box, mask in zip(boxes, masks, strict=True)
        ]
        found: list[PoseDataSample] = (
            estimator.test_step(pseudo_collate(samples)) if samples else []
        )
    return found


def _boxes_xyxy(bboxes: ArrayLike, bbox_format: str) -> NDArray[np.float32]:
    if bbox_format not in ('xyxy', 'xywh'):
        raise ValueError(f'bbox_format = {bbox_format!r}; allowed: xyxy, xywh')
    boxes = np.array(bboxes, np.float32)
    if boxes.size == 0:
        boxes = boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f'bboxes must be of shape (N, 4), got {boxes.shape}')
    return xywh_to_xyxy(boxes) if bbox_format == 'xywh' else boxes


def _mask_field(mask: Any) -> dict[str, Any]:
    """Return the mask under the key that `MaskBackground` reads for its format."""
    if mask is None:
        return {}
    if isinstance(mask, (dict, list)):
        return {'segmentation': mask}
    return {'mask': np.asarray(mask, dtype=np.bool_)}


def _check_masks_are_used(transforms: Any) -> None:
    names = [type(step).__name__ for step in transforms.transforms]
    if 'MaskBackground' not in names:
        raise ValueError(
            'the test pipeline of this model has no MaskBackground, so masks would change nothing: '
            f'{", ".join(names)}; use mmpose.apis.inference_topdown'
        )
