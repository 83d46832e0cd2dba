"""Interfaces of the three stages: detector, pose estimator and segmenter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from .keypoints import COCO_17, KeypointSet
from .structures import Detections, Image, Poses, Segments

PoseToMask = Callable[[Poses, Poses], Segments]


class Detector(Protocol):
    """Find people in an image, in which some people may be painted black.

    Subclass it and implement ``__call__``; override ``predict_batch`` if the model takes batches.
    """

    def __call__(self, image: Image) -> Detections:
        """Detect people in an RGB uint8 image (H, W, 3)."""

    def predict_batch(self, images: Sequence[Image]) -> list[Detections]:
        """Detect people in every image; images may differ in size."""
        return [self(image) for image in images]


class PoseEstimator(Protocol):
    """Place keypoints inside boxes.

    A pose estimator may refine the boxes and rescore them (``box_scores``). Subclass it and
    implement ``__call__``; override ``predict_batch`` if the model takes batches.
    """

    num_keypoints: int
    keypoint_set: KeypointSet = COCO_17  # names, skeleton and sigmas of other keypoints

    def __call__(self, image: Image, detections: Detections) -> Poses:
        """Estimate one pose per detection, in the same order."""

    def predict_batch(
        self, images: Sequence[Image], detections: Sequence[Detections]
    ) -> list[Poses]:
        """Estimate the poses of every image, one `Detections` per image."""
        return [self(*pair) for pair in zip(images, detections, strict=True)]


class Segmenter(Protocol):
    """Embed an image once; the returned function turns poses into masks."""

    def __call__(self, image: Image) -> PoseToMask:
        """Return ``segment(poses, others)``: one segment per pose; ``others`` give context."""
