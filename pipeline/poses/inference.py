"""MMPose's `inference_topdown` for people whose masks are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

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

    The masks go into the test pipeline of the model as the field that `MaskBackground` reads. With
    the mask of nobody the result is that of `inference_topdown`.

    Args:
        model: as from `mmpose.apis.init_model`.
        img: a path, or a BGR uint8 image (H, W, 3), as MMPose takes it.
        bboxes: (N, 4) px; no row gives no result (not a person as large as the photo).
        masks: N masks: (H, W) bool or 0/1, or a COCO segmentation (RLE, polygons); None for a
            person without one. An array (N, H, W) will do.
        bbox_format: of ``bboxes``.

    Returns:
        N samples, one person each, as from `inference_topdown`.

    Raises:
        ValueError: counts or shapes do not fit together; the test pipeline has no `MaskBackground`.
    """
    import mmcv
    from mmengine.dataset import Compose, pseudo_collate

    boxes = _boxes_xyxy(bboxes, bbox_format)
    if len(masks) != len(boxes):
        raise ValueError(f'{len(boxes)} boxes, but {len(masks)} masks; give None for no mask')
    estimator: Any = model  # MMPose hangs its config and the keypoint facts on the model
    # Decoded once; the samples share it, no transform writes into it.
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
    if bbox_format == 'xywh':
        boxes[:, 2:] += boxes[:, :2]
    return boxes


def _mask_field(mask: Any) -> dict[str, Any]:
    """The mask under the key by which `MaskBackground` knows its kind."""
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
