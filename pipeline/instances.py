"""The people found so far, and the result that is built from them.

A new person may get pixels of earlier ones. The loop therefore keeps mask logits (`Instances`) and
builds the result (`build_result`) from them after each round.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np

from .candidates import Candidates
from .masks import LogitMasks, Masks, claim_pixels
from .scores import ScoreConfig, instance_scores
from .structures import (
    Detections,
    Floats,
    Image,
    Index,
    Ints,
    MaskSource,
    People,
    Poses,
    Rows,
    Segments,
)

_MIN_WEIGHT = 1e-3  # a person of score 0 keeps the pixels without another candidate
ResolveOverlaps = Literal['logits', 'scored_logits'] | None
Fallback = Literal['detector_then_box'] | None

# A fallback mask never takes a pixel from a confident SAM mask, and a box never takes one from a
# detector mask. Both values stay above 0 in float16.
DETECTOR_LOGIT = 2.0**-6
BOX_LOGIT = 2.0**-10


@dataclass(frozen=True, eq=False)
class Instances(Rows):
    """People found so far, with masks that may still overlap."""

    poses: Poses
    segments: Segments
    rounds: Ints  # (N,) from 1
    detector_boxes: Floats  # (N, 4) xyxy px, before the pose estimator refined them

    @classmethod
    def empty(cls, poses: Poses) -> Instances:
        """Zero people, from zero poses."""
        height, width = poses.detector_masks.height, poses.detector_masks.width
        segments = Segments.empty(height, width, poses.num_keypoints)
        return cls.from_round(0, poses, segments, poses)

    @classmethod
    def from_round(
        cls, number: int, poses: Poses, segments: Segments, detections: Detections
    ) -> Instances:
        """The people that round ``number`` adds."""
        rounds = np.full(len(poses), number, np.int32)
        return cls(poses, segments, rounds, detections.boxes)


def paint_out(image: Image, masks: Masks) -> Image:
    """Copy of ``image`` (H, W, 3) with every mask black; the detector ignores black people."""
    painted = image.copy()
    for i, crop in enumerate(masks.crops):
        painted[masks.window(i)][crop] = 0
    return painted


def drop_covered(detections: Detections, masks: Masks, max_fraction: float | None) -> Detections:
    """Drop detections of which ``masks`` cover more than ``max_fraction``; ``None`` keeps all.

    Without a detector mask, the fraction is that of the box.
    """
    if max_fraction is None or len(masks) == 0 or len(detections) == 0:
        return detections
    detected = detections.detector_masks
    boxes = Masks.from_boxes(detections.boxes, (masks.height, masks.width))
    union = masks.union()
    fractions = np.where(detected.areas > 0, detected.covered(union), boxes.covered(union))
    return detections.select(fractions <= max_fraction)


def keep_best_keypoints(first: Poses, second: Poses) -> Poses:
    """Keep the keypoint with the higher score; on a tie that of ``second``."""
    use_first = first.keypoint_scores > second.keypoint_scores
    return replace(
        second,
        keypoints=np.where(use_first[..., None], first.keypoints, second.keypoints),
        keypoint_scores=np.where(use_first, first.keypoint_scores, second.keypoint_scores),
        presence=np.where(use_first, first.presence, second.presence),
        visibility=np.where(use_first, first.visibility, second.visibility),
    )


def keep_best_segments(first: Segments, second: Segments) -> Segments:
    """Keep the segment with the higher score; on a tie that of ``second``."""
    use_first = first.mask_scores > second.mask_scores
    count = len(first)
    return first.concat(second).select(np.where(use_first, 0, count) + np.arange(count))


def build_result(
    instances: Instances, overlaps: ResolveOverlaps, boxes: str, score: ScoreConfig
) -> People:
    """Resolve overlapping masks, take the boxes around them and compute instance scores."""
    weights, order = _weights(instances, score), np.arange(len(instances))
    return _build_candidates(instances, weights, order, overlaps, boxes, score.root).keep()


def rank_candidates(
    instances: Instances, overlaps: ResolveOverlaps, boxes: str, score: ScoreConfig
) -> Candidates:
    """Sort the instances by descending score; ties keep their order."""
    weights = _weights(instances, score)
    order = np.argsort(-(weights ** (1 / score.root)), kind='stable')
    candidates = _build_candidates(instances, weights, order, overlaps, boxes, score.root)
    return replace(candidates, raw_masks=instances.segments.logits.binary().select(order))


def _build_candidates(
    instances: Instances,
    weights: Floats,
    order: Index,
    overlaps: ResolveOverlaps,
    boxes: str,
    root: float,
) -> Candidates:
    logits = instances.segments.logits
    if overlaps is None:
        masks = logits.binary().select(order)
    elif overlaps == 'logits':
        masks = claim_pixels(logits, order)
    else:
        masks = claim_pixels(logits, order, weights.clip(_MIN_WEIGHT))
    sorted_rows = instances.select(order)
    poses, segments = sorted_rows.poses, sorted_rows.segments
    people = People(
        **{f.name: getattr(poses, f.name) for f in fields(poses)},
        masks=masks,
        mask_scores=segments.mask_scores,
        mask_sources=segments.mask_sources,
        prompts=segments.prompts,
        detector_boxes=sorted_rows.detector_boxes,
        rounds=sorted_rows.rounds,
        scores=weights[order] ** (1 / root),
    )
    return Candidates(people, exclusive=overlaps is not None, mask_boxes=boxes == 'mask')


def _weights(instances: Instances, score: ScoreConfig) -> Floats:
    """Instance scores (N,) before the root; they decide disputed pixels."""
    poses, segments = instances.poses, instances.segments
    scores = instance_scores(
        poses.box_scores,
        poses.keypoint_set.view(poses.keypoint_scores),
        segments.mask_scores,
        segments.mask_sources,
        score,
    )
    return np.where(instances.rounds > 1, score.later_rounds * scores, scores).astype(np.float32)


def apply_mask_fallback(segments: Segments, poses: Poses, fallback: Fallback) -> Segments:
    """Replace empty masks by the detector's mask or, without one, by the box."""
    if fallback is None:
        return segments
    empty = np.array([not (crop > 0).any() for crop in segments.logits.crops], bool)
    if not empty.any():
        return segments
    rows = np.flatnonzero(empty)
    masks = poses.detector_masks.select(rows)
    detector = LogitMasks.from_masks(masks, DETECTOR_LOGIT)
    boxes = LogitMasks.from_masks(
        Masks.from_boxes(poses.boxes[rows], (masks.height, masks.width)), BOX_LOGIT
    )
    # Both kinds of fallback are appended to the segments; each empty segment selects one.
    kinds = segments.logits.concat(detector).concat(boxes)
    chosen = np.where(masks.areas > 0, MaskSource.DETECTOR, MaskSource.BOX)
    below = np.where(masks.areas > 0, 0, len(rows)) + len(poses) + np.arange(len(rows))
    order, sources = np.arange(len(poses)), segments.mask_sources.copy()
    order[rows], sources[rows] = below, chosen
    return replace(
        segments,
        logits=kinds.select(order),
        mask_sources=sources,
        mask_scores=np.where(empty, 0, segments.mask_scores).astype(np.float32),
    )
