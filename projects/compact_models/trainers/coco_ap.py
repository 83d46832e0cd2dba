"""Average precision by COCO's own code, without its printing."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any, Literal


def measure_coco(
    annotations: Sequence[dict[str, Any]],
    results: Sequence[dict[str, Any]],
    kind: Literal['bbox', 'keypoints'],
) -> list[float]:
    """The figures of `COCOeval.stats`: AP, AP50, AP75, AP of medium or small people, ...

    Args:
        annotations: of COCO, of one category, without `id`.
        results: of COCO, one at least.
        kind: what is compared.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco = COCO()
    coco.dataset = {
        'images': [{'id': i} for i in {a['image_id'] for a in (*annotations, *results)}],
        'categories': [{'id': 1}],
        'annotations': [{**a, 'category_id': 1, 'id': n + 1} for n, a in enumerate(annotations)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        found = coco.loadRes([{**row, 'category_id': 1} for row in results])
        evaluation = COCOeval(coco, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]
