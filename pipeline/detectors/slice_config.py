"""Settings of the detection in slices; see `pipeline.detectors.slices`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..values import check_ranges


@dataclass(frozen=True)
class SliceConfig:
    """Slices of the image that the detector sees enlarged, beside the whole image."""

    grid: str | None = None  # columns x rows, such as '2x2'; None: the whole image only
    overlap: float = 0.25  # of two neighbouring slices, as a fraction of their side
    from_round: Literal[1, 2] = 1  # 2: round one sees the whole image only
    max_iou: float = 0.5  # box NMS between the people of all slices

    def __post_init__(self) -> None:
        if self.grid is not None and not re.fullmatch('[1-9]x[1-9]', self.grid):
            raise ValueError(
                f'detector.slices.grid must be columns x rows such as 2x2 or 3x2, or None, got '
                f'{self.grid!r}'
            )
        check_ranges(self, 'detector.slices', overlap='in [0, 1)', max_iou='in [0, 1)')
