"""Pose stage: any MMPose top-down model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from ..keypoints import COCO_17, COCO_NAMES, keypoint_set_of
from ..openmmlab import build_model, building_from, read_model_config, scope_of
from ..runtime.batches import AdaptiveBatcher
from ..runtime.options import ON_CPU, RuntimeOptions
from ..runtime.precision import layers_of, optimize_modules
from ..stages import PoseEstimator
from ..structures import Detections, Image, Poses, size_of
from ..weights.manifest import CheckpointError
from .released_config import ERROR_BRANCH, stock_config

Window = tuple[slice, slice]  # rows, columns

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn


# Half side of the image region that a crop can reach, in longer box sides, for unusual test
# pipelines. MMPose pads boxes by 1.25 and widens them to the aspect ratio of the input: 0.84 at
# 3:4, 1.25 at 1:2.
REACH = 1.5
# For the neighbours that bilinear sampling reads, and rounding.
OPENCV_MAX_SIDE = 32_766  # px of an image that cv2.warpAffine takes
MARGIN_PX = 3


@dataclass(eq=False)
class MMPoseEstimator(PoseEstimator):
    """Runs an MMPose top-down model on boxes, in bounded batches.

    For a model without presence and visibility outputs (plain ViTPose), the keypoint score replaces
    them, as in the reference.

    Raises:
        ValueError: ``coco_only``, but the model lacks some of COCO's keypoints.
    """

    model: nn.Module  # in evaluation mode, on its device
    transforms: Any  # test pipeline without background dimming, from image and box to packed inputs
    dataset_meta: dict[str, Any]  # keypoint metadata of each sample (flip order, names)
    _: KW_ONLY
    batch_size: int  # people per forward pass
    dimmer: Any  # the `MaskBackground` of the test pipeline; None ignores the detector masks
    refine_boxes: bool = False  # return the boxes predicted by the model (`PMPoseBoxHead`)
    coco_only: bool = False  # keep only COCO's 17 keypoints

    def __post_init__(self) -> None:
        predicted = keypoint_set_of(self.dataset_meta)
        if self.coco_only and not predicted.has_coco:
            absent = ', '.join(name for name in COCO_NAMES if name not in predicted.names)
            raise ValueError(
                f"pose.keypoints = 'coco17', but the model predicts no {absent}; use 'all'"
            )
        self.columns = predicted.compared if self.coco_only else np.arange(predicted.num)
        self.keypoint_set = COCO_17 if self.coco_only else predicted
        self.num_keypoints = self.keypoint_set.num
        self.batcher = AdaptiveBatcher(self.batch_size, 'pose.batch_size')
        self.crop = _Crop.of(self.transforms)

    def __call__(self, image: Image, detections: Detections) -> Poses:
        """Estimate a pose per detection in an RGB uint8 image (H, W, 3), in the same order."""
        return self.predict_batch([image], [detections])[0]

    def predict_batch(
        self, images: Sequence[Image], detections: Sequence[Detections]
    ) -> list[Poses]:
        """Estimate the poses of every image; on a GPU, people of all images share batches.

        On a CPU, sharing is not faster, and the last bits of a result depend on the rest of the
        batch. Each image has separate batches there, so results equal those of single images.
        """
        counts = [len(people) for people in detections]
        rows = np.array([(i, j) for i, count in enumerate(counts) for j in range(count)], np.int64)
        groups = [rows] if self.shares_batches else np.split(rows, np.cumsum(counts)[:-1])
        canvases = [np.zeros_like(image) for image in images]

        def forward(part: Any) -> list[Any]:
            return self._forward(
                [(images[i], detections[i], canvases[i], j) for i, j in part.tolist()]
            )

        parts = (part for group in groups for _, part in self.batcher.run(group, forward))
        samples = iter([sample for part in parts for sample in part])
        return [
            self._poses(size_of(image), people, [next(samples) for _ in people.boxes])
            for image, people in zip(images, detections, strict=True)
        ]

    @property
    def shares_batches(self) -> bool:
        """Whether people of several images share a forward pass."""
        return next(self.model.parameters()).device.type != 'cpu'

    def _forward(self, people: list[tuple[Image, Detections, Any, int]]) -> list[Any]:
        """Predict poses of people; each item holds the arguments of `_sample`."""
        from mmengine.dataset import pseudo_collate

        with scope_of('mmpose'), torch.inference_mode():
            samples = [self._sample(*person) for person in people]
            samples = self.model.test_step(pseudo_collate(samples))  # type: ignore[operator]
        found = [sample.pred_instances for sample in samples]
        for instances, (image, detections, _, i) in zip(found, people, strict=True):
            if max(size_of(image)) > OPENCV_MAX_SIDE:
                x, y = self._origin(image, detections, i)
                instances.keypoints = np.add(instances.keypoints, [x, y])
                if 'person_bboxes' in instances:
                    instances.person_bboxes = np.add(instances.person_bboxes, [x, y, x, y])
        return found

    def _sample(self, image: Image, detections: Detections, canvas: Any, i: int) -> Any:
        """Pack the input of one person.

        Only the region that the crop can reach is dimmed, on a canvas of the image size that all
        people share. Dimming the whole image is slow; cropping first would change the rounding of
        coordinates.
        """
        window = _window(detections.boxes[i], size_of(image), self.crop)
        part_bgr = cv2.cvtColor(image[window], cv2.COLOR_RGB2BGR)  # MMPose's pipelines take BGR
        canvas[window] = self._dimmed(part_bgr, detections, i, window)
        pixels, boxes = canvas, detections.boxes[i : i + 1]
        if max(size_of(image)) > OPENCV_MAX_SIDE:
            x, y = self._origin(image, detections, i)
            pixels, boxes = canvas[window], boxes - np.array([x, y, x, y], np.float32)
        info = {
            **self.dataset_meta,
            'img': pixels,
            'img_id': 0,
            'img_path': '',
            'bbox': boxes,
            'bbox_score': detections.box_scores[i : i + 1],
        }
        return self.transforms(info)

    def _origin(self, image: Image, detections: Detections, i: int) -> tuple[int, int]:
        """Return x, y of the region of a person, which is all that OpenCV gets of a huge image."""
        rows, columns = _window(detections.boxes[i], size_of(image), self.crop)
        return columns.start, rows.start

    def _dimmed(self, part: Any, detections: Detections, i: int, window: Window) -> Any:
        masks = detections.detector_masks
        if self.dimmer is None or not masks.crops[i].any():
            return part
        return self.dimmer({'img': part, 'mask': masks.crop(i, window)})['img']

    def _poses(
        self, shape: tuple[int, int], detections: Detections, predictions: list[Any]
    ) -> Poses:
        """Combine detections with the MMPose predictions."""
        kept = self.keypoint_set
        if not predictions:
            return Poses.empty_poses(*shape, kept.num, kept)
        points, scores = (self._column(predictions, n) for n in ('keypoints', 'keypoint_scores'))
        presence, visible = (
            self._column(predictions, name) if name in predictions[0] else scores
            for name in ('keypoints_probs', 'keypoints_visible')
        )
        poses = Poses(
            detections.boxes, detections.box_scores, detections.detector_masks,
            points, scores.clip(0, 1), presence.clip(0, 1), visible.clip(0, 1), keypoint_set=kept,
        )  # fmt: skip
        return _with_refined_boxes(poses, shape, predictions) if self.refine_boxes else poses

    def _column(self, predictions: list[Any], name: str) -> Any:
        """Stack a field of the kept keypoints: (N, K, ...) float32."""
        column = np.concatenate([np.asarray(row[name])[:1] for row in predictions])
        if column.shape[1] != self.num_keypoints and not self.coco_only:
            raise ValueError(
                f'the pose model predicts {column.shape[1]} keypoints, but its dataset_meta names '
                f'{self.num_keypoints}; set test_dataloader.dataset.metainfo in its config'
            )
        return column.take(self.columns, axis=1).astype(np.float32)


def _with_refined_boxes(poses: Poses, shape: tuple[int, int], predictions: list[Any]) -> Poses:
    """Return the poses with the refined boxes, clipped to the image, and their scores."""
    boxes = np.concatenate([row['person_bboxes'] for row in predictions])
    scores = np.concatenate([row['person_bbox_scores'] for row in predictions]).clip(0, 1)
    height, width = shape
    boxes = boxes.clip(0, [width, height, width, height]).astype(np.float32)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])  # sides are predicted independently
    return replace(poses, boxes=boxes, box_scores=poses.box_scores * scores)


def build_mmpose_estimator(
    config: str,
    checkpoint: Path | None,
    runtime: RuntimeOptions = ON_CPU,
    *,
    batch_size: int = 32,
    flip_test: bool | None = None,
    mask_conditioning: bool = True,
    refine_boxes: bool = False,
    coco_only: bool = False,
    ignorable: tuple[str, ...] = (),
) -> MMPoseEstimator:
    """Build a pose estimator from a config (file or ``mmpose::name``) and weights (None: random).

    Configs of the reference's MMPose fork work too; see `stock_config`.

    Raises:
        ValueError: The model is bottom-up, or cannot do what the options ask for.
    """
    loaded = stock_config(read_model_config(config, 'mmpose'))
    _check_top_down(loaded.model, config)
    for part in loaded.custom_imports['imports']:
        if part.startswith('pipeline.'):
            import_module(part)
    if flip_test is not None:
        loaded.model.test_cfg['flip_test'] = flip_test
    ignorable = (*ignorable, ERROR_BRANCH)
    model, checkpoint_meta = build_model(loaded, checkpoint, 'mmpose', ignorable)
    meta = _dataset_meta(loaded, checkpoint_meta)
    if refine_boxes and not hasattr(model.head, 'box_layers'):
        raise ValueError(
            f'pose.refine_boxes = True, but {config} cannot refine boxes: use a model with a '
            'PMPoseBoxHead, or refine_boxes=False'
        )
    optimize_modules(model, ('backbone', 'neck', *layers_of(model, 'head')), runtime)
    dimmer, transforms = _transforms(loaded)
    return MMPoseEstimator(
        model.to(runtime.device),
        transforms,
        meta,
        batch_size=batch_size,
        dimmer=dimmer if mask_conditioning else None,
        refine_boxes=refine_boxes,
        coco_only=coco_only,
    )


def _transforms(config: Config) -> tuple[Any, Any]:
    """Split the test pipeline into `MaskBackground` (None if absent) and the other steps."""
    from mmcv.transforms import Compose
    from mmpose.registry import TRANSFORMS

    from .mask_background import MaskBackground

    loader = config.get('test_dataloader') or config.get('val_dataloader')
    with building_from('mmpose'):
        steps = [TRANSFORMS.build(step) for step in loader.dataset.pipeline]
    dimming = [step for step in steps if isinstance(step, MaskBackground)]
    rest = [step for step in steps if not isinstance(step, MaskBackground)]
    return (dimming[0] if dimming else None), Compose(rest)


def _dataset_meta(config: Config, checkpoint_meta: dict[str, Any]) -> dict[str, Any]:
    """Return keypoint metadata from the checkpoint, else from the config, else COCO's."""
    from mmpose.datasets.datasets.utils import parse_pose_metainfo

    stored = checkpoint_meta.get('dataset_meta')
    if stored and 'flip_indices' in stored:
        return dict(stored)
    # MMPose always warns when it finds the metadata file inside its package.
    with building_from('mmpose'), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        if stored:
            try:
                return dict(parse_pose_metainfo(stored))
            except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
                raise CheckpointError(
                    f'{config.filename}: the dataset_meta of its checkpoint describes no keypoints'
                ) from error
        # Imported here: MMPose's inferencers also import MMDetection's datasets (a second).
        from mmpose.apis.inference import dataset_meta_from_config

        found = dataset_meta_from_config(config, 'test') or dataset_meta_from_config(
            config, 'train'
        )
        return dict(found or parse_pose_metainfo({'from_file': 'configs/_base_/datasets/coco.py'}))


