"""Mask quality by number of prompt keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from pycocotools import mask as coco_mask

from pipeline.evaluation.coco import score
from pipeline.io.coco import PERSON

Result = dict[str, Any]


@METRICS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PromptMetric(BaseMetric):  # type: ignore[misc,unused-ignore]
    """Mean IoU and mask AP of `PromptedSam`, for each number of prompt keypoints.

    Scores are `pose2seg/iou_1`, `pose2seg/ap_1`, ..., in [0, 1]. All numbers of keypoints are
    scored on the same people: those with a usable keypoint. AP is COCO's, ranked by predicted IoU.
    `pose2seg/people` is the number of people.

    Args:
        with_ap: Also compute AP (about a second).
    """

    default_prefix = 'pose2seg'

    def __init__(self, with_ap: bool = True, collect_device: str = 'cpu') -> None:
        super().__init__(collect_device=collect_device)
        self.with_ap = with_ap

    def process(self, data_batch: Any, data_samples: Sequence[Result]) -> None:
        """Store IoU and masks of each image."""
        for sample in data_samples:
            rows = []  # MMEngine wants one result per image
            ground_truth = dict(zip(sample['gt_instances']['ann_ids'], sample['rles'], strict=True))
            for name, people in sample['predictions'].items():
                for person in people:
                    rle = ground_truth[person['ann_id']]
                    overlap = float(coco_mask.iou([person['rle']], [rle], [0])[0, 0])
                    size = {'ori_shape': sample['ori_shape']}
                    rows.append({**person, **size, 'k': name, 'iou': overlap, 'gt': rle})
            self.results.append(rows)

    def compute_metrics(self, results: list[list[Result]]) -> dict[str, float]:
        """Compute the scores of all images."""
        scores: dict[str, float] = {}
        # Number the samples: with crops, one image has several.
        people = [{**row, 'img_id': i} for i, rows in enumerate(results, 1) for row in rows]
        for name in dict.fromkeys(row['k'] for row in people):
            rows = [row for row in people if row['k'] == name]
            scores[f'iou_{name}'] = float(np.mean([row['iou'] for row in rows]))
            if self.with_ap:
                scores[f'ap_{name}'] = compute_ap(rows)
            scores['people'] = len(rows)
        return scores


def compute_ap(rows: Sequence[Result]) -> float:
    """Compute COCO's mask AP in [0, 1] for one prediction per person.

    Args:
        rows: `img_id`, `ori_shape`, `ann_id`, `score`, `rle` and the ground-truth mask `gt` of each
            person.
    """
    sizes = {row['img_id']: row['ori_shape'] for row in rows}
    content = {
        'images': [
            {'id': key, 'height': h, 'width': w, 'file_name': str(key)}
            for key, (h, w) in sizes.items()
        ],
        'annotations': [_annotation(number, row) for number, row in enumerate(rows, start=1)],
        'categories': [{'id': PERSON, 'name': 'person'}],
    }
    results = [
        {
            'image_id': row['img_id'],
            'category_id': PERSON,
            'segmentation': _text(row['rle']),
            'score': row['score'],
        }
        for row in rows
    ]
    return score(results, content, ('segm',)).tasks['segm'].ap or 0.0


def _annotation(number: int, row: Result) -> Result:
    return {
        'id': number,
        'image_id': row['img_id'],
        'category_id': PERSON,
        'iscrowd': 0,
        'area': float(coco_mask.area(row['gt'])),
        'bbox': coco_mask.toBbox(row['gt']).tolist(),
        'segmentation': _text(row['gt']),
    }


def _text(rle: Result) -> Result:
    counts = rle['counts']
    return {**rle, 'counts': counts.decode() if isinstance(counts, bytes) else counts}
