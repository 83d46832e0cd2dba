"""Select the raw detections that are people."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..boxes import box_nms


def select_people(
    boxes: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    *,
    score_threshold: float,
    max_iou: float | None,
    max_people: int | None = None,
    person: int = 0,
) -> npt.NDArray[np.int64]:
    """Return the rows of people, highest score first, selected like the reference (`api.py`).

    Args:
        boxes: (N, 4) xyxy px.
        scores: (N,).
        labels: (N,) class indices.
        score_threshold: Drop scores at or below this value.
        max_iou: Threshold of the box NMS, with legacy areas (sides one pixel larger); None disables
            it.
        max_people: Keep at most this many people; None keeps all.
        person: Label of people; 0 in COCO's 80 classes and in person-only detectors.
    """
    rows = np.flatnonzero((labels == person) & (scores > score_threshold))
    rows = rows[np.argsort(-scores[rows], kind='stable')]
    if max_iou is not None:
        rows = rows[box_nms(boxes[rows], scores[rows], max_iou)]
    return np.asarray(rows[:max_people])
