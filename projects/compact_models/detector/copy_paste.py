"""Copy-paste of masked people for MMDetection: crowds whose occlusion is known exactly.

Follows Ghiasi et al., "Simple Copy-Paste" (2021), with cut-outs of people in place of a second
image. Legend: N people of the image, P pasted ones, H, W size of the image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from numpy.typing import NDArray

from pipeline.boxes import box_of_mask
from projects.compact_models.cutouts import CutoutFolder, Layer, RandomPaste, place_randomly


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class CopyPastePeople(RandomPaste):
    """Paste people over an image and update boxes, masks and labels.

    People with a mask keep its visible part, and the box of that part; they are dropped if less
    than `min_visible` of their pixels remain. People without a mask keep their box, or become an
    ignored region if pasted people cover more than 1 - `min_visible` of it.

    Args:
        cutouts: folder written by `prepare_cutouts.py`.
        prob: chance that an image is changed, in [0, 1].
        max_people: most people pasted into one image, at least 1.
        height_range: of a pasted person relative to the height of the image; drawn evenly on a
            logarithmic scale.
        min_visible: see above, in [0, 1].

    Raises:
        ValueError: a setting outside its range.
        FileNotFoundError: no cut-outs in the folder.
    """

    def __init__(
        self,
        cutouts: str,
        prob: float = 0.5,
        max_people: int = 4,
        height_range: tuple[float, float] = (0.2, 0.9),
        min_visible: float = 0.2,
    ) -> None:
        super().__init__(
            prob, max_people, {'min_visible': min_visible}, {'height_range': height_range}
        )
        self.cutouts = CutoutFolder(cutouts)
        self.height_range = height_range
        self.min_visible = min_visible

    def paste(self, results: dict[str, Any], count: int) -> dict[str, Any]:
        """Change one image and its targets.

        Args:
            results: `img` (H, W, 3) uint8 BGR, `gt_masks` N bitmaps of size (H, W) (an empty one:
                mask unknown), `gt_bboxes` N boxes, `gt_bboxes_labels` and `gt_ignore_flags` (N,).
            count: P.

        Returns:
            The same dict, with up to N + P people.
        """
        height, width = results['img'].shape[:2]
        layers = []
        for _ in range(count):
            fraction = np.exp(np.random.uniform(*np.log(self.height_range)))
            person = self.cutouts.random_person(fraction * height)
            layers.append(place_randomly(person, (0, 0), (width, height)))
        # Small people are far away: behind the large ones.
        layers.sort(key=lambda layer: layer.alpha.shape[0])
        return paste_people(results, layers, self.min_visible)


def paste_people(
    results: dict[str, Any], layers: list[Layer], min_visible: float
) -> dict[str, Any]:
    """Pastes layers over an image, the last one on top; see `CopyPastePeople`.

    Args:
        results: pipeline dict of one image; changed.
        layers: P people to paste.
        min_visible: people with a smaller fraction of their pixels in sight are dropped.

    Returns:
        The same dict.
    """
    image = results['img'].copy()
    height, width = image.shape[:2]
    pasted = np.zeros((len(layers), height, width), dtype=np.bool_)
    for index, layer in enumerate(layers):
        layer.paint_on(image)
        pasted[index] = layer.mask_in(height, width)
        pasted[:index] &= ~pasted[index]
    whole = np.array([(layer.alpha >= 0.5).sum() for layer in layers], dtype=np.float64)
    kept = pasted[pasted.sum(axis=(1, 2)) > np.maximum(min_visible * whole, 8)]

    old = results['gt_masks'].masks.astype(np.bool_)
    boxes = results['gt_bboxes'].tensor.numpy().copy()
    hidden: NDArray[np.bool_] = np.logical_or.reduce(pasted, axis=0)
    stays, masks, boxes, ignored = _cover(
        old, boxes, results['gt_ignore_flags'], hidden, min_visible
    )
    results['img'] = image
    all_masks = np.concatenate([masks[stays], kept]).astype(np.uint8)
    results['gt_masks'] = BitmapMasks(all_masks, height, width)
    all_boxes = np.concatenate([boxes[stays], boxes_of(kept)]).astype(np.float32)
    results['gt_bboxes'] = HorizontalBoxes(all_boxes.reshape(-1, 4))
    labels = np.zeros(len(kept), dtype=np.int64)
    results['gt_bboxes_labels'] = np.concatenate([results['gt_bboxes_labels'][stays], labels])
    flags = np.zeros(len(kept), dtype=np.bool_)
    results['gt_ignore_flags'] = np.concatenate([ignored[stays], flags])
    return results


def _cover(
    masks: NDArray[np.bool_],
    boxes: NDArray[np.float32],
    ignored: NDArray[np.bool_],
    hidden: NDArray[np.bool_],
    min_visible: float,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float32], NDArray[np.bool_]]:
    """Hide pixels; returns which people stay (N,), and the new masks, boxes and ignore flags."""
    before = masks.sum(axis=(1, 2))
    masks = masks & ~hidden
    after = masks.sum(axis=(1, 2))
    has_mask = before > 0
    stays = ~has_mask | (after > min_visible * before)
    is_covered = ~has_mask & (covered_fraction(boxes, hidden) > 1 - min_visible)
    ignored = np.logical_or(ignored, is_covered)
    cut = has_mask & stays & (after < before)
    boxes[cut] = boxes_of(masks[cut])
    return stays, masks, boxes, ignored


def boxes_of(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Returns (N, 4) float32 xyxy px, the boxes around N non-empty masks (N, H, W)."""
    return np.array([box_of_mask(mask) for mask in masks], np.float32).reshape(-1, 4)


def covered_fraction(boxes: NDArray[np.float32], hidden: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Hidden fraction of each box (xyxy px), (N,) float64; 0 for empty boxes."""
    corners = np.rint(boxes).astype(int).clip(0)
    windows = [hidden[y1:y2, x1:x2] for x1, y1, x2, y2 in corners]
    return np.array([window.mean() if window.size else 0.0 for window in windows])
