"""Training transforms of PMPose.

The released configs give names and numbers of the two blackouts; the painting is an interpretation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmpose.registry import TRANSFORMS

from pipeline.values import check_ranges


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class KeepVisibilityLevels(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Restores COCO's levels (0 not labelled, 1 hidden, 2 visible) in `keypoints_visible`.

    MMPose's datasets clip the levels to 1, but the visibility branch of PMPose needs them. Place it
    first in the pipeline of a dataset, before flips and `KeypointConverter`, which pass the levels
    on to `OKSArgMaxHeatmap`. Do not use it with other codecs: they read levels as weights.
    (`RandomHalfBody` counts a visible keypoint twice towards its minimum.)
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Read `raw_ann_info`, write `keypoints_visible` (1, K) of one sample."""
        levels = np.array(results['raw_ann_info']['keypoints'], np.float32)[2::3]
        results['keypoints_visible'] = levels.reshape(np.shape(results['keypoints_visible']))
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
@dataclass(eq=False)
class RandomEdgesBlackout(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Paints the image black beyond random lines through the person.

    This simulates people truncated by the image border, with labels for the hidden keypoints. Place
    it before `TopdownAffine`; it changes `img` only.
    """

    prob: float = 0.2  # probability, in [0, 1]
    ratio: tuple[float, float] = (0.1, 0.3)  # limits of the removed fraction of the window side
    context: float = 1.5  # side of the window around the box centre, in sides of the padded box

    def __post_init__(self) -> None:
        check_ranges(self, 'RandomEdgesBlackout', prob='in [0, 1]')
        low, high = self.ratio
        if not 0 <= low <= high <= 1 or self.context <= 0:
            raise ValueError(
                f'RandomEdgesBlackout: ratio = {self.ratio} must rise in [0, 1], and context = '
                f'{self.context} be positive'
            )

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Paint one sample with probability `prob`."""
        if np.random.rand() >= self.prob:
            return results
        centre, half = results['bbox_center'][0], self.context * results['bbox_scale'][0] / 2
        low, high = centre - half, centre + half
        sides = np.random.rand(4) < 0.5
        sides[np.random.randint(4)] = True  # at least one
        cuts = sides * np.random.uniform(*self.ratio, size=4) * np.tile(2 * half, 2)
        shape = results['img'].shape[:2]
        free = np.where(sides, [*(low + cuts[:2]), *(high - cuts[2:])], [0, 0, *shape[::-1]])
        left, top = np.clip(free[:2].round().astype(int), 0, None)
        right, bottom = np.clip(free[2:].round().astype(int), 0, None)
        image = np.zeros_like(results['img'])
        image[top:bottom, left:right] = results['img'][top:bottom, left:right]
        results['img'] = image
        return results


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
@dataclass(eq=False)
class RandomPatchesBlackout(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Paints random cells of a grid black; place it after `TopdownAffine`."""

    prob: float = 0.1  # probability, in [0, 1]
    grid: Sequence[int] = (8, 6)  # rows and columns
    ratio: float = 0.2  # probability of painting a cell, in [0, 1]

    def __post_init__(self) -> None:
        check_ranges(self, 'RandomPatchesBlackout', prob='in [0, 1]', ratio='in [0, 1]')
        if len(self.grid) != 2 or min(self.grid) < 1:
            raise ValueError(f'grid = {self.grid}; give (rows, columns), each 1 or more')

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Paint one sample with probability `prob`."""
        if np.random.rand() >= self.prob:
            return results
        image = results['img'].copy()
        painted = np.random.rand(*self.grid) < self.ratio
        row, column = (
            np.arange(side) * cells // side
            for side, cells in zip(image.shape[:2], self.grid, strict=True)
        )
        image[painted[np.ix_(row, column)]] = 0
        results['img'] = image
        return results
