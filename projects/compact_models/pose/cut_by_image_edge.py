"""Image edges that cut through a person, whose keypoints beyond them are known to be absent."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmpose.registry import TRANSFORMS

_FAR_OUTSIDE = -1e4  # px; outside of every crop, mirrored and turned as well


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class CutByImageEdge(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Paints the image black beyond one line through the person, as if the image ended there.

    COCO does not label keypoints outside of the image, so a model never learns that those of a
    close-up are absent. Here they are known: they move out of every crop, and so become absent for
    the presence branch and nothing for the heat maps. The box ends at the line, as a detector's
    would.

    Comes before `GetBBoxCenterScale`, with heat-map codecs; `OKSArgMaxHeatmap` would take the
    keypoints beyond the line as not labelled.

    Args:
        prob: how often, in [0, 1].
        kept: smallest and largest fraction of the box that stays, in [0, 1].
        sides: relative chances that the image ends below, to the left, to the right, above.
        min_keypoints: people with fewer labelled keypoints after the cut stay whole.

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
        if not 0 <= prob <= 1:
            raise ValueError(f'prob = {prob}; it must be in [0, 1]')
        if not 0 <= kept[0] <= kept[1] <= 1:
            raise ValueError(f'kept = {kept}; give two numbers in [0, 1] that rise')
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
        fraction = np.random.uniform(*self.kept)
        line = round(
            float(low + fraction * (high - low) if is_high_end else high - fraction * (high - low))
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
