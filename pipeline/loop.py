"""The whole method: detect, estimate poses, segment, paint out, repeat.

    image --detector--> Detections --pose--> Poses --nms--> new Poses
      ^                                                        |
      +------ masks painted out <--- People <--- segmenter ----+

The BBox-Mask-Pose loop of arXiv 2412.01562 and 2601.15200. A list of images takes each round
together, so that the networks see batches; one image is a batch of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from .candidates import Candidates
from .instances import (
    Fallback,
    Instances,
    ResolveOverlaps,
    apply_mask_fallback,
    build_result,
    drop_covered,
    keep_best_keypoints,
    keep_best_segments,
    paint_out,
    rank_candidates,
)
from .masks import Masks
from .nms import PoseNMSConfig, keep_distinct_poses
from .runtime.timing import StageTimer
from .scores import ScoreConfig
from .stages import Detector, PoseEstimator, PoseToMask, Segmenter
from .structures import Detections, Floats, Image, People, Poses, size_of
from .values import check_ranges


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the loop itself; every stage has its own."""

    max_rounds: int | None = 2  # None: until a round finds no new person
    round_cap: int = 20  # upper limit of rounds when max_rounds is None
    refine: bool = False  # BMPv2+: estimate poses again with the final masks, then masks again
    refine_min_side: float = 100  # px of the longer box side; smaller people are not refined
    # Keypoints after refining: the latest ones, or per keypoint the one with the higher score.
    refine_keypoints: Literal['latest', 'highest_score'] = 'latest'
    # Masks after refining: the latest ones, or per person the one with the higher score.
    refine_masks: Literal['latest', 'highest_score'] = 'latest'
    # Drop detections of which a larger fraction is already painted out; None: off.
    max_covered_fraction: float | None = None
    fallback: Fallback = 'detector_then_box'  # replaces an empty SAM mask
    # Which person gets a disputed pixel: the one with the highest logit, or with the highest
    # product of logit and instance score; None: masks may overlap.
    resolve_overlaps: ResolveOverlaps = 'logits'
    # Boxes of the result: around the masks, or the detector's as refined by the pose estimator.
    boxes: Literal['mask', 'detector'] = 'mask'
    pose_nms: PoseNMSConfig = field(default_factory=PoseNMSConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    min_score: float | None = None  # drop people with a lower instance score; None: off

    def __post_init__(self) -> None:
        check_ranges(
            self, 'loop', max_rounds='>= 1', round_cap='>= 1', refine_min_side='>= 0',
            max_covered_fraction='in (0, 1]', min_score='in [0, 1]',
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class ImageState:
    """One image between two rounds."""

    image: Image
    segment: PoseToMask  # of this image
    instances: Instances
    people: People
    round: int = 0  # the last round that found a new person
    finished: bool = False  # a round found no new person


@dataclass(frozen=True)
class PersonPipeline:
    """Detector, pose estimator and segmenter, run round after round."""

    detector: Detector
    pose_estimator: PoseEstimator
    segmenter: Segmenter
    config: LoopConfig = field(default_factory=LoopConfig)
    later_detector: Detector | None = None  # replaces the detector from round two on
    after_stage: Callable[[], object] | None = None  # runs after each use of a model

    def __call__(
        self, image: Image, boxes: Detections | None = None, timer: StageTimer | None = None
    ) -> People:
        """Find every person in an RGB uint8 image (H, W, 3); see `predict_batch`."""
        return self.predict_batch([image], [boxes], timer)[0]

    def predict_batch(
        self,
        images: Sequence[Image],
        boxes: Sequence[Detections | None] | None = None,
        timer: StageTimer | None = None,
    ) -> list[People]:
        """Find every person in every image, in descending order of score.

        Args:
            images: RGB uint8 images (H, W, 3), each of its own size.
            boxes: Per image the user's boxes, which replace the detector in round one, or None.
            timer: Adds up the seconds of ``detect``, ``pose``, ``segment`` and ``merge``.
        """
        candidates = self.predict_candidates(images, boxes, timer)
        return [found.keep(self.config.min_score) for found in candidates]

    def predict_candidates(
        self,
        images: Sequence[Image],
        boxes: Sequence[Detections | None] | None = None,
        timer: StageTimer | None = None,
    ) -> list[Candidates]:
        """Find every person in every image, before ``min_score``; see `predict_batch`."""
        timer = timer or StageTimer()
        states: list[ImageState] = []
        painted: list[tuple[Masks, ...]] = [()] * len(images)
        for states in self.iter_rounds(images, boxes, timer):
            # After round 0, 1, ...: what round 1, 2, ... sees as black.
            painted = [
                (*before, state.people.masks) if state.round == len(before) else before
                for before, state in zip(painted, states, strict=True)
            ]
        if self.config.refine:
            states = self.refine(states, timer)
        config = self.config
        with timer('merge'):
            ranked = [
                rank_candidates(
                    state.instances, config.resolve_overlaps, config.boxes, config.score
                )
                for state in states
            ]
        return [
            replace(candidates, painted=masks[1 : state.round])
            for candidates, masks, state in zip(ranked, painted, states, strict=True)
        ]

    def iter_rounds(
        self,
        images: Sequence[Image],
        boxes: Sequence[Detections | None] | None = None,
        timer: StageTimer | None = None,
    ) -> Iterator[list[ImageState]]:
        """Yield the states before round one and after every round that finds a new person.

        The states after round r are the result of a run with ``max_rounds=r``, before refinement
        and ``min_score``. Arguments as in `predict_batch`.
        """
        timer = timer or StageTimer()
        user_boxes = [None] * len(images) if boxes is None else list(boxes)
        if len(user_boxes) != len(images):
            raise ValueError(f'got {len(images)} images, but boxes of {len(user_boxes)}')
        states = [self._start(image) for image in images]
        yield states
        for number in range(1, (self.config.max_rounds or self.config.round_cap) + 1):
            active = [i for i, state in enumerate(states) if not state.finished]
            with self._stage('detect', timer):
                detections = self._detect(
                    self.detector_of(number),
                    [states[i] for i in active],
                    [user_boxes[i] for i in active],
                )
            with self._stage('pose', timer):
                poses = self.pose_estimator.predict_batch([images[i] for i in active], detections)
            states = list(states)
            for i, found, pose in zip(active, detections, poses, strict=True):
                if user_boxes[i] is not None:  # the user's boxes are not refined
                    pose = _with_boxes(pose, found)
                states[i] = self._add_people(states[i], number, found, pose, timer)
            user_boxes = [None] * len(images)  # later rounds detect
            if all(state.finished for state in states):
                return
            yield states

    def refine(
        self, states: Sequence[ImageState], timer: StageTimer | None = None
    ) -> list[ImageState]:
        """Estimate poses again inside the final masks, then segment again (BMPv2+)."""
        timer = timer or StageTimer()
        is_large = [_longer_sides(s.people) >= self.config.refine_min_side for s in states]
        rows = [s.people.select(large) for s, large in zip(states, is_large, strict=True)]
        with self._stage('pose', timer):
            poses = self.pose_estimator.predict_batch(
                [state.image for state in states],
                [Detections(row.boxes, row.box_scores, row.masks) for row in rows],
            )
        return [self._refine(*row, timer) for row in zip(states, is_large, poses, strict=True)]

    @contextmanager
    def _stage(self, name: str, timer: StageTimer) -> Iterator[None]:
        with timer(name):
            yield
            if self.after_stage is not None:
                self.after_stage()

    def _start(self, image: Image) -> ImageState:
        pose = self.pose_estimator
        instances = Instances.empty(
            Poses.empty_poses(*size_of(image), pose.num_keypoints, pose.keypoint_set)
        )
        return ImageState(image, self.segmenter(image), instances, self._build_result(instances))

    def detector_of(self, number: int) -> Detector:
        """Detector of a round, from 1."""
        return self.detector if number == 1 else self.later_detector or self.detector

    def _detect(
        self,
        detector: Detector,
        states: Sequence[ImageState],
        boxes: Sequence[Detections | None],
    ) -> list[Detections]:
        rows = [i for i, user_boxes in enumerate(boxes) if user_boxes is None]
        painted = [paint_out(states[i].image, states[i].people.masks) for i in rows]
        found = dict(zip(rows, detector.predict_batch(painted), strict=True))
        limit = self.config.max_covered_fraction
        return [
            drop_covered(found[i], states[i].people.masks, limit)
            if user_boxes is None
            else user_boxes
            for i, user_boxes in enumerate(boxes)
        ]

    def _add_people(
        self,
        state: ImageState,
        number: int,
        detections: Detections,
        poses: Poses,
        timer: StageTimer,
    ) -> ImageState:
        old, new = keep_distinct_poses(state.people, poses, self.config.pose_nms)
        if len(new) == 0:
            return replace(state, finished=True)
        people, poses, detections = (
            state.people.select(old),
            poses.select(new),
            detections.select(new),
        )
        with self._stage('segment', timer):
            segments = state.segment(poses, people)
        with timer('merge'):
            segments = apply_mask_fallback(segments, poses, self.config.fallback)
            found = Instances.from_round(number, poses, segments, detections)
            instances = state.instances.select(old).concat(found)
            people = self._build_result(instances)
        return replace(state, instances=instances, people=people, round=number)

    def _refine(
        self, state: ImageState, is_large: npt.NDArray[np.bool_], poses: Poses, timer: StageTimer
    ) -> ImageState:
        if not is_large.any():
            return state
        config, small = self.config, state.people.select(~is_large)
        before = state.instances.select(is_large)
        if config.refine_keypoints == 'highest_score':
            poses = keep_best_keypoints(before.poses, poses)
        with self._stage('segment', timer):
            segments = state.segment(poses, small)
        with timer('merge'):
            poses = replace(poses, detector_masks=before.poses.detector_masks)
            segments = apply_mask_fallback(segments, poses, config.fallback)
            if config.refine_masks == 'highest_score':
                segments = keep_best_segments(before.segments, segments)
            after = replace(before, poses=_with_boxes(poses, before.poses), segments=segments)
            rows = np.concatenate([np.flatnonzero(is_large), np.flatnonzero(~is_large)])
            instances = after.concat(state.instances.select(~is_large))
            instances = instances.select(np.argsort(rows, kind='stable'))
            return replace(state, instances=instances, people=self._build_result(instances))

    def _build_result(self, instances: Instances) -> People:
        config = self.config
        return build_result(instances, config.resolve_overlaps, config.boxes, config.score)


def _with_boxes(poses: Poses, detections: Detections) -> Poses:
    return replace(poses, boxes=detections.boxes, box_scores=detections.box_scores)


def _longer_sides(people: People) -> Floats:
    return np.asarray((people.boxes[:, 2:] - people.boxes[:, :2]).max(1, initial=0))
