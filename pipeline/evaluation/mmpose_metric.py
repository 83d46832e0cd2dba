"""Our scorer as a metric of MMPose test runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmpose.evaluation.metrics import CocoMetric
from mmpose.registry import METRICS

from ..keypoints import COCO_SIGMAS, NUM_COCO
from .coco import score


@METRICS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class BmpCocoMetric(CocoMetric):  # type: ignore[misc,unused-ignore]
    """MMPose's `CocoMetric` with `pipeline.evaluation.coco.score` in place of xtcocotools.

    Takes the arguments of `CocoMetric` and gives the same figures under the same names, for
    models of 17, 21 or 23 points of which the first 17 are COCO's; the others are cut off. On
    annotations of CrowdPose its rules are used (``iou_type`` and ``use_area`` play no part there),
    with ``AP(E)``, ``AP(M)`` and ``AP(H)``. What nobody is annotated for is -1, as in COCO.

        custom_imports = dict(imports=['pipeline.evaluation.mmpose_metric'])
        test_evaluator = dict(type='BmpCocoMetric', ann_file='...')
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
            data_samples: per sample ``pred_instances`` with ``keypoints`` (N, K, 2) and
                ``keypoint_scores`` (N, K), K >= 17.
        """
        super().process(data_batch, [{**s, 'pred_instances': _cut(s)} for s in data_samples])

    def _do_python_keypoint_eval(self, outfile_prefix: str) -> list[tuple[str, float]]:
        results = json.loads(Path(f'{outfile_prefix}.keypoints.json').read_text())
        dataset = self.coco.dataset
        content = {key: dataset[key] for key in ('images', 'annotations')}
        categories = [c for c in dataset.get('categories') or () if isinstance(c, dict)]
        metrics = score(
            results,
            content | {'categories': categories},
            ['keypoints'],
            sizes_of_boxes=all('bbox' in row for row in results),  # as `loadRes` does it there
        )
        task = metrics.tasks['keypoints']
        values = {
            'AP': task.ap,
            'AP .5': task.ap50,
            'AP .75': task.ap75,
            'AP (M)': task.ap_medium,
            'AP (L)': task.ap_large,
            'AR': task.ar,
            'AR .5': task.ar50,
            'AR .75': task.ar75,
            'AR (M)': task.ar_medium,
            'AR (L)': task.ar_large,
        }
        if metrics.crowd:
            crowd = metrics.crowd
            values |= {'AP(E)': crowd.easy, 'AP(M)': crowd.medium, 'AP(H)': crowd.hard}
        return [(name, -1.0 if value is None else value) for name, value in values.items()]


def _cut(sample: dict[str, Any]) -> dict[str, Any]:
    found = dict(sample['pred_instances'])
    for name in ('keypoints', 'keypoint_scores'):
        found[name] = found[name][:, :NUM_COCO]
    return found
