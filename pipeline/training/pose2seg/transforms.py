"""Augmentation of photos with masks and keypoints; each step changes all three together.

The dict that travels: `img` RGB uint8 (H, W, 3), `masks` uint8 (n, H, W) of 0, 1 and, where a mask
is known in part, `UNKNOWN`, `people`, n dicts as of `PoseMaskDataset`, `keypoints` float32
(n, K, 2) x, y in px, `visibility` float32 (n, K). A keypoint that leaves the picture gets
visibility 0. Random numbers come from NumPy's global state, which the data loader seeds.

Legend: n people of a photo, K keypoints, H x W photo, S side of the model's square.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.registry import TRANSFORMS
from mmengine.structures import BaseDataElement, InstanceData
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pipeline.io.images import read_image
from pipeline.keypoints import COCO_FLIP
from pipeline.segmenters.sam2_preprocess import points_to_square

from .skeletons import UNKNOWN, draw_skeleton, partial_masks

Sample = dict[str, Any]
_FILL = (124, 116, 104)  # the mean colour that SAM subtracts
_VISIBLE = 0.5  # from here on a keypoint shows where the person is
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as torchvision


class PoseTransform:
    """One step of a pipeline.

    `changes_image` tells whether the picture differs afterwards, so that stored embeddings of it
    would be wrong.
    """

    changes_image = True

    def __call__(self, results: Sample) -> Sample | None:
        """Changes a sample; None: take another one."""
        return self.transform(results)

    @abstractmethod
    def transform(self, results: Sample) -> Sample | None:
        """See `__call__`."""


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class LoadPosePhoto(PoseTransform):
    """Reads the photo and decodes the masks of an item of `PoseMaskDataset`."""

    changes_image = False

    def transform(self, results: Sample) -> Sample:
        """Adds `img`, `masks`, `keypoints` and `visibility`.

        Raises:
            ValueError: the photo has another size than the annotation file says.
        """
        image = read_image(results['img_path'])
        expected = (results['height'], results['width'])
        if image.shape[:2] != expected:
            raise ValueError(
                f'{results["img_path"]} is {image.shape[1]} x {image.shape[0]} px, the annotation '
                f'file says {expected[1]} x {expected[0]}'
            )
        people = results['people']
        results['img'] = image
        results['masks'] = _read_masks(people, *expected)
        results['keypoints'] = np.stack([person['keypoints'] for person in people])
        results['visibility'] = np.stack([person['visibility'] for person in people])
        return results


def _read_masks(people: list[Sample], height: int, width: int) -> NDArray[np.uint8]:
    """Masks (n, H, W); of people without one what box and skeleton tell."""
    masks = np.zeros((len(people), height, width), np.uint8)
    partly = [row for row, person in enumerate(people) if person['rle'] is None]
    for mask, person in zip(masks, people, strict=True):
        if person['rle'] is not None:
            mask[:] = coco_mask.decode(person['rle'])
    if not partly:
        return masks
    boxes = np.stack([people[row]['box'] for row in partly])
    taken = masks.any(axis=0)
    bones = [
        draw_skeleton(
            people[row]['keypoints'],
            people[row]['visibility'] >= _VISIBLE,
            float(np.sqrt((box[2] - box[0]) * (box[3] - box[1]))),
            (height, width),
        )
        for row, box in zip(partly, boxes, strict=True)
    ]
    masks[partly] = partial_masks(boxes, bones) * ~taken
    return masks


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class FlipPose(PoseTransform):
    """Mirrors left and right; left and right keypoints change places.

    Args:
        prob: chance in [0, 1].
    """

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = _share('FlipPose', prob)

    def transform(self, results: Sample) -> Sample:
        """Mirrors or leaves the sample."""
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
class AffinePose(PoseTransform):
    """Rotates and shears about the centre; the picture keeps its size.

    Args:
        degrees: largest rotation to either side.
        shear: largest horizontal shear in degrees to either side.
        prob: chance in [0, 1].
    """

    def __init__(self, degrees: float = 25.0, shear: float = 20.0, prob: float = 1.0) -> None:
        if not 0 <= degrees <= 180 or not 0 <= shear < 90:
            raise ValueError(
                f'AffinePose: degrees = {degrees} must be in [0, 180], shear = {shear} in [0, 90)'
            )
        self.degrees = degrees
        self.shear = shear
        self.prob = _share('AffinePose', prob)

    def transform(self, results: Sample) -> Sample:
        """Draws an angle and a shear and applies them."""
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
    """Moves the content of a sample inside its frame.

    Args:
        results: changed in place.
        affine: (2, 3), from pixel indices to pixel indices.
    """
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


def cut_window(results: Sample, left: int, top: int, right: int, bottom: int) -> Sample:
    """Cuts a sample, in place, to a window in px of its photo; right and bottom are outside."""
    results['img'] = np.ascontiguousarray(results['img'][top:bottom, left:right])
    results['masks'] = np.ascontiguousarray(results['masks'][:, top:bottom, left:right])
    results['keypoints'] = results['keypoints'] - np.array([left, top], np.float32)
    return hide_outside(results)


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class CropPose(PoseTransform):
    """Cuts out a random window around the middle of a random person.

    Args:
        min_scale: smallest side of the window as a share of the photo's, in (0, 1].
        prob: chance in [0, 1].
    """

    def __init__(self, min_scale: float = 0.5, prob: float = 0.5) -> None:
        if not 0 < min_scale <= 1:
            raise ValueError(f'CropPose: min_scale = {min_scale}; give a value in (0, 1]')
        self.min_scale = min_scale
        self.prob = _share('CropPose', prob)

    def transform(self, results: Sample) -> Sample:
        """Cuts or leaves the sample."""
        visible = results['masks'].any(axis=(1, 2)).nonzero()[0]
        if np.random.random() >= self.prob or len(visible) == 0:
            return results
        rows, columns = results['masks'][np.random.choice(visible)].nonzero()
        sides = np.array(results['img'].shape[:2])
        window = np.ceil(sides * np.random.uniform(self.min_scale, 1, 2)).astype(int)
        middle = np.array([rows.mean(), columns.mean()])
        first = np.random.uniform(middle - window, middle)
        top, left = np.clip(first.round().astype(int), 0, sides - window)
        bottom, right = np.array([top, left]) + window
        return cut_window(results, left, top, right, bottom)


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class JitterPose(PoseTransform):
    """Changes brightness, contrast and saturation by random factors in 1 +- the setting.

    Args:
        brightness: largest change.
        contrast: largest change.
        saturation: largest change.
    """

    def __init__(
        self, brightness: float = 0.1, contrast: float = 0.03, saturation: float = 0.03
    ) -> None:
        self.widths = (
            _share('JitterPose', brightness),
            _share('JitterPose', contrast),
            _share('JitterPose', saturation),
        )

    def transform(self, results: Sample) -> Sample:
        """Applies the three in this order."""
        brightness, contrast, saturation = 1 + np.random.uniform(-1, 1, 3) * self.widths
        # All three are linear in the colours, so one matrix does them.
        middle = brightness * float(np.dot(np.array(cv2.mean(results['img']))[:3], _GREY))
        matrix = saturation * np.eye(3) + (1 - saturation) * np.tile(_GREY, (3, 1))
        offset = np.full((3, 1), (1 - contrast) * middle)
        colours = np.hstack([contrast * brightness * matrix, offset])
        results['img'] = cv2.transform(results['img'], colours)
        return results


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class GrayscalePose(PoseTransform):
    """Takes the colour away.

    Args:
        prob: chance in [0, 1].
    """

    def __init__(self, prob: float = 0.05) -> None:
        self.prob = _share('GrayscalePose', prob)

    def transform(self, results: Sample) -> Sample:
        """Makes all channels equal, or leaves the sample."""
        if np.random.random() < self.prob:
            grey = (results['img'] @ _GREY).round().astype(np.uint8)
            results['img'] = np.repeat(grey[..., None], 3, axis=2)
        return results


def _whole(results: Sample, row: int) -> Any:
    """The person's mask in the picture, COCO RLE; None: known in part."""
    rle, mask = results['people'][row]['rle'], results['masks'][row]
    if rle is None or tuple(rle['size']) == mask.shape:
        return rle
    return coco_mask.encode(np.asfortranarray(mask == 1).astype(np.uint8))


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PackPromptedPoses(PoseTransform):
    """Scales masks and keypoints to the model's square and packs a sample for `PromptedSam`.

    The photo itself stays as it is: the model's preprocessor scales it as at inference. The sample
    is `inputs`, uint8 (3, H, W), and `data_samples` with `gt_instances`: `masks` and `unknown` bool
    (n, S, S), never both, `keypoints` (n, K, 2) in px of the square, `visibility` (n, K), `seeds`
    (n,), `ann_ids` (n,).

    Args:
        image_size: S, `image_size` of the model.
        max_objects: at most so many people, drawn at random; None: all.
        min_objects: at least so many; where there are fewer, some are taken again, with other
            prompts.
        min_area: people with fewer px of the square are dropped; at least 1, as a click needs one.
    """

    changes_image = False

    def __init__(
        self,
        image_size: int,
        max_objects: int | None = None,
        min_area: int = 16,
        min_objects: int = 1,
    ) -> None:
        if max_objects is not None and max_objects < 1:
            raise ValueError(f'PackPromptedPoses: max_objects = {max_objects}; give 1 or more')
        if min_objects < 1 or (max_objects is not None and min_objects > max_objects):
            raise ValueError(
                f'PackPromptedPoses: min_objects = {min_objects}; give 1 to max_objects'
            )
        if min_area < 1:
            raise ValueError(f'PackPromptedPoses: min_area = {min_area}; give 1 or more')
        self.image_size = image_size
        self.max_objects = max_objects
        self.min_area = min_area
        self.min_objects = min_objects

    def transform(self, results: Sample) -> Sample | None:
        """Packs, or asks for another sample where nobody is left."""
        masks = self._squares(results['masks'], 1)
        rows = (masks.sum(axis=(1, 2)) >= self.min_area).nonzero()[0]
        if len(rows) == 0:
            return None
        num_dropped = len(masks) - len(rows)
        if self.max_objects is not None and len(rows) > self.max_objects:
            rows = np.sort(np.random.choice(rows, self.max_objects, replace=False))
        if len(rows) < self.min_objects:
            again = np.random.choice(rows, self.min_objects - len(rows))
            rows = np.sort(np.concatenate([rows, again]))
        hw = results['img'].shape[:2]
        keypoints = torch.from_numpy(results['keypoints'][rows])
        people = [results['people'][row] for row in rows]
        instances = InstanceData(
            masks=torch.from_numpy(masks[rows]),
            unknown=torch.from_numpy(self._squares(results['masks'][rows], UNKNOWN) & ~masks[rows]),
            keypoints=points_to_square(keypoints, hw, self.image_size),
            visibility=torch.from_numpy(results['visibility'][rows]),
            seeds=torch.from_numpy(np.random.randint(0, 2**31, len(rows))),
            ann_ids=[person['ann_id'] for person in people],
        )
        meta = {
            'img_id': results['img_id'],
            'img_path': results['img_path'],
            'ori_shape': hw,
            'num_dropped': num_dropped,
            'rles': [_whole(results, row) for row in rows],
        }
        sample = BaseDataElement(metainfo=meta, gt_instances=instances)
        pixels = torch.from_numpy(np.ascontiguousarray(results['img'].transpose(2, 0, 1)))
        return {'inputs': pixels, 'data_samples': sample}

    def _squares(self, masks: NDArray[np.uint8], value: int) -> NDArray[np.bool_]:
        side = self.image_size
        if not (masks == value).any():
            return np.zeros((len(masks), side, side), np.bool_)
        return np.stack([square_mask((mask == value).astype(np.uint8), side) for mask in masks])


def square_mask(mask: NDArray[np.uint8], side: int) -> NDArray[np.bool_]:
    """Scales a mask (H, W) of 0 and 1 to bool (side, side): pixels that are covered by half."""
    shrinks = max(mask.shape) > side
    flags = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    scaled = cv2.resize(mask * np.uint8(255), (side, side), interpolation=flags)
    return np.asarray(scaled >= 128, bool)


def hide_outside(results: Sample) -> Sample:
    """Gives visibility 0 to keypoints outside of the photo."""
    height, width = results['img'].shape[:2]
    points = results['keypoints']
    inside = ((points >= 0) & (points <= [width - 1, height - 1])).all(axis=-1)
    results['visibility'] = np.where(inside, results['visibility'], np.float32(0))
    return results


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f'{name}: {value} is not in [0, 1]')
    return value
