"""Augmentation of images with masks and keypoints.

Sample dict: `img` RGB uint8 (H, W, 3), `masks` uint8 (n, H, W) of 0 and 1, `people`, n
dicts as of `PoseMaskDataset`, `keypoints` float32 (n, K, 2) x, y in px, `visibility` float32
(n, K). A keypoint outside the image gets visibility 0. Random numbers come from NumPy's global
state, which the data loader seeds.

Legend: n people of an image, K keypoints, H x W image, S side of the model's square.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.registry import TRANSFORMS
from mmengine.structures import BaseDataElement, InstanceData
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pipeline.io.images import describe_exchanged_sides, read_image
from pipeline.keypoints import COCO_FLIP
from pipeline.segmenters.sam2_preprocess import points_to_square
from pipeline.values import check_ranges

Sample = dict[str, Any]
_FILL = (124, 116, 104)  # the mean colour that SAM subtracts
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as torchvision


class PoseTransform:
    """Base class of the transforms."""

    def __call__(self, results: Sample) -> Sample | None:
        """Transform a sample; None requests another sample."""
        return self.transform(results)

    @abstractmethod
    def transform(self, results: Sample) -> Sample | None:
        """See `__call__`."""


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class LoadPoseImage(PoseTransform):
    """Loads image and masks of an item of `PoseMaskDataset`."""

    def transform(self, results: Sample) -> Sample:
        """Add `img`, `masks`, `keypoints` and `visibility`.

        Raises:
            ValueError: The image size differs from the annotation file.
        """
        image = read_image(results['img_path'])
        expected = (results['height'], results['width'])
        if image.shape[:2] != expected:
            raise ValueError(
                f'{results["img_path"]} is {image.shape[1]} x {image.shape[0]} px, the annotation '
                f'file says {expected[1]} x {expected[0]}'
                + describe_exchanged_sides(image.shape[:2], expected)
            )
        people = results['people']
        results['img'] = image
        results['masks'] = self.read_masks(people, *expected)
        results['keypoints'] = np.stack([person['keypoints'] for person in people])
        results['visibility'] = np.stack([person['visibility'] for person in people])
        return results

    def read_masks(self, people: list[Sample], height: int, width: int) -> NDArray[np.uint8]:
        """Decode masks (n, height, width) of 0 and 1."""
        return np.stack([coco_mask.decode(person['rle']) for person in people])


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
@dataclass(eq=False)
class FlipPose(PoseTransform):
    """Mirrors the image and swaps left and right keypoints."""

    prob: float = 0.5  # probability in [0, 1]

    def __post_init__(self) -> None:
        check_ranges(self, 'FlipPose', prob='in [0, 1]')

    def transform(self, results: Sample) -> Sample:
        """Mirror the sample with probability `prob`."""
        if np.random.random() >= self.prob:
            return results
        results['img'] = np.ascontiguousarray(results['img'][:, ::-1])
        results['masks'] = np.ascontiguousarray(results['masks'][:, :, ::-1])
        points = results['keypoints'].copy()
        points[..., 0] = results['img'].shape[1] - 1 - points[..., 0]
        results['keypoints'] = points[:, COCO_FLIP]
        results['visibility'] = results['visibility'][:, COCO_FLIP]
        return results


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
@dataclass(eq=False)
class AffinePose(PoseTransform):
    """Rotates and shears around the centre; the image size is unchanged."""

    degrees: float = 25.0  # largest rotation in either direction
    shear: float = 20.0  # largest horizontal shear in degrees in either direction
    prob: float = 1.0  # probability in [0, 1]

    def __post_init__(self) -> None:
        check_ranges(self, 'AffinePose', prob='in [0, 1]')
        if not 0 <= self.degrees <= 180 or not 0 <= self.shear < 90:
            raise ValueError(
                f'AffinePose: degrees = {self.degrees} must be in [0, 180], '
                f'shear = {self.shear} in [0, 90)'
            )

    def transform(self, results: Sample) -> Sample:
        """Apply a random rotation and shear."""
        if np.random.random() >= self.prob:
            return results
        angle, shear = np.deg2rad(
            np.random.uniform([-self.degrees, -self.shear], [self.degrees, self.shear])
        )
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = turn @ np.array([[1.0, np.tan(shear)], [0.0, 1.0]])
        height, width = results['img'].shape[:2]
        centre = np.array([width - 1, height - 1]) / 2
        affine = np.hstack([linear, (centre - linear @ centre)[:, None]])
        return warp(results, affine)


def warp(results: Sample, affine: NDArray[np.float64]) -> Sample:
    """Apply an affine map (2, 3) of pixel indices to a sample, in place."""
    height, width = results['img'].shape[:2]
    size = (width, height)
    results['img'] = cv2.warpAffine(
        results['img'], affine, size, flags=cv2.INTER_LINEAR, borderValue=_FILL
    )
    results['masks'] = np.stack(
        [cv2.warpAffine(m, affine, size, flags=cv2.INTER_NEAREST) for m in results['masks']]
    )
    points = results['keypoints'] @ affine[:, :2].T + affine[:, 2]
    results['keypoints'] = points.astype(np.float32)
    return hide_outside(results)


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
@dataclass(eq=False)
class JitterPose(PoseTransform):
    """Changes brightness, contrast and saturation by random factors in 1 +- the setting."""

    brightness: float = 0.1  # largest change, in [0, 1]
    contrast: float = 0.03  # the same
    saturation: float = 0.03  # the same

    def __post_init__(self) -> None:
        unit = 'in [0, 1]'
        check_ranges(self, 'JitterPose', brightness=unit, contrast=unit, saturation=unit)

    def transform(self, results: Sample) -> Sample:
        """Change brightness, contrast and saturation, in this order."""
        widths = (self.brightness, self.contrast, self.saturation)
        brightness, contrast, saturation = 1 + np.random.uniform(-1, 1, 3) * widths
        # All three are linear in the colours: apply one matrix.
        middle = brightness * float(np.dot(np.array(cv2.mean(results['img']))[:3], _GREY))
        matrix = saturation * np.eye(3) + (1 - saturation) * np.tile(_GREY, (3, 1))
        offset = np.full((3, 1), (1 - contrast) * middle)
        colours = np.hstack([contrast * brightness * matrix, offset])
        results['img'] = cv2.transform(results['img'], colours)
        return results


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
@dataclass(eq=False)
class GrayscalePose(PoseTransform):
    """Converts the image to grayscale."""

    prob: float = 0.05  # probability in [0, 1]

    def __post_init__(self) -> None:
        check_ranges(self, 'GrayscalePose', prob='in [0, 1]')

    def transform(self, results: Sample) -> Sample:
        """Convert the image with probability `prob`."""
        if np.random.random() < self.prob:
            grey = (results['img'] @ _GREY).round().astype(np.uint8)
            results['img'] = np.repeat(grey[..., None], 3, axis=2)
        return results


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
@dataclass(eq=False)
class PackPromptedPoses(PoseTransform):
    """Scales masks and keypoints to the model's square and packs a sample for `PromptedSam`.

    The image is unchanged; the model's preprocessor scales it. The sample is `inputs`, uint8
    (3, H, W), and `data_samples` with `gt_instances`: `masks` bool (n, S, S), `keypoints` (n, K, 2)
    in px of the square, `visibility` (n, K), `seeds` (n,), `ann_ids` (n,).
    """

    image_size: int  # S, of the model
    max_objects: int | None = None  # largest number of people, drawn at random; None: all
    min_area: int = 16  # fewest px of a person in the square; a click needs one

    def __post_init__(self) -> None:
        check_ranges(self, 'PackPromptedPoses', max_objects='>= 1', min_area='>= 1')

    def transform(self, results: Sample) -> Sample | None:
        """Pack the sample; None if no people are left."""
        masks = self.squares(results['masks'] == 1)
        large = (masks.sum(axis=(1, 2)) >= self.min_area).nonzero()[0]
        if len(large) == 0:
            return None
        rows = self.choose(large)
        meta = {
            'img_id': results['img_id'],
            'img_path': results['img_path'],
            'ori_shape': results['img'].shape[:2],
            'num_dropped': len(masks) - len(large),
            'rles': [self.mask_rle(results, row) for row in rows],
        }
        instances = self.instances(results, masks, rows)
        sample = BaseDataElement(metainfo=meta, gt_instances=instances)
        pixels = torch.from_numpy(np.ascontiguousarray(results['img'].transpose(2, 0, 1)))
        return {'inputs': pixels, 'data_samples': sample}

    def choose(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Draw at most `max_objects` of the rows."""
        if self.max_objects is None or len(rows) <= self.max_objects:
            return rows
        return np.sort(np.random.choice(rows, self.max_objects, replace=False))

    def instances(
        self, results: Sample, masks: NDArray[np.bool_], rows: NDArray[np.int64]
    ) -> InstanceData:
        """Return the people of these rows, scaled to the square."""
        keypoints = torch.from_numpy(results['keypoints'][rows])
        return InstanceData(
            masks=torch.from_numpy(masks[rows]),
            keypoints=points_to_square(keypoints, results['img'].shape[:2], self.image_size),
            visibility=torch.from_numpy(results['visibility'][rows]),
            seeds=torch.from_numpy(np.random.randint(0, 2**31, len(rows))),
            ann_ids=[results['people'][row]['ann_id'] for row in rows],
        )

    def mask_rle(self, results: Sample, row: int) -> Any:
        """Return the mask of a person in the image as COCO RLE."""
        rle, mask = results['people'][row]['rle'], results['masks'][row]
        if tuple(rle['size']) == mask.shape:
            return rle
        return coco_mask.encode(np.asfortranarray(mask))

    def squares(self, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Scale masks (n, H, W) to (n, S, S)."""
        return np.stack([square_mask(mask.astype(np.uint8), self.image_size) for mask in masks])


def square_mask(mask: NDArray[np.uint8], side: int) -> NDArray[np.bool_]:
    """Scale a mask (H, W) of 0 and 1 to bool (side, side): at least half covered."""
    shrinks = max(mask.shape) > side
    flags = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    scaled = cv2.resize(mask * np.uint8(255), (side, side), interpolation=flags)
    return np.asarray(scaled >= 128, bool)


def hide_outside(results: Sample) -> Sample:
    """Set the visibility of keypoints outside the image to 0."""
    height, width = results['img'].shape[:2]
    points = results['keypoints']
    inside = ((points >= 0) & (points <= [width - 1, height - 1])).all(axis=-1)
    results['visibility'] = np.where(inside, results['visibility'], np.float32(0))
    return results
