"""The whole method: detect, pose, segment, paint out what was found, repeat.

    image --detector--> Detections --pose--> Poses --nms--> new Poses
      ^                                                        |
      +------ masks painted out <--- People <--- segmenter ----+

The BBox-Mask-Pose loop of arXiv 2412.01562 and 2601.15200; the photo is embedded once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np

from .found import (
    Exclusive,
    Fallback,
    Found,
    assemble,
    better_keypoints,
    better_segments,
    drop_hidden,
    paint_out,
    settle,
)
from .lockstep import Answer, PoseRequest, PosesTogether, Steps, answered, results_of
from .nms import PoseNMSConfig, keep_distinct_poses
from .runtime.timing import StageTimer
from .scores import ScoreConfig
from .structures import Detections, Image, People, Poses, Segments, size_of

PoseToMask = Callable[[Poses, Poses], Segments]


class Detector(Protocol):
    """Find people in an image, some of whom may be painted out in black."""

    def __call__(self, image: Image) -> Detections:
        """People in an RGB uint8 image (H, W, 3)."""


class PoseEstimator(Protocol):
    """Place keypoints inside boxes.

    It may move the boxes that the detector gave, and judge them again (``box_scores``).
    """

    num_keypoints: int

    def __call__(self, image: Image, detections: Detections) -> Poses:
        """Keypoints for every detection, same order."""


class Segmenter(Protocol):
    """Embed a photo once; the function it returns turns poses into masks."""

    def __call__(self, image: Image) -> PoseToMask:
        """``segment(poses, others)``: one segment per pose, same order; others are for context."""


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the loop itself; every stage has its own."""

    max_rounds: int | None = 2  # None: until nobody new is found
    round_cap: int = 20  # ends even an endless search
    refine: bool = False  # BMPv2+: pose again with the final mask, then mask again
    refine_min_side: float = 100  # px of the longer box side; smaller people are not refined
    # Refined keypoints: those of the second look, or of each the one that is scored higher.
    refine_keypoints: Literal['second', 'better'] = 'second'
    # Refined masks: those of the second prompt, or of each person the one that is scored higher.
    refine_masks: Literal['second', 'better'] = 'second'
    hidden_share: float | None = None  # drop detections painted out by more than this; None: off
    fallback: Fallback = 'detector_then_box'  # when SAM gives no mask
    # Who gets a disputed pixel: the highest logit; the highest product of logit and instance score;
    # the reference's order of things.
    exclusive: Exclusive = 'logits'
    # Boxes of the result; those of the detector may have been moved by the pose estimator.
    boxes: Literal['mask', 'detector'] = 'mask'
    pose_nms: PoseNMSConfig = field(default_factory=PoseNMSConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    min_score: float | None = None  # people of a lower instance score are not reported; None: off

    def __post_init__(self) -> None:
        for name in ('max_rounds', 'round_cap'):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f'loop.{name} must be >= 1, got {value}')
        if self.refine_min_side < 0:
            raise ValueError(f'loop.refine_min_side must be >= 0, got {self.refine_min_side}')
        if self.hidden_share is not None and not 0 < self.hidden_share <= 1:
            raise ValueError(
                f'loop.hidden_share must be in (0, 1] or None, got {self.hidden_share}'
            )
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise ValueError(f'loop.min_score must be in [0, 1] or None, got {self.min_score}')


@dataclass(frozen=True, eq=False)
class RoundState:
    """Between two rounds: enough to go on, to refine, or to stop."""

    number: int  # rounds done that found somebody new
    found: Found
    people: People
    segment: PoseToMask  # of this photo


