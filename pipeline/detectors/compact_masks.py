"""RTMDet-Ins heads with bounded memory for masks.

MMDetection's heads resize all masks to the image size at once, as float32: 100 people on 12
megapixels take 5 GB. These heads resize a few masks at a time, and only the part that contains the
person. Layers, weights and results are the same.

Legend: B images, C channels, h x w cells of a level.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mmcv.ops import batched_nms
from mmdet.models.dense_heads.rtmdet_ins_head import RTMDetInsHead, RTMDetInsSepBNHead
from mmdet.registry import MODELS
from mmdet.structures.bbox import get_box_tensor, get_box_wh, scale_boxes
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional

from ..logit_crops import logit_crop
from ..masks import Masks

if TYPE_CHECKING:
    from mmengine.config import Config

MASKS_PER_BATCH = 16  # masks resized at once
_SUFFIX = 'CompactMasks'


class _CompactMasks:
    """Post-processing of `RTMDetInsHead` that returns `Masks` instead of a tensor (N, H, W)."""

    def _bbox_mask_post_process(
        self,
        results: InstanceData,
        mask_feat: Tensor,
        cfg: Any,
        rescale: bool = False,
        with_nms: bool = True,
        img_meta: dict[str, Any] | None = None,
    ) -> InstanceData:
        meta = img_meta or {}
        scale = meta['scale_factor'] if rescale else (1.0, 1.0)
        height, width = meta['ori_shape' if rescale else 'img_shape'][:2]
        if rescale:
            results.bboxes = scale_boxes(results.bboxes, [1 / s for s in scale])
        results = _largest(_without_tiny(results, cfg), cfg)
        places = [
            place
            for start in range(0, len(results), MASKS_PER_BATCH)
            for place in self._places(
                mask_feat, results[start : start + MASKS_PER_BATCH], cfg, scale, (height, width)
            )
        ]
        results.masks = Masks.from_places(height, width, places)
        return results

    def _places(
        self, mask_feat: Tensor, people: InstanceData, cfg: Any, scale: Any, shape: tuple[int, int]
    ) -> list[tuple[int, int, Any]]:
        """Return left, top and bool crop of every mask, in image px."""
        head: Any = self
        logits = head._mask_predict_by_feat_single(mask_feat, people.kernels, people.priors)
        # sigmoid(x) > t where x > logit(t)
        logits = logits - math.log(cfg.mask_thr_binary / (1 - cfg.mask_thr_binary))
        stride = head.prior_generator.strides[0][0]
        logits = functional.interpolate(logits[None], scale_factor=stride, mode='bilinear')[0]
        full = [math.ceil(n * (1 / s)) for n, s in zip(logits.shape[1:], scale[::-1], strict=True)]
        crops = (logit_crop(one, (full[0], full[1]), shape) for one in logits)
        return [(x, y, (crop > 0).cpu().numpy()) for x, y, crop in crops]


def _without_tiny(results: InstanceData, cfg: Any) -> InstanceData:
    least = cfg.get('min_bbox_size', -1)
    if least < 0:
        return results
    width, height = get_box_wh(results.bboxes)
    return results[(width > least) & (height > least)]


def _largest(results: InstanceData, cfg: Any) -> InstanceData:
    """Apply the NMS of the head; keep the highest scores."""
    if len(results) == 0:
        return results
    boxes = get_box_tensor(results.bboxes)
    kept_boxes, keep = batched_nms(boxes, results.scores, results.labels, cfg.nms)
    results = results[keep]
    results.scores = kept_boxes[:, -1]  # soft NMS changes them
    return results[: cfg.max_per_img]


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class RTMDetInsHeadCompactMasks(_CompactMasks, RTMDetInsHead):  # type: ignore[misc,unused-ignore]
    """`RTMDetInsHead` with compact masks."""


@MODELS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class RTMDetInsSepBNHeadCompactMasks(
    _CompactMasks,
    RTMDetInsSepBNHead,  # type: ignore[misc,unused-ignore]
):
    """`RTMDetInsSepBNHead` with compact masks.

    In MMDetection 3.x, the class and box branches are the same module (`_init_layers` appends
    `cls_convs` to both lists). The stock `forward` runs it twice on the same features, this one
    once.
    """

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[Any, ...]:
        """Run the head.

        Args:
            feats: Per level (B, C, h, w).

        Returns:
            Class logits, distances in px and mask kernels, each per level, and the mask features.
        """
        pairs = zip(self.cls_convs, self.reg_convs, strict=True)
        if self.with_objectness or any(one is not other for one, other in pairs):
            stock: tuple[Any, ...] = super().forward(feats)
            return stock
        levels = []
        for index, feature in enumerate(feats):
            shared, kernel = feature, feature
            for layer in self.cls_convs[index]:
                shared = layer(shared)
            for layer in self.kernel_convs[index]:
                kernel = layer(kernel)
            distance = functional.relu(self.rtm_reg[index](shared))
            levels.append((
                self.rtm_cls[index](shared),
                distance * self.prior_generator.strides[index][0],
                self.rtm_kernel[index](kernel),
            ))  # fmt: skip
        return (*zip(*levels, strict=True), self.mask_head(feats))


def use_compact_masks(config: Config) -> None:
    """Replace a stock RTMDet-Ins head in a model config by the one of this module, in place."""
    head = config.model.get('bbox_head')
    kinds = ('RTMDetInsHead', 'RTMDetInsSepBNHead')
    if isinstance(head, dict) and str(head.get('type')).removeprefix('mmdet.') in kinds:
        head['type'] = str(head['type']).removeprefix('mmdet.') + _SUFFIX
