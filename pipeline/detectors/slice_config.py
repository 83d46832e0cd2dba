"""Settings of the detection in slices; see `pipeline.detectors.slices`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..values import check_ranges

AUTO_SIDE, AUTO_MAX = 640, 4  # px of a side that a slice shows, and slices along a side


@dataclass(frozen=True)
class SliceConfig:
    """Slices of the image that the detector sees enlarged, beside the whole image."""

    # Columns x rows, such as '2x2'; auto: so many that a slice shows at most 640 px of each
    # side, 4 x 4 at most; None: the whole image only.
    grid: str | None = None
    overlap: float = 0.25  # of two neighbouring slices, as a fraction of their side
    from_round: Literal[1, 2] = 1  # 2: round one sees the whole image only
    max_iou: float = 0.5  # box NMS between the people of all slices

    def __post_init__(self) -> None:
        if self.grid is not None and not re.fullmatch('auto|[1-9]x[1-9]', self.grid):
            raise ValueError(
                'detector.slices.grid must be columns x rows such as 2x2 or 3x2, auto, or None, '
                f'got {self.grid!r}'
            )
        check_ranges(self, 'detector.slices', overlap='in [0, 1)', max_iou='in [0, 1)')

    def count(self, side: int, axis: int) -> int:
        """Number of slices along a side of an image in px; axis 0 is its width."""
        if self.grid == 'auto':
            return min(-(-side // AUTO_SIDE), AUTO_MAX)
        return int(self.grid.split('x')[axis]) if self.grid else 1
