"""What the loop knows between rounds, and how it becomes people.

Pixels are shared out anew whenever somebody is added, so the loop keeps soft masks (`Found`) and
derives the result (`assemble`) from them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np

from .masks import LogitMasks, Masks, exclusive_masks, exclusive_masks_as_in_bmp
from .scores import ScoreConfig, instance_scores
from .structures import Detections, Floats, Image, Ints, MaskSource, People, Poses, Rows, Segments

_LEAST_WEIGHT = 1e-3  # nobody is without a claim to pixels that no one else wants
Exclusive = Literal['logits', 'scored_logits', 'as_in_bmp'] | None
Fallback = Literal['detector_then_box'] | None

# A fallback mask never takes a pixel from a mask that SAM is sure of, and a box never one from a
# detector's mask; float16 keeps both values above 0.
DETECTOR_LOGIT = 2.0**-6
BOX_LOGIT = 2.0**-10


@dataclass(frozen=True, eq=False)
class Found(Rows):
    """People found so far, before pixels are shared out."""

    poses: Poses
    segments: Segments
    rounds: Ints  # (N,) from 1
    detector_boxes: Floats  # (N, 4) xyxy px, before the pose estimator moved them

    @classmethod
    def nobody(cls, height: int, width: int, num_keypoints: int) -> Found:
        """The state before round one, for an image of (height, width) px."""
        poses = Poses.empty_poses(height, width, num_keypoints)
        segments = Segments.empty(height, width, num_keypoints)
        return cls.in_round(0, poses, segments, poses)

    @classmethod
    def in_round(
        cls, number: int, poses: Poses, segments: Segments, detections: Detections
    ) -> Found:
        """What round ``number`` adds."""
        rounds = np.full(len(poses), number, np.int32)
        return cls(poses, segments, rounds, detections.boxes)


def paint_out(image: Image, masks: Masks) -> Image:
    """Copy of ``image`` (H, W, 3) with every mask painted black, as the detector was trained."""
    hidden = image.copy()
    for i, crop in enumerate(masks.crops):
        hidden[masks.window(i)][crop] = 0
    return hidden


def drop_hidden(detections: Detections, masks: Masks, share: float | None) -> Detections:
    """Detections without those that lie on painted-out people by more than ``share``.

    The detector's mask counts, or the box where it gave none. ``None`` keeps all.
    """
    if share is None or len(masks) == 0 or len(detections) == 0:
        return detections
    given = detections.detector_masks
    boxes = Masks.from_boxes(detections.boxes, (masks.height, masks.width))
    canvas = masks.union()
    covered = np.where(given.areas > 0, given.covered(canvas), boxes.covered(canvas))
    return detections.select(covered <= share)


def better_keypoints(first: Poses, second: Poses) -> Poses:
    """``second`` with the keypoints of ``first`` where those are scored higher."""
    is_first = first.keypoint_scores > second.keypoint_scores
    return replace(
        second,
        keypoints=np.where(is_first[..., None], first.keypoints, second.keypoints),
        keypoint_scores=np.where(is_first, first.keypoint_scores, second.keypoint_scores),
        presence=np.where(is_first, first.presence, second.presence),
        visibility=np.where(is_first, first.visibility, second.visibility),
    )


def better_segments(first: Segments, second: Segments) -> Segments:
    """``second`` with the segments of ``first`` where those are scored higher."""
    is_first = first.mask_scores > second.mask_scores
    count = len(first)
    return first.concat(second).select(np.where(is_first, 0, count) + np.arange(count))


def settle(
    segments: Segments, poses: Poses, people: People, fallback: Fallback, exclusive: Exclusive
) -> Segments:
    """Segments ready to be kept: fallbacks filled in, and the reference's own order of things."""
    if fallback is not None:
        segments = _with_fallback(segments, poses)
    if exclusive == 'as_in_bmp':
        segments = _exclusive_as_in_bmp(segments, people)
    return segments


def assemble(found: Found, exclusive: Exclusive, boxes: str, score: ScoreConfig) -> People:
    """The result: exclusive masks, the boxes around them, instance scores."""
    poses, segments = found.poses, found.segments
    scores = instance_scores(
        poses.box_scores, poses.keypoint_scores, segments.mask_scores, segments.mask_sources, score
    )
    scores = np.where(found.rounds > 1, score.later_rounds * scores, scores).astype(np.float32)
    masks = _shared_out(segments.logits, scores, exclusive)
    columns = {f.name: getattr(poses, f.name) for f in fields(poses)}
    columns['boxes'] = _mask_boxes(masks, poses.boxes) if boxes == 'mask' else poses.boxes
    return People(
        **columns,
        masks=masks,
        mask_scores=segments.mask_scores,
        mask_sources=segments.mask_sources,
        prompts=segments.prompts,
        detector_boxes=found.detector_boxes,
        rounds=found.rounds,
        scores=scores ** (1 / score.root),
    )


def _shared_out(logits: LogitMasks, scores: Floats, exclusive: Exclusive) -> Masks:
    if exclusive == 'logits':
        return exclusive_masks(logits)
    if exclusive == 'scored_logits':
        return exclusive_masks(logits, scores.clip(_LEAST_WEIGHT))
    return logits.binary()


def _mask_boxes(masks: Masks, boxes: Floats) -> Floats:
    """Boxes of the masks; the given box where nothing of a mask is left."""
    return np.where((masks.areas > 0)[:, None], masks.boxes, boxes).astype(np.float32)


def _with_fallback(segments: Segments, poses: Poses) -> Segments:
    empty = np.array([not (crop > 0).any() for crop in segments.logits.crops], bool)
    if not empty.any():
        return segments
    rows = np.flatnonzero(empty)
    masks = poses.detector_masks.select(rows)
    detector = LogitMasks.from_masks(masks, DETECTOR_LOGIT)
    boxes = LogitMasks.from_masks(
        Masks.from_boxes(poses.boxes[rows], (masks.height, masks.width)), BOX_LOGIT
    )
    # Fallbacks of both kinds below the segments; each empty one picks its own.
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


def _exclusive_as_in_bmp(segments: Segments, people: People) -> Segments:
    """New masks against new and old ones by mask score; old masks keep their pixels (B15)."""
    if len(segments) + len(people) == 1:
        return segments
    scores = np.concatenate([segments.mask_scores, people.mask_scores])
    everyone = segments.logits.binary().concat(people.masks)
    shared = exclusive_masks_as_in_bmp(everyone, scores).select(np.arange(len(segments)))
    return replace(segments, logits=LogitMasks.from_masks(shared, 1.0))
