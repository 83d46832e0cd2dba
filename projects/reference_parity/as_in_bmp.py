"""What the public reference does and the method does not; its bug numbers in brackets.

The published numbers of BBoxMaskPose rest on these differences. `as_in_bmp` gives a pipeline all
those of the loop. Those of the models are `MaskBackgroundAsInBMP` in the test pipeline of the pose
model and the setting `segmenter.channel_order='bgr'` (B2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from mmpose.registry import TRANSFORMS

from pipeline.boxes import box_areas, xywh_to_xyxy
from pipeline.loop import PersonPipeline
from pipeline.masks import LogitMasks, Masks
from pipeline.nms import Candidates, Indices, PoseNMSConfig, Similarity, oks_matrix
from pipeline.poses.mask_background import MaskBackground
from pipeline.rle import decode_segmentation
from pipeline.stages import PoseToMask, Segmenter
from pipeline.structures import Image, People, Poses, Segments


def as_in_bmp(pipeline: PersonPipeline) -> PersonPipeline:
    """The pipeline with the loop of the reference.

    An empty mask stays empty, the boxes of the result are those of the detector, pixels go by one
    score per mask, and the pose NMS is `PoseNMSAsInBMP`.
    """
    nms = pipeline.config.pose_nms
    config = replace(
        pipeline.config,
        fallback=None,
        resolve_overlaps=None,
        boxes='detector',
        pose_nms=PoseNMSAsInBMP(nms.max_oks, nms.confidence_threshold),
    )
    return replace(pipeline, segmenter=SegmenterAsInBMP(pipeline.segmenter), config=config)


@dataclass(frozen=True)
class PoseNMSAsInBMP(PoseNMSConfig):
    """Pose NMS by the number of confident keypoints, with the area x2 * y2 (B1, B13, B14)."""

    right_area: bool = False  # the area of the box instead

    def keep(self, candidates: Candidates) -> Indices:
        """Rows that survive, ascending."""
        boxes = candidates.boxes
        confident = candidates.confident(self.confidence_threshold)
        areas = box_areas(boxes if self.right_area else xywh_to_xyxy(boxes))
        twice = xywh_to_xyxy(xywh_to_xyxy(boxes))
        similarity = oks_matrix(candidates.keypoints, confident, areas, twice)
        return _suppress(similarity, confident.sum(1), self.max_oks)


def _suppress(similarity: Similarity, num_confident: npt.NDArray[Any], max_oks: float) -> Indices:
    """Take the largest entry again and again; a removed pose still removes others."""
    rest = similarity.copy()
    np.fill_diagonal(rest, 0)
    alive = np.ones(len(rest), bool)
    while rest.size and rest.max() > max_oks:
        i, j = np.unravel_index(int(rest.argmax()), rest.shape)
        loser = j if num_confident[i] > num_confident[j] else i
        alive[loser] = False
        rest[:, loser] = 0
        rest[i, j] = 0
    return np.flatnonzero(alive)


@dataclass(frozen=True)
class SegmenterAsInBMP:
    """A segmenter whose masks give way to masks of a higher score (B15).

    Only the new masks change: earlier people keep their pixels.
    """

    segmenter: Segmenter

    def __call__(self, image: Image) -> PoseToMask:
        """Ready to segment people of an image (H, W, 3)."""
        inner = self.segmenter(image)

        def segment(poses: Poses, others: Poses) -> Segments:
            if not isinstance(others, People):
                raise TypeError('the other people need masks')
            return _exclusive(inner(poses, others), others)

        return segment


def _exclusive(segments: Segments, people: People) -> Segments:
    if len(segments) + len(people) == 1:
        return segments
    scores = np.concatenate([segments.mask_scores, people.mask_scores])
    all_masks = segments.logits.binary().concat(people.masks)
    masks = assign_pixels(all_masks, scores).select(np.arange(len(segments)))
    return replace(segments, logits=LogitMasks.from_masks(masks, 1.0))


def assign_pixels(masks: Masks, scores: npt.NDArray[np.floating[Any]]) -> Masks:
    """Give each pixel to the mask with the highest score (B15).

    On a tie the earlier row wins. A pixel that only masks of score 0 cover goes to row 0.
    """
    best = np.zeros((masks.height, masks.width), np.float64)
    owner = np.where(masks.union(), 0, -1).astype(np.int32)
    for i, crop in enumerate(masks.crops):
        window = masks.window(i)
        wins = crop & (scores[i] > best[window])
        best[window][wins] = scores[i]
        owner[window][wins] = i
    return Masks.from_dense((owner == i for i in range(len(masks))), best.shape)


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class MaskBackgroundAsInBMP(MaskBackground):
    """`MaskBackground` with the mask redrawn from its outline, as the reference does it."""

    def _mask_of(self, results: dict[str, Any]) -> npt.NDArray[np.bool_]:
        return redrawn_outline(super()._mask_of(results))


def redrawn_outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """A mask after the reference's way through polygons (its `inference.py`).

    The outer outlines become polygons through the px centres, which COCO's tools fill again: holes
    are closed, outlines with three corners or fewer vanish, and the last column and row are lost.

    Args:
        mask: bool, shape (H, W).

    Returns:
        bool, the same shape.
    """
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    polygons = [c.astype(np.float64).ravel().tolist() for c in contours if len(c) > 3]
    return decode_segmentation(polygons, *mask.shape)