def _check_top_down(model: Any, config: str) -> None:
    kind = str(model.get('type')).rpartition('.')[2]
    if kind.startswith('Bottomup'):
        raise ValueError(
            f'{config} is a bottom-up model ({kind}): it finds the people of a whole image itself. '
            'The loop needs a top-down model, which estimates the pose inside a box, such as '
            'mmpose::body_2d_keypoint/rtmpose/coco/rtmpose-m_8xb256-420e_coco-256x192.py'
        )


@dataclass(frozen=True)
class _Crop:
    """Geometry of the crop of a test pipeline."""

    padding: float  # factor of the box sides
    ratio: float  # width / height; the shorter side of the box is widened to it

    @classmethod
    def of(cls, transforms: Any) -> _Crop | None:
        """Read it from the steps of a pipeline; None if they are not MMPose's usual ones."""
        steps = {type(step).__name__: step for step in getattr(transforms, 'transforms', ())}
        if list(steps) != ['LoadImage', 'GetBBoxCenterScale', 'TopdownAffine', 'PackPoseInputs']:
            return None
        width, height = steps['TopdownAffine'].input_size
        return cls(steps['GetBBoxCenterScale'].padding, width / height)

    def half_sides(self, sides: Any) -> Any:
        """Half width and height, px."""
        width, height = self.padding * sides / 2
        half = [max(width, height * self.ratio), max(height, width / self.ratio)]
        return np.array(half) + MARGIN_PX


def _window(box: Any, shape: tuple[int, int], crop: _Crop | None) -> Window:
    """Return the image region that the crop of a box can reach."""
    centre, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    reach = REACH * max(*sides, 1) if crop is None else crop.half_sides(sides)
    low = np.maximum(np.floor(centre - reach), 0).astype(int)
    high = np.minimum(np.ceil(centre + reach) + 1, shape[::-1]).astype(int)
    high = np.maximum(high, 1)
    low = np.minimum(low, high - 1)  # at least one pixel, also for a box outside the image
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))
