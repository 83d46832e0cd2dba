"""Training transforms of PMPose.

The released configs give names and numbers of the two blackouts; the painting is an interpretation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmpose.registry import TRANSFORMS


def _check_fraction(name: str, *values: float) -> None:
    if not all(0.0 <= value <= 1.0 for value in values):
        raise ValueError(f'{name} = {values}; it must be in [0, 1]')


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
class RandomEdgesBlackout(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Paints the image black beyond random lines through the person.

    This simulates people truncated by the image border, with labels for the hidden keypoints. Place
    it before `TopdownAffine`; it changes `img` only.

    Args:
        prob: Probability, in [0, 1].
        ratio: Smallest and largest fraction of the window side that a line removes.
        context: Side of the window around the box centre, in sides of the padded box.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self, prob: float = 0.2, ratio: tuple[float, float] = (0.1, 0.3), context: float = 1.5
    ) -> None:
        super().__init__()
        _check_fraction('prob', prob)
        _check_fraction('ratio', *ratio)
        if ratio[0] > ratio[1] or context <= 0:
            raise ValueError(f'ratio = {ratio} must rise and context = {context} be positive')
        self.prob = prob
        self.ratio = ratio
        self.context = context

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

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(prob={self.prob}, ratio={self.ratio}, context={self.context})'
        )


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class RandomPatchesBlackout(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Paints random cells of a grid black; place it after `TopdownAffine`.

    Args:
        prob: Probability, in [0, 1].
        grid: (rows, columns) of the grid.
        ratio: Probability of painting a cell, in [0, 1].

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(self, prob: float = 0.1, grid: Sequence[int] = (8, 6), ratio: float = 0.2) -> None:
        super().__init__()
        _check_fraction('prob', prob)
        _check_fraction('ratio', ratio)
        if len(grid) != 2 or min(grid) < 1:
            raise ValueError(f'grid = {grid}; give (rows, columns), each 1 or more')
        self.prob = prob
        self.grid = (int(grid[0]), int(grid[1]))
        self.ratio = ratio

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

    def __repr__(self) -> str:
        return f'{type(self).__name__}(prob={self.prob}, grid={self.grid}, ratio={self.ratio})'
