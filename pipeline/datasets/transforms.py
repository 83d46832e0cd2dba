"""Training transforms for MMDetection pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import BitmapMasks
from numpy.typing import NDArray

from ..values import check_ranges

Fill = Literal['black', 'mean'] | int | Sequence[int]
FILLS = "'black', 'mean', a grey value or three values for red, green, blue, each in [0, 255]"


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
@dataclass(eq=False)
class RemoveRandomInstances(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Paint over random people and drop them from the targets.

    The loop hides detected people by painting them black. A detector trained with this transform
    learns to ignore painted people and to detect the people around them. Only people with a
    non-empty mask are painted, never crowd regions or ignored people. Place the transform after
    `LoadAnnotations` (polygons or bitmaps) and before any resizing.

    A config of BBoxMaskPose names the original transform, which is not published. Probability,
    number and fill are choices of this project; the loop paints black too.

    Raises:
        ValueError: a setting is out of range.
    """

    prob: float = 0.3  # probability to change an image, in [0, 1]
    max_instances: int | None = 3  # most people to paint in an image; None: no limit
    _: KW_ONLY
    # Fewest people to paint in a changed image, if it has as many. The number is drawn uniformly.
    min_instances: int = 1
    fill: Fill = 'black'  # or 'mean' colour of the image, a grey value, or (red, green, blue)
    # Minimum and maximum growth of the painted area in px of the image, drawn uniformly for each
    # image; a negative value leaves the border of the person.
    dilation: tuple[int, int] = (0, 0)
    # Also drop other people if less than this fraction of their mask is left unpainted, in [0, 1);
    # 0: only people who are painted over entirely.
    min_visible: float = 0.0
    # Classes to paint; None: all. People are `(0,)` in the 80 classes of COCO.
    labels: Sequence[int] | None = None

    def __post_init__(self) -> None:
        check_ranges(
            self, 'RemoveRandomInstances', prob='in [0, 1]', min_instances='>= 1',
            min_visible='in [0, 1)',
        )  # fmt: skip
        most, dilation = self.max_instances, self.dilation
        for valid, name, allowed in (
            (most is None or most >= self.min_instances, 'max_instances',
             f'{self.min_instances} (min_instances) or more, or None'),
            (_is_fill(self.fill), 'fill', FILLS),
            (dilation[0] <= dilation[1], 'dilation', '(smallest, largest)'),
        ):  # fmt: skip
            if not valid:
                value = getattr(self, name)
                raise ValueError(f'RemoveRandomInstances: {name} = {value!r}; give {allowed}')

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change one image and its targets.

        Args:
            results: `img` (H, W, 3) uint8 BGR, `gt_masks` N masks of size (H, W), and per person
                `gt_bboxes`, `gt_bboxes_labels`, `gt_ignore_flags`.

        Returns:
            The same dict with a painted copy of the image and `painted` = True, without the
            painted people and without people who have no visible pixel left.
        """
        if np.random.random() >= self.prob:
            return results
        candidates = self.candidates(results)
        most = len(candidates) if self.max_instances is None else self.max_instances
        most = min(most, len(candidates))
        if most == 0:
            return results
        count = np.random.randint(min(self.min_instances, most), most + 1)
        removed = np.random.choice(candidates, size=count, replace=False)
        grow = int(np.random.randint(self.dilation[0], self.dilation[1] + 1))
        return paint_and_drop(
            results, removed, fill=self.fill, grow=grow, min_visible=self.min_visible
        )

    def candidates(self, results: dict[str, Any]) -> NDArray[np.intp]:
        """Return the indices of the people that can be painted."""
        valid = ~results['gt_ignore_flags'] & (results['gt_masks'].areas > 0)
        if self.labels is not None:
            valid &= np.isin(results['gt_bboxes_labels'], list(self.labels))
        return np.flatnonzero(valid)


def _is_fill(fill: Fill) -> bool:
    if isinstance(fill, str):
        return fill in ('black', 'mean')
    values = [fill] if isinstance(fill, int) else list(fill)
    return len(values) in (1, 3) and all(0 <= value <= 255 for value in values)


def find_fill_colour(fill: Fill, image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the BGR colour (3,) of a fill; see `RemoveRandomInstances`.

    Args:
        fill: setting of the transform.
        image_bgr: (H, W, 3).
    """
    if fill == 'mean':
        mean: NDArray[np.uint8] = image_bgr.mean(axis=(0, 1)).round().astype(np.uint8)
        return mean
    rgb = 0 if fill == 'black' else fill
    return np.broadcast_to(np.asarray(rgb, np.uint8), (3,))[::-1]


def grow_mask(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """Grow a mask (H, W) by a number of px; a negative number shrinks it.

    A mask that would vanish is returned unchanged. The border of the image does not shrink it.
    """
    if by == 0:
        return mask
    side = 2 * abs(by) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    change = cv2.dilate if by > 0 else cv2.erode
    changed: NDArray[np.bool_] = change(mask.astype(np.uint8), kernel).astype(np.bool_)
    return changed if changed.any() else mask


def paint_and_drop(
    results: dict[str, Any],
    removed: NDArray[np.intp],
    *,
    fill: Fill = 'black',
    grow: int = 0,
    min_visible: float = 0.0,
) -> dict[str, Any]:
    """Paint over people and drop them from the targets; see `RemoveRandomInstances`.

    Args:
        results: pipeline dict of one image.
        removed: (R,) indices of people with a mask.
        fill: colour.
        grow: growth of the painted area in px; see `grow_mask`.
        min_visible: minimum fraction of a mask that must be left to keep a person.

    Returns:
        The same dict, changed; its masks are bitmaps.
    """
    masks = results['gt_masks'].to_ndarray().astype(bool)
    height, width = results['img'].shape[:2]
    painted = np.zeros((height, width), np.bool_)
    for index in removed:
        painted |= grow_mask(masks[index], grow)
    image = results['img'].copy()
    image[painted] = find_fill_colour(fill, image)
    visible = masks & ~painted
    # Drop hidden people: an empty mask would mean "mask unknown".
    total, left = masks.sum(axis=(1, 2)), visible.sum(axis=(1, 2))
    keep = (total == 0) | ((left > 0) & (left >= min_visible * total))
    keep |= results['gt_ignore_flags'] & (left > 0)
    keep[removed] = False
    results['img'] = image
    results['painted'] = True
    results['gt_masks'] = BitmapMasks(visible[keep].astype(np.uint8), height, width)
    for key in ('gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags'):
        results[key] = results[key][keep]
    return results
