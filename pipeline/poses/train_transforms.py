"""Training transforms for PMPose that MMPose lacks.

The released configs name the two blackouts with their numbers; how they paint is our own reading.
`CutByPhotoEdge` is an addition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmpose.registry import TRANSFORMS

_FAR_OUTSIDE = -1e4  # px; outside of every crop, mirrored and turned as well


def _check_share(name: str, *values: float) -> None:
    if not all(0.0 <= value <= 1.0 for value in values):
        raise ValueError(f'{name} = {values}; it must be in [0, 1]')


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class KeepVisibilityLevels(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Puts COCO's levels (0 not labelled, 1 hidden, 2 visible) into `keypoints_visible`.

    MMPose's data sets clip them to 1, but the visibility branch of PMPose learns the difference.
    Comes first in the pipeline of a data set, before flips and `KeypointConverter`, which carry
    the levels along to `OKSArgMaxHeatmap`. Other codecs take levels for weights: not for them.
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
    """Paints a person's surroundings black up to random lines that cut into the person.

    The person then looks like one that the edge of a picture cuts off, while the labels still
    say where the hidden keypoints are. Comes before `TopdownAffine`; changes `img` only.

    Args:
        prob: how often, in [0, 1].
        ratio: smallest and largest share of the window's side that a line cuts off.
        context: side of the window, in sides of the (padded) box, around its centre.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self, prob: float = 0.2, ratio: tuple[float, float] = (0.1, 0.3), context: float = 1.5
    ) -> None:
        super().__init__()
        _check_share('prob', prob)
        _check_share('ratio', *ratio)
        if ratio[0] > ratio[1] or context <= 0:
            raise ValueError(f'ratio = {ratio} must rise and context = {context} be positive')
        self.prob = prob
        self.ratio = ratio
        self.context = context

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Paint one sample, or leave it as it is."""
        if np.random.rand() >= self.prob:
            return results
        centre, half = results['bbox_center'][0], self.context * results['bbox_scale'][0] / 2
        low, high = centre - half, centre + half
        sides = np.random.rand(4) < 0.5
        sides[np.random.randint(4)] = True  # one at least
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
class CutByPhotoEdge(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Paints the picture black beyond one line through the person, as if the photo ended there.

    COCO does not label keypoints outside of the photo, so a model never learns that those of a
    close-up are absent. Here they are known: they move out of every crop, and so become absent for
    the presence branch and nothing for the heat maps. The box ends at the line, as a detector's
    would.

    Comes before `GetBBoxCenterScale`, with heat-map codecs; `OKSArgMaxHeatmap` would take the
    keypoints beyond the line as not labelled.

    Args:
        prob: how often, in [0, 1].
        kept: smallest and largest share of the box that stays, in [0, 1].
        sides: relative chances that the photo ends below, to the left, to the right, above.
        min_keypoints: people of whom fewer labelled keypoints would stay are left whole.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self,
        prob: float = 0.3,
        kept: tuple[float, float] = (0.3, 0.9),
        sides: tuple[float, float, float, float] = (0.6, 0.15, 0.15, 0.1),
        min_keypoints: int = 4,
    ) -> None:
        super().__init__()
        _check_share('prob', prob)
        _check_share('kept', *kept)
        if kept[0] > kept[1]:
            raise ValueError(f'kept = {kept} must rise')
        if len(sides) != 4 or min(sides) < 0 or not sum(sides) > 0:
            raise ValueError(f'sides = {sides}; give four chances from 0 on, one of them above')
        self.prob = prob
        self.kept = kept
        self.sides = sides
        self.min_keypoints = min_keypoints

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Cut one sample, or leave it as it is."""
        if np.random.rand() >= self.prob:
            return results
        side = np.random.choice(4, p=np.array(self.sides) / sum(self.sides))
        axis, is_high_end = ((1, True), (0, False), (0, True), (1, False))[side]
        box = results['bbox'].copy()
        low, high = box[0, axis], box[0, axis + 2]
        share = np.random.uniform(*self.kept)
        line = round(
            float(low + share * (high - low) if is_high_end else high - share * (high - low))
        )
        points, labelled = results['keypoints'].copy(), results['keypoints_visible'].copy()
        along = points[0, :, axis]
        is_gone = along > line - 1 if is_high_end else along < line
        stay = (labelled[0].reshape(len(is_gone), -1)[:, 0] > 0) & ~is_gone
        if stay.sum() < self.min_keypoints:
            return results
        image = results['img'].copy()
        beyond = slice(max(line, 0), None) if is_high_end else slice(0, max(line, 0))
        image[beyond if axis == 1 else (slice(None), beyond)] = 0
        box[0, axis + 2 * is_high_end] = line
        points[0, is_gone] = _FAR_OUTSIDE
        labelled[0, is_gone] = 0
        results.update(img=image, bbox=box, keypoints=points, keypoints_visible=labelled)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(prob={self.prob}, kept={self.kept}, sides={self.sides}, '
            f'min_keypoints={self.min_keypoints})'
        )


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class RandomPatchesBlackout(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Paints random cells of a grid over the picture black; comes after `TopdownAffine`.

    Args:
        prob: how often, in [0, 1].
        grid: (rows, columns) of the grid.
        ratio: chance of each cell to be painted, in [0, 1].

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(self, prob: float = 0.1, grid: Sequence[int] = (8, 6), ratio: float = 0.2) -> None:
        super().__init__()
        _check_share('prob', prob)
        _check_share('ratio', ratio)
        if len(grid) != 2 or min(grid) < 1:
            raise ValueError(f'grid = {grid}; give (rows, columns), each 1 or more')
        self.prob = prob
        self.grid = (int(grid[0]), int(grid[1]))
        self.ratio = ratio

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Paint one sample, or leave it as it is."""
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
