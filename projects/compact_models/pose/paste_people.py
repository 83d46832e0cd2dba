"""Copy-paste of people for MMPose: a person in a crop hidden in part by others, exactly known.

Comes before the crop is cut, as `MaskBackground` does. Legend: K keypoints, H, W size of the
image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mmpose.registry import TRANSFORMS
from numpy.typing import NDArray

from pipeline.rle import decode_segmentation
from projects.compact_models.cutouts import CutoutFolder, Layer, RandomPaste, place_randomly


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PastePeople(RandomPaste):
    """Pastes people in front of the person of a top-down sample.

    Covered keypoints stay labelled as occluded (COCO v = 1): the model learns to estimate them with
    low confidence. A sample is unchanged if more than `max_hidden_keypoints` of its visible
    keypoints would be covered.

    Args:
        cutouts: folder written by `projects/compact_models/tools/prepare_cutouts.py`.
        prob: chance that a sample is changed, in [0, 1].
        max_people: most people pasted, at least 1.
        size_range: height of a pasted person relative to the longer side of the person's box;
            drawn evenly.
        max_hidden_keypoints: see above, fraction in [0, 1].

    Raises:
        ValueError: a setting outside its range.
        FileNotFoundError: no cut-outs in the folder.
    """

    def __init__(
        self,
        cutouts: str,
        prob: float = 0.3,
        max_people: int = 2,
        size_range: tuple[float, float] = (0.6, 1.3),
        max_hidden_keypoints: float = 0.5,
    ) -> None:
        super().__init__(
            prob,
            max_people,
            {'max_hidden_keypoints': max_hidden_keypoints},
            {'size_range': size_range},
        )
        self.cutouts = CutoutFolder(cutouts)
        self.size_range = size_range
        self.max_hidden_keypoints = max_hidden_keypoints

    def paste(self, results: dict[str, Any], count: int) -> dict[str, Any]:
        """Change one sample.

        Args:
            results: `img` (H, W, 3) uint8 BGR, `bbox` (1, 4) xyxy px, `keypoints` (1, K, 2) px,
                `raw_ann_info` (COCO annotation), and `mask` or `segmentation` if the person has a
                mask.
            count: number of people to paste.

        Returns:
            The same dict. Changed ones hold copies of `img` and `raw_ann_info`; a mask becomes its
            visible part, under the key `mask`.
        """
        x1, y1, x2, y2 = results['bbox'][0]
        side = max(x2 - x1, y2 - y1)
        layers = []
        for _ in range(count):
            person = self.cutouts.random_person(side * np.random.uniform(*self.size_range))
            layers.append(place_randomly(person, (x1, y1), (x2, y2)))
        return hide_person(results, layers, self.max_hidden_keypoints)


def hide_person(
    results: dict[str, Any], layers: list[Layer], max_hidden_keypoints: float
) -> dict[str, Any]:
    """Pastes layers over a sample; see `PastePeople`.

    Args:
        results: MMPose pipeline dict of one person.
        layers: people to paste, the last one on top.
        max_hidden_keypoints: fraction of the visible keypoints.

    Returns:
        The same dict, unchanged if too much of the person would be hidden.
    """
    height, width = results['img'].shape[:2]
    hidden = np.zeros((height, width), dtype=np.bool_)
    for layer in layers:
        hidden |= layer.mask_in(height, width)
    levels = np.array(results['raw_ann_info']['keypoints'], dtype=np.float64)[2::3]
    covered = (levels == 2) & _lies_in(results['keypoints'][0], hidden)
    if covered.sum() > max_hidden_keypoints * (levels == 2).sum():
        return results
    image = results['img'].copy()
    for layer in layers:
        layer.paint_on(image)
    results['img'] = image
    raw = dict(results['raw_ann_info'])
    raw['keypoints'] = list(raw['keypoints'])
    for index in np.nonzero(covered)[0]:
        raw['keypoints'][3 * index + 2] = 1
    results['raw_ann_info'] = raw
    mask = results.get('mask')
    if mask is None and results.get('segmentation') is not None:
        mask = decode_segmentation(results['segmentation'], height, width)
    if mask is not None:
        results['mask'] = np.asarray(mask, dtype=np.bool_) & ~hidden
    return results


def _lies_in(points: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(K,) bool: the pixel of a point (K, 2) x, y is set; outside of the mask: False."""
    height, width = mask.shape
    x, y = np.rint(points).astype(int).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    result: NDArray[np.bool_] = inside & mask[y.clip(0, height - 1), x.clip(0, width - 1)]
    return result
