"""Which raw detections are people worth a pose."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..boxes import box_nms

PERSON = 0  # label of the person class, in COCO's 80 classes and in person-only detectors


def select_people(
    boxes: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    *,
    score_threshold: float,
    max_iou: float | None,
    max_people: int | None = None,
) -> npt.NDArray[np.int64]:
    """Rows of people, best score first, as the reference selects them (`api.py`).

    Args:
        boxes: (N, 4) xyxy px.
        scores: (N,).
        labels: (N,) class numbers.
        score_threshold: scores at or below are dropped.
        max_iou: boxes that overlap a better one by more are dropped (areas of the legacy kind,
            one pixel larger each way); None is off.
        max_people: the best so many are kept; None is all.
    """
    rows = np.flatnonzero((labels == PERSON) & (scores > score_threshold))
    rows = rows[np.argsort(-scores[rows], kind='stable')]
    if max_iou is not None:
        rows = rows[box_nms(boxes[rows], scores[rows], max_iou)]
    return np.asarray(rows[:max_people])