@dataclass(frozen=True)
class PersonPipeline:
    """Detector, pose estimator and segmenter, run round after round."""

    detector: Detector
    pose_estimator: PoseEstimator
    segmenter: Segmenter
    config: LoopConfig = field(default_factory=LoopConfig)

    def __call__(
        self, image: Image, given: Detections | None = None, timer: StageTimer | None = None
    ) -> People:
        """Find every person in an RGB uint8 image (H, W, 3).

        Args:
            image: The photo.
            given: The user's own boxes; they take the place of the detector in round one.
            timer: Adds up the seconds of ``detect``, ``pose``, ``segment`` and ``merge``.
        """
        timer = timer or StageTimer()
        return results_of([self._whole(image, given, timer)], self._poses(timer))[0]

    def together(
        self,
        images: Sequence[Image],
        given: Sequence[Detections | None],
        timer: StageTimer | None = None,
    ) -> list[People]:
        """As one call per photo, but the photos take each round at the same time.

        So the people of all of them share the batches of the pose estimator, if it can do that
        (`PosesTogether`).

        Args:
            images: The photos, each (H, W, 3) of its own size.
            given: As in `__call__`, one per photo.
            timer: As in `__call__`, for all photos.
        """
        timer = timer or StageTimer()
        runs = [self._whole(i, g, timer) for i, g in zip(images, given, strict=True)]
        return results_of(runs, self._poses(timer))

    def rounds(
        self, image: Image, given: Detections | None = None, timer: StageTimer | None = None
    ) -> Iterator[RoundState]:
        """What is known before round one and after every round that finds somebody.

        No round looks ahead: the state after round r is all that a run with ``max_rounds=r`` knows.
        Arguments as in `__call__`.
        """
        timer = timer or StageTimer()
        return answered(self._rounds(image, given, timer), self._poses(timer))

    def refine(self, image: Image, state: RoundState, timer: StageTimer | None = None) -> People:
        """Pose again inside the final masks, then SAM again (BMPv2+).

        Everybody of the state is in the result: ``min_score`` is for `__call__` and `together`.
        """
        timer = timer or StageTimer()
        _, people = results_of([self._refined(image, state, timer)], self._poses(timer))[0]
        return people

    def _poses(self, timer: StageTimer) -> Answer:
        def answer(requests: Sequence[PoseRequest]) -> list[Poses]:
            photos = [(request.image, request.detections) for request in requests]
            with timer('pose'):
                if isinstance(self.pose_estimator, PosesTogether):
                    return self.pose_estimator.together(photos)
                return [self.pose_estimator(*photo) for photo in photos]

        return answer

    def _whole(self, image: Image, given: Detections | None, timer: StageTimer) -> Steps[People]:
        last = yield from self._rounds(image, given, timer)
        found, people = last.found, last.people
        if self.config.refine:
            found, people = yield from self._refined(image, last, timer)
        with timer('merge'):
            return self._reported(found, people)

    def _reported(self, found: Found, people: People) -> People:
        """Who is left of all that were found; the others take no pixel from them."""
        if self.config.min_score is None:
            return people
        kept = people.scores >= self.config.min_score
        return people if kept.all() else self._assembled(found.select(kept))

    def _assembled(self, found: Found) -> People:
        return assemble(found, self.config.exclusive, self.config.boxes, self.config.score)

    def _rounds(
        self, image: Image, given: Detections | None, timer: StageTimer
    ) -> Steps[RoundState]:
        config = self.config
        found = Found.nobody(*size_of(image), self.pose_estimator.num_keypoints)
        people = self._assembled(found)
        segment = self.segmenter(image)
        state = RoundState(0, found, people, segment)
        yield state
        for number in range(1, (config.max_rounds or config.round_cap) + 1):
            with timer('detect'):
                own = given if number == 1 else None
                detections = self._detect(image, people) if own is None else own
            poses: Poses = yield PoseRequest(image, detections)
            if own is not None:  # the user's boxes are taken as they are
                poses = replace(poses, boxes=own.boxes, box_scores=own.box_scores)
            old, new = keep_distinct_poses(people, poses, config.pose_nms)
            if len(new) == 0:
                break
            found, people, poses = found.select(old), people.select(old), poses.select(new)
            detections = detections.select(new)
            with timer('segment'):
                segments = segment(poses, people)
            with timer('merge'):
                segments = settle(segments, poses, people, config.fallback, config.exclusive)
                found = found.concat(Found.in_round(number, poses, segments, detections))
                people = self._assembled(found)
            state = RoundState(number, found, people, segment)
            yield state
        return state

    def _detect(self, image: Image, people: People) -> Detections:
        detections = self.detector(paint_out(image, people.masks))
        return drop_hidden(detections, people.masks, self.config.hidden_share)

    def _refined(
        self, image: Image, state: RoundState, timer: StageTimer
    ) -> Steps[tuple[Found, People]]:
        config, found, people = self.config, state.found, state.people
        sides = (people.boxes[:, 2:] - people.boxes[:, :2]).max(1, initial=0)
        big, small = np.flatnonzero(sides >= config.refine_min_side), sides < config.refine_min_side
        if len(big) == 0:
            return found, people
        before, rows = found.select(big), people.select(big)
        again = Detections(rows.boxes, rows.box_scores, rows.masks)
        poses: Poses = yield PoseRequest(image, again)
        if config.refine_keypoints == 'better':
            poses = better_keypoints(before.poses, poses)
        with timer('segment'):
            segments = state.segment(poses, people.select(small))
        with timer('merge'):
            poses = replace(poses, detector_masks=before.poses.detector_masks)
            segments = settle(
                segments, poses, people.select(small), config.fallback, config.exclusive
            )
            if config.refine_masks == 'better':
                segments = better_segments(before.segments, segments)
            poses = replace(poses, boxes=before.poses.boxes, box_scores=before.poses.box_scores)
            after = replace(before, poses=poses, segments=segments)
            order = np.argsort(np.concatenate([big, np.flatnonzero(small)]), kind='stable')
            found = after.concat(found.select(small)).select(order)
            return found, self._assembled(found)
