"""Stages made from ground truth: what the loop does must then be exactly right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pipeline.masks import LogitMasks, Masks
from pipeline.segmenters.prompts import PromptConfig, make_prompts
from pipeline.stages import Detector, PoseEstimator, PoseToMask
from pipeline.structures import Detections, Image, MaskSource, People, Poses, Segments


@dataclass
class FunctionDetector(Detector):
    """Detects with a function."""

    detect: Callable[[Image], Detections]

    def __call__(self, image: Image) -> Detections:
        return self.detect(image)


@dataclass
class OracleDetector(Detector):
    """Shows a person unless it is painted out, or a person in front of it is still there.

    ``hidden_by[i]`` is the row of the person that hides ``i`` from the detector, or -1.
    """

    ground_truth: People
    hidden_by: np.ndarray
    order: np.ndarray | None = None
    with_masks: bool = True
    seen: list[Image] = field(default_factory=list)

    def __call__(self, image: Image) -> Detections:
        self.seen.append(image)
        gone = self.ground_truth.masks.covered((image == 0).all(2)) > 0.5
        shown = ~gone & ((self.hidden_by < 0) | gone[self.hidden_by])
        rows = np.flatnonzero(shown) if self.order is None else self.order[shown[self.order]]
        found = self.ground_truth.select(rows)
        none = Masks.empty(*self.ground_truth.image_shape, len(rows))
        return Detections(found.boxes, found.box_scores, found.masks if self.with_masks else none)


def row_of(ground_truth: People, box: np.ndarray) -> int:
    """The person whose box this is."""
    return int(np.abs(ground_truth.boxes - box).sum(1).argmin())


@dataclass
class OraclePoses(PoseEstimator):
    """The true pose of the box."""

    ground_truth: People
    num_keypoints: int = 17

    def __call__(self, image: Image, detections: Detections) -> Poses:
        rows = np.array([row_of(self.ground_truth, box) for box in detections.boxes], int)
        true = self.ground_truth.select(rows)
        return Poses(
            detections.boxes, detections.box_scores, detections.detector_masks,
            true.keypoints, true.keypoint_scores, true.presence, true.visibility,
        )  # fmt: skip


@dataclass
class OracleSegmenter:
    """The true mask of the person whose visible keypoints were prompted."""

    ground_truth: People
    blank: tuple[int, ...] = ()  # people for whom it returns nothing
    embedded: int = 0
    calls: int = 0

    def __call__(self, image: Image) -> PoseToMask:
        self.embedded += 1

        def masks_of(poses: Poses, others: Poses) -> Segments:
            self.calls += 1
            prompts = make_prompts(poses, others, PromptConfig()).keypoints
            masks = Masks.empty(*self.ground_truth.image_shape)
            for points, prompt in zip(poses.keypoints, prompts, strict=True):
                masks = masks.concat(self.mask_at(points, prompt[prompt >= 0]))
            sources = np.full(len(poses), MaskSource.SAM, np.int32)
            scores = np.full(len(poses), 0.9, np.float32)
            return Segments(LogitMasks.from_masks(masks, 4.0), scores, sources, prompts)

        return masks_of

    def mask_at(self, points: np.ndarray, used: np.ndarray) -> Masks:
        """Mask of the person with these keypoints; empty without a prompt."""
        row = int(np.abs(self.ground_truth.keypoints - points)[:, used].sum((1, 2)).argmin())
        if len(used) == 0 or row in self.blank:
            return Masks.empty(*self.ground_truth.image_shape, 1)
        return self.ground_truth.masks.select(np.array([row]))
