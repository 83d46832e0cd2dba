"""Small islands and holes of masks, without a compiled extension.

SAM 2's own post-processing needs a CUDA extension and is skipped silently where that is missing
(facebookresearch/sam2#25); connected components of OpenCV on the crop do the same on any machine.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

# Just over and under 0: a filled hole or a removed island never wins a pixel from somebody else.
FAINT = 2.0**-8


def clean_logits(
    logits: npt.NDArray[np.float16],
    min_component_area: int,
    max_hole_area: int,
    min_component_fraction: float = 0.0,
) -> npt.NDArray[np.float16]:
    """Remove components and holes below these areas (px) from a soft mask (h, w); 0 is off.

    Components below ``min_component_fraction`` of the mask are removed too. The largest component
    always stays.
    """
    if logits.size == 0:
        return logits
    result = logits.copy()
    if min_component_area or min_component_fraction:
        on = result > 0
        least = max(min_component_area, min_component_fraction * int(on.sum()))
        result[_small_parts(on, least)] = -FAINT
    if max_hole_area:
        # A border of background joins everything outside, so that it never counts as a hole.
        outside = np.pad(result <= 0, 1, constant_values=True)
        result[_small_parts(outside, max_hole_area)[1:-1, 1:-1]] = FAINT
    return result


def _small_parts(on: npt.NDArray[Any], min_area: float) -> npt.NDArray[np.bool_]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(on.astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0  # label 0 is what is off
    small = areas < min_area
    small[0] = False
    if len(areas) > 1:  # the largest always stays
        small[1 + int(areas[1:].argmax())] = False
    return np.asarray(small[labels])
