"""Assign identities by box motion, masks, poses and colours together.

Each frame takes three steps: predict the box of every track, match the tracks to the detections of
high score and then to those of low score (as ByteTrack does, arXiv 2110.06864), and start tracks
from the detections of high score that are left. A track that ends behind another person waits
longer for its next detection.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Image
from ..boxes import box_centers, box_intersections, box_iou, clip_boxes
from ..masks import Masks
from ..structures import Detections, People
from .camera import CameraMotion
from .config import AssociationConfig as AssociationConfig
from .motion import MotionModel
from .observations import (
    Observations,
    mask_similarity,
    motion_distance,
    pose_similarity,
)

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

SHAPE_SECONDS = 0.5  # old boxes, masks and poses are less reliable than old colours
UNKNOWN_COST = 0.5  # of a cue without information


class AssociationTracker:
    """Tracks of one video."""

    def __init__(self, config: AssociationConfig | None = None) -> None:
        self.config = config or AssociationConfig()
        self.motion = MotionModel(self.config.motion)
        self.camera = CameraMotion(self.config.camera) if self.config.camera else None
        self.last: Observations | None = None  # last detection of each track
        self.ids: Ids = np.zeros(0, np.int64)
        self.hits: Ids = np.zeros(0, np.int64)
        self.seen: Array = np.zeros(0)  # time of the last detection
        self.hidden: Flags = np.zeros(0, bool)
        self.seconds = -np.inf
        self.started = 0

    def update(self, people: People, image: Image, seconds: float) -> Ids:
        """Assign the people of the next frame.

        Args:
            people: N people; include those of low score.
            image: (H, W, 3) RGB, for the colours.
            seconds: timestamp, larger than that of the last frame.

        Returns:
            Track ids (N,), -1 for people without a track.
        """
        self._follow_camera(image)
        found = Observations.collect(people, image)
        assigned = np.full(len(people), -1, np.int64)
        high = people.scores >= self.config.high_score
        first = self.last is None
        if self.last is None:
            self.last = found.select(np.zeros(0, np.int64))
        else:
            low = ~high & (people.scores >= self.config.low_score)
            recent = self.seen >= self.seconds
            self.motion.predict(seconds - self.seconds, ~recent)
            rows, columns = self._match_all(self._affinity(found, seconds), recent, high, low)
            self._update(rows, columns, found, seconds)
            assigned[columns] = self.ids[rows]
            high[columns] = False
        new = np.flatnonzero(high)
        self._add(new, found, seconds, self.config.min_hits if first else 1)
        assigned[new] = self.ids[len(self.ids) - len(new) :]
        self._end(seconds)
        self.seconds = seconds
        return assigned

    def predict_boxes(self, seconds: float) -> Detections:
        """Boxes inside the image, with the last scores, of the T tracks seen in the last frame.

        New tracks too: they end without a detection in the next frame.
        """
        if self.last is None:
            return expect_people(np.zeros((0, 4)), np.zeros(0, np.float32), (0, 0))
        recent = self.seen >= self.seconds
        boxes = self.motion.boxes + self.motion.velocities * (seconds - self.seconds)
        shape = self.last.masks.height, self.last.masks.width
        return expect_people(boxes[recent], self.last.box_scores[recent], shape)

    def _follow_camera(self, image: Image) -> None:
        """Move the tracks with the camera; at a cut, end all of them."""
        if self.camera is None:
            return
        boxes = self.motion.boxes[self.seen >= self.seconds]
        transform, cut = self.camera.update(image, boxes.astype(np.float32))
        if cut:
            self._keep(np.zeros(len(self.ids), bool))
        else:
            self.motion.warp(transform)

    def _affinity(self, found: Observations, seconds: float) -> Array:
        """Affinity (T, N), 1 for certain pairs, at or below 0 for impossible ones."""
        assert self.last is not None
        weights, model = self.config.weights, self.motion
        spread = np.sqrt(self.config.motion_spread**2 + model.covariances[:, 0, 0])[:, None]
        smallest = np.hypot(self.config.motion_spread, self.config.motion.position_noise / 2)
        distance = motion_distance(model.boxes, found.boxes) / spread
        pairs = np.nonzero(distance < self.config.max_distance)
        i, j = pairs
        predicted = np.asarray(model.boxes, np.float32)
        shifts = self.last.shifted(i, predicted[i])
        fresh = np.exp(-(seconds - self.seen[i]) / SHAPE_SECONDS)
        pose = pose_similarity(self.last, found, pairs, shifts)
        cost = (
            # The negative log-likelihood of a Gaussian: a vague prediction must not win.
            weights.motion * (distance[pairs] ** 2 + 4 * np.log(spread / smallest)[i, 0])
            + weights.color * (1 - (self.last.colors[i] * found.colors[j]).sum(1))
            + weights.box * _age(1 - box_iou(predicted, found.boxes)[pairs], fresh)
            + weights.mask * _age(1 - mask_similarity(self.last, found, pairs, shifts), fresh)
            + weights.pose * _age(np.where(pose < 0, UNKNOWN_COST, 1 - pose), fresh)
        )
        result = np.zeros_like(distance)
        result[pairs] = 1 - cost
        return np.asarray(result, np.float64)

    def _match_all(
        self, affinity: Array, recent: Flags, high: Flags, low: Flags
    ) -> tuple[Ids, Ids]:
        """Match all tracks to high scores, then recent tracks to low scores."""
        everyone = np.ones(len(self.ids), bool)
        rows, columns = _match(affinity, everyone, high, self.config.min_affinity)
        free = recent.copy()
        free[rows] = False
        more = _match(affinity, free, low, self.config.min_low_affinity)
        return np.concatenate([rows, more[0]]), np.concatenate([columns, more[1]])

    def _update(self, rows: Ids, columns: Ids, found: Observations, seconds: float) -> None:
        assert self.last is not None
        merged = self._merged(rows, found.boxes[columns])
        self.motion.update(
            rows, found.boxes[columns], np.where(merged, self.config.merged_noise, 1.0)
        )
        rate = self.config.color_rate
        old = self.last.colors[rows]
        order = np.arange(len(self.ids))
        order[rows] = len(self.ids) + columns
        self.last = self.last.concat(found).select(order)
        self.last.colors[rows] = _mix(old, self.last.colors[rows], rate)
        self.hits[rows] += 1
        self.seen[rows] = seconds

    def _merged(self, rows: Ids, boxes: Floats) -> Flags:
        """Whether the detections (M, 4) of tracks ``rows`` overlap a track without detection."""
        lost = np.setdiff1d(np.arange(len(self.ids)), rows)
        lost = lost[self.hits[lost] >= self.config.min_hits]
        overlaps = box_iou(boxes, self.motion.boxes[lost].astype(np.float32))
        return np.asarray(overlaps.max(1, initial=0) >= self.config.min_merged_iou)

    def _add(self, new: Ids, found: Observations, seconds: float, hits: int) -> None:
        assert self.last is not None
        self.motion.add(found.boxes[new])
        self.last = self.last.concat(found.select(new))
        ids = np.arange(self.started + 1, self.started + len(new) + 1)
        self.started += len(new)
        self.ids = np.concatenate([self.ids, ids])
        self.hits = np.concatenate([self.hits, np.full(len(new), hits, np.int64)])
        self.seen = np.concatenate([self.seen, np.full(len(new), seconds)])
        self.hidden = np.concatenate([self.hidden, np.zeros(len(new), bool)])

    def _end(self, seconds: float) -> None:
        """End tracks that were not seen for too long, or left the image."""
        assert self.last is not None
        config, age = self.config, seconds - self.seen
        self.hidden = np.where(age > 0, self.hidden | self._covered(), False)
        limit = np.where(self.hidden, config.max_hidden_seconds, config.max_lost_seconds)
        limit[self.hits < config.min_hits] = config.max_tentative_seconds
        height, width = self.last.masks.height, self.last.masks.width
        center = box_centers(self.motion.boxes)
        inside = ((center > 0) & (center < (width, height))).all(1)
        keep = (age <= limit) & (inside | (age == 0))
        self._keep(keep)

    def _keep(self, rows: Flags) -> None:
        """Drop all other tracks."""
        if self.last is None:
            return
        self.motion.keep(rows)
        self.last = self.last.select(rows)
        self.ids, self.hits = self.ids[rows], self.hits[rows]
        self.seen, self.hidden = self.seen[rows], self.hidden[rows]

    def _covered(self) -> Flags:
        """Whether the box (T, 4) of each track lies mostly behind the box of a nearer track."""
        boxes = self.motion.boxes
        shared = box_intersections(boxes, boxes)
        area = np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), 1)
        np.fill_diagonal(shared, 0)
        return np.asarray((shared / area[:, None]).max(1, initial=0) >= self.config.min_covered)


def expect_people(boxes: npt.NDArray[Any], scores: Floats, shape: tuple[int, int]) -> Detections:
    """The part of boxes (T, 4) xyxy inside an image (H, W); those of at most 1 px are dropped."""
    clipped = np.asarray(clip_boxes(boxes, shape), np.float32)
    rows = (clipped[:, 2:] - clipped[:, :2] > 1).all(1)
    return Detections(clipped[rows], scores[rows], Masks.empty(*shape, int(rows.sum())))


def _match(affinity: Array, rows: Flags, columns: Flags, minimum: float) -> tuple[Ids, Ids]:
    """One-to-one pairs of maximal total affinity among the flagged rows and columns."""
    from scipy.optimize import linear_sum_assignment  # slow to import

    i, j = np.flatnonzero(rows), np.flatnonzero(columns)
    block = affinity[np.ix_(i, j)]
    block = np.where(block >= minimum, block, 0)
    a, b = linear_sum_assignment(block, maximize=True)
    good = block[a, b] > 0
    return i[a[good]], j[b[good]]


def _age(costs: npt.NDArray[np.floating], fresh: Array) -> Array:
    """Mix costs with that of no knowledge; without it, a track of long ago would cost less."""
    return np.asarray(UNKNOWN_COST + fresh * (costs - UNKNOWN_COST))


def _mix(old: Floats, new: Floats, rate: float) -> Floats:
    """Mix colour histograms given as square roots."""
    return np.asarray(np.sqrt((1 - rate) * old**2 + rate * new**2), np.float32)
