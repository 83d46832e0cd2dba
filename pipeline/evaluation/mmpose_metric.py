"""MMPose metric with the scorer of this project."""

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

    Arguments, names and values of the metrics equal those of `CocoMetric`. Models with 17, 21 or 23
    keypoints are supported; only the first 17, those of COCO, are scored. CrowdPose annotations are
    scored with the rules of CrowdPose (``iou_type`` and ``use_area`` have no effect) and add
    ``AP(E)``, ``AP(M)`` and ``AP(H)``. A metric without annotated people is -1, as in COCO.

        custom_imports = dict(imports=['pipeline.evaluation.mmpose_metric'])
        test_evaluator = dict(type='BmpCocoMetric', ann_file='...')
    """

    @property
    def dataset_meta(self) -> dict[str, Any] | None:
        """Metadata of the COCO keypoints."""
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
        samples = [{**s, 'pred_instances': _select_coco_keypoints(s)} for s in data_samples]
        super().process(data_batch, samples)

    def _do_python_keypoint_eval(self, outfile_prefix: str) -> list[tuple[str, float]]:
        results = json.loads(Path(f'{outfile_prefix}.keypoints.json').read_text())
        dataset = self.coco.dataset
        content = {key: dataset[key] for key in ('images', 'annotations')}
        categories = [c for c in dataset.get('categories') or () if isinstance(c, dict)]
        metrics = score(
            results,
            content | {'categories': categories},
            ['keypoints'],
            sizes_of_boxes=all('bbox' in row for row in results),  # as in `loadRes` of xtcocotools
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


def _select_coco_keypoints(sample: dict[str, Any]) -> dict[str, Any]:
    instances = dict(sample['pred_instances'])
    for name in ('keypoints', 'keypoint_scores'):
        instances[name] = instances[name][:, :NUM_COCO]
    return instances
