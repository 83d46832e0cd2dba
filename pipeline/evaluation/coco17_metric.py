"""COCO's keypoint metric for MMPose models that predict more than COCO's 17 points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmpose.evaluation.metrics import CocoMetric
from mmpose.registry import METRICS

from ..keypoints import COCO_SIGMAS, NUM_COCO


@METRICS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class Coco17Metric(CocoMetric):  # type: ignore[misc,unused-ignore]
    """`CocoMetric` of the first 17 keypoints, which must be those of COCO in COCO's order.

    Made for the 21- and 23-point models. MMPose's own way, `pred_converter` with `gt_converter`,
    counts people without a labelled keypoint as missed, where COCO ignores them. Takes the
    arguments of `CocoMetric`.
    """

    @property
    def dataset_meta(self) -> dict[str, Any] | None:
        """Facts about the keypoints, cut to COCO's."""
        meta: dict[str, Any] | None = super().dataset_meta
        return meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict[str, Any]) -> None:
        coco = {'sigmas': COCO_SIGMAS, 'num_keypoints': NUM_COCO}
        CocoMetric.dataset_meta.fset(self, {**dataset_meta, **coco})

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Collect a batch; see `CocoMetric`.

        Args:
            data_batch: unused; part of MMPose's interface.
            data_samples: per sample `pred_instances` with `keypoints` (N, K, 2) and
                `keypoint_scores` (N, K), K >= 17.
        """
        super().process(data_batch, [{**s, 'pred_instances': _cut(s)} for s in data_samples])


def _cut(sample: dict[str, Any]) -> dict[str, Any]:
    found = dict(sample['pred_instances'])
    for name in ('keypoints', 'keypoint_scores'):
        found[name] = found[name][:, :NUM_COCO]
    return found
