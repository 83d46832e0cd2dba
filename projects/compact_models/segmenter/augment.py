"""More people in an image, and closer looks at them: image, masks and keypoints change together.

The dict that travels is that of `transforms.py`. Legend: n people, P pasted ones, H x W image.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from mmengine.registry import DATASETS, TRANSFORMS
from numpy.typing import NDArray

from pipeline.boxes import box_of_mask
from pipeline.keypoints import COCO_FLIP
from pipeline.training.pose2seg.transforms import PoseTransform, Sample, hide_outside
from projects.compact_models.cutouts import Layer, RandomPaste, check_settings

from .partial_data import LoadPartialPoses

_SMALLEST = 8  # px; smaller cut-outs are not worth pasting


def cut_window(results: Sample, left: int, top: int, right: int, bottom: int) -> Sample:
    """Cuts a sample, in place, to a window in px of its image; right and bottom are outside."""
    results['img'] = np.ascontiguousarray(results['img'][top:bottom, left:right])
    results['masks'] = np.ascontiguousarray(results['masks'][:, top:bottom, left:right])
    results['keypoints'] = results['keypoints'] - np.array([left, top], np.float32)
    return hide_outside(results)


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class CropPose(PoseTransform):
    """Crop a random window, one to a few times as large as a random person.

    Args:
        scale: smallest and largest side of the window, as multiples of the longer side of the
            person's box; drawn evenly on a logarithmic scale, cut at the image.
        stretch: largest change of the window's aspect ratio, as a factor of 1 or more.
        shift: largest distance between the centers of person and window, relative to the window.
        prob: chance in [0, 1].

    Raises:
        ValueError: a setting outside its range.
    """

    def __init__(
        self,
        scale: tuple[float, float] = (1.1, 4.0),
        stretch: float = 1.3,
        shift: float = 0.25,
        prob: float = 0.5,
    ) -> None:
        check_settings('CropPose', {'prob': prob, 'shift': shift}, {'scale': scale})
        if stretch < 1:
            raise ValueError(f'CropPose: stretch = {stretch}; give 1 or more')
        self.scale = scale
        self.stretch = stretch
        self.shift = shift
        self.prob = prob

    def transform(self, results: Sample) -> Sample:
        """Cuts or leaves the sample."""
        present = results['masks'].any(axis=(1, 2)).nonzero()[0]
        if np.random.random() >= self.prob or len(present) == 0:
            return results
        x1, y1, x2, y2 = box_of_mask(results['masks'][np.random.choice(present)])
        side = max(x2 - x1, y2 - y1) * np.exp(np.random.uniform(*np.log(self.scale)))
        stretch = self.stretch ** np.random.uniform(-1, 1)
        image = np.array(results['img'].shape[1::-1])
        window = np.clip([side * stretch, side / stretch], 16, image).astype(int)
        shift = np.random.uniform(-self.shift, self.shift, 2) * window
        corner = (np.array([x1 + x2, y1 + y2]) - window) / 2 + shift
        left, top = np.clip(corner.round().astype(int), 0, image - window)
        right, bottom = left + window[0], top + window[1]
        return cut_window(results, left, top, right, bottom)


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PastePoses(RandomPaste):
    """Paste people of other images beside and over those of this one.

    Masks lose the covered pixels, and covered keypoints become invisible. People with less than
    `min_visible` of their pixels left are dropped.

    Args:
        people: settings of a `PartialPoseDataset`; its people with a whole mask are pasted.
        prob: chance that an image is changed, in [0, 1].
        max_people: most people pasted into one image, at least 1.
        size: of a pasted person relative to a random one of the image (square roots of the areas
            of their boxes); drawn evenly on a logarithmic scale.
        min_visible: see above, in [0, 1].

    Raises:
        ValueError: a setting outside its range.
    """

    def __init__(
        self,
        people: Mapping[str, Any],
        prob: float = 0.5,
        max_people: int = 2,
        size: tuple[float, float] = (0.55, 1.4),
        min_visible: float = 0.3,
    ) -> None:
        super().__init__(prob, max_people, {'min_visible': min_visible}, {'size': size})
        self.people = dict(people)
        self.size = size
        self.min_visible = min_visible
        self._load = LoadPartialPoses()

    @cached_property
    def images(self) -> Any:
        """The data set whose people are pasted; read when first needed."""
        return DATASETS.build(self.people)

    def paste(self, results: Sample, count: int) -> Sample:
        """Paste people near random people of the image."""
        for _ in range(count):
            anchor = box_of_mask(results['masks'][np.random.randint(len(results['masks']))])
            person = self._cut_out(anchor)
            if person is not None:
                results = paste(results, *person, self.min_visible)
        return results

    def _cut_out(self, anchor: NDArray[np.float32]) -> tuple[Layer, Sample] | None:
        """A random person, placed near a box, and its row of a sample; None: too small a one."""
        item = self.images.get_data_info(np.random.randint(len(self.images)))
        whole = [person for person in item['people'] if person['rle'] is not None]
        if not whole:
            return None
        source = self._load.transform({**item, 'people': [whole[np.random.randint(len(whole))]]})
        x1, y1, x2, y2 = box_of_mask(source['masks'][0]).astype(int)
        extent, target = np.array([x2 - x1, y2 - y1]), anchor[2:] - anchor[:2]
        factor = np.exp(np.random.uniform(*np.log(self.size)))
        scale = factor * float(np.sqrt(target.prod() / extent.prod()))
        size = np.rint(extent * scale).astype(int)
        if min(*extent, *size) < _SMALLEST:
            return None
        # Beside the other person rather than above or below.
        reach = (target + size) / 2 * [0.8, 0.35]
        middle = (anchor[:2] + anchor[2:]) / 2 + np.random.uniform(-reach, reach)
        corner = np.rint(middle - size / 2).astype(int)
        window = (slice(y1, y2), slice(x1, x2))
        flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = cv2.resize(source['img'][window], size.tolist(), interpolation=flags)
        alpha = cv2.GaussianBlur(source['masks'][0][window].astype(np.float32), (3, 3), 0)
        alpha = cv2.resize(alpha, size.tolist(), interpolation=flags)
        row = {name: source[name] for name in ('visibility', 'people')}
        # Half a pixel: indices name the middles of pixels.
        points = (source['keypoints'] - [x1, y1] + 0.5) * (size / extent) - 0.5
        if np.random.random() < 0.5:
            image, alpha = image[:, ::-1], alpha[:, ::-1]
            points[..., 0] = size[0] - 1 - points[..., 0]
            points, row['visibility'] = points[:, COCO_FLIP], row['visibility'][:, COCO_FLIP]
        row['keypoints'] = (points + corner).astype(np.float32)
        bright = image[..., ::-1].astype(np.float32) * np.random.uniform(0.8, 1.2)
        layer = Layer(bright.clip(0, 255).astype(np.uint8), alpha.astype(np.float32), *corner)
        return layer, row


def paste(results: Sample, layer: Layer, row: Sample, min_visible: float) -> Sample:
    """Puts one person on top of an image; see `PastePoses`.

    Args:
        results: changed in place.
        layer: the person.
        row: its `keypoints` (1, K, 2) in px of the image, `visibility` (1, K) and `people`, one.
        min_visible: people with a smaller fraction of their pixels in sight are dropped; if the
            pasted one were, nothing is done.
    """
    height, width = results['img'].shape[:2]
    hidden = layer.mask_in(height, width)
    if hidden.sum() <= max(min_visible * (layer.alpha >= 0.5).sum(), _SMALLEST):
        return results
    image = results['img'].copy()
    layer.paint_on(image[..., ::-1])  # a layer is BGR
    old = results['masks']
    masks = old * ~hidden
    stays = (masks == 1).sum(axis=(1, 2)) >= min_visible * (old == 1).sum(axis=(1, 2))
    columns, rows = np.rint(results['keypoints']).astype(int).transpose(2, 0, 1)
    covered = hidden[rows.clip(0, height - 1), columns.clip(0, width - 1)]
    visibility = np.where(covered, np.float32(0), results['visibility'])
    results['img'] = image
    results['masks'] = np.concatenate([masks[stays], hidden[None].astype(np.uint8)])
    results['keypoints'] = np.concatenate([results['keypoints'][stays], row['keypoints']])
    results['visibility'] = np.concatenate([visibility[stays], row['visibility']])
    kept = [person for person, stay in zip(results['people'], stays, strict=True) if stay]
    results['people'] = [*kept, *row['people']]
    return hide_outside(results)
