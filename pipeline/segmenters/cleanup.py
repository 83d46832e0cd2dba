"""Removal of small components and holes of masks.

SAM 2's post-processing needs a CUDA extension and is silently skipped without it
(facebookresearch/sam2#25). OpenCV's connected components give the same result on any machine.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

# Close to 0: a changed pixel never wins against the mask of another person.
FAINT = 2.0**-8


def clean_logits(
    logits: npt.NDArray[np.float16],
    min_component_area: int,
    max_hole_area: int,
    min_component_fraction: float = 0.0,
) -> npt.NDArray[np.float16]:
    """Remove components and holes below these areas (px) from a soft mask (h, w); 0 is off.

    Components below ``min_component_fraction`` of the mask are removed too. The largest component
    is always kept.
    """
    if logits.size == 0:
        return logits
    result = logits.copy()
    if min_component_area or min_component_fraction:
        on = result > 0
        least = max(min_component_area, min_component_fraction * int(on.sum()))
        result[_small_parts(on, least)] = -FAINT
    if max_hole_area:
        # Pad with background, so that everything outside is one component and not a hole.
        outside = np.pad(result <= 0, 1, constant_values=True)
        result[_small_parts(outside, max_hole_area)[1:-1, 1:-1]] = FAINT
    return result


def _small_parts(on: npt.NDArray[Any], min_area: float) -> npt.NDArray[np.bool_]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(on.astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0  # label 0 is the background
    small = areas < min_area
    small[0] = False
    if len(areas) > 1:  # keep the largest
        small[1 + int(areas[1:].argmax())] = False
    return np.asarray(small[labels])
