"""MMDetection metric of the boxes and masks of people, with the scorer of this project."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric
from mmengine.fileio import get_local_path

from ..boxes import xyxy_to_xywh
from ..io.coco import Task
from ..io.coco_checks import find_person, read_json
from ..masks import Masks
from .coco import score
from .metrics import TaskMetrics

Row = dict[str, Any]


@METRICS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class BmpInstanceMetric(BaseMetric):  # type: ignore[misc,unused-ignore]
    """AP and AR of people from `pipeline.evaluation.coco.score`, with MMDetection's names.

        custom_imports = dict(imports=['pipeline.evaluation.mmdet_metric'])
        test_evaluator = dict(type='BmpInstanceMetric', ann_file='...', metric=['bbox', 'segm'])

    Args:
        ann_file: COCO annotation file; only the category ``person`` is scored.
        metric: 'bbox', 'segm' or both.
        collect_device: device to collect results of several processes on, 'cpu' or 'gpu'.
        prefix: of the metric names; default 'coco'.
    """

    default_prefix: str | None = 'coco'

    def __init__(
        self,
        ann_file: str,
        metric: Task | Sequence[Task] = ('bbox', 'segm'),
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self._tasks: tuple[Task, ...] = (metric,) if isinstance(metric, str) else tuple(metric)
        wrong = set(self._tasks) - {'bbox', 'segm'}
        if wrong or not self._tasks:
            raise ValueError(f'metric must be bbox, segm or both, got {metric!r}')
        with get_local_path(ann_file) as local:
            self._annotations = read_json(local)
        self._person = find_person(self._annotations)['id']

    def process(self, data_batch: Any, data_samples: Sequence[Row]) -> None:
        """Collect the people of a batch.

        Args:
            data_batch: unused; part of MMEngine's interface.
            data_samples: per image ``img_id`` and ``pred_instances`` with ``bboxes`` (N, 4) xyxy
                px, ``scores`` (N,), ``labels`` (N,) and, for masks, ``masks`` (N, H, W) or N RLE.
        """
        person = tuple(self.dataset_meta['classes']).index('person')
        for sample in data_samples:
            instances = sample['pred_instances']
            rows = np.flatnonzero(_array(instances['labels']) == person)
            boxes_xywh = xyxy_to_xywh(_array(instances['bboxes'])[rows].reshape(-1, 4))
            scores = _array(instances['scores'])[rows].tolist()
            payloads: dict[Task, list[Row]] = {'bbox': [{'bbox': b} for b in boxes_xywh.tolist()]}
            task_scores: dict[Task, list[float]] = {'bbox': scores, 'segm': scores}
            if 'segm' in self._tasks:
                payloads['segm'] = [{'segmentation': m} for m in _rles(instances['masks'], rows)]
                if 'mask_scores' in instances:
                    task_scores['segm'] = _array(instances['mask_scores'])[rows].tolist()
            head = {'image_id': sample['img_id'], 'category_id': self._person}
            self.results.append(
                {
                    task: [
                        head | {'score': value} | payload
                        for value, payload in zip(task_scores[task], payloads[task], strict=True)
                    ]
                    for task in self._tasks
                }
            )

    def compute_metrics(self, results: list[dict[Task, list[Row]]]) -> dict[str, float]:
        """Compute metrics with MMDetection's names, such as ``bbox_mAP_50``; -1 if undefined."""
        values: dict[str, float] = {}
        for task in self._tasks:
            rows = [row for image in results for row in image[task]]
            metrics = score(rows, self._annotations, [task]).tasks[task]
            values |= {f'{task}_{name}': value for name, value in _named(metrics).items()}
        return values


def _named(metrics: TaskMetrics) -> dict[str, float]:
    values = {
        'mAP': metrics.ap,
        'mAP_50': metrics.ap50,
        'mAP_75': metrics.ap75,
        'mAP_s': metrics.ap_small,
        'mAP_m': metrics.ap_medium,
        'mAP_l': metrics.ap_large,
        'AR': metrics.ar,
        'AR_50': metrics.ar50,
        'AR_75': metrics.ar75,
    }
    return {name: -1.0 if value is None else value for name, value in values.items()}


def _array(values: Any) -> Any:
    """Convert a tensor on any device, or an array, to an array."""
    return np.asarray(values.detach().cpu() if hasattr(values, 'detach') else values)


def _rles(masks: Any, rows: Any) -> list[Row]:
    if isinstance(masks, list):
        return [masks[i] for i in rows]
    dense = _array(masks)
    return Masks.from_dense((dense[i] for i in rows), dense.shape[1:]).to_rle()
