"""Settings of tracking; needs no tracker, so that a pipeline config can hold them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class WeightsConfig:
    """Cost of each cue; a pair whose costs sum up to 1 or more is no match."""

    motion: float = 0.011  # per squared standard deviation of the prediction
    box: float = 0.13  # of boxes that do not overlap
    mask: float = 0.17  # of masks that do not overlap
    pose: float = 0.17  # of an OKS of 0
    color: float = 1.75  # of histograms that have no colour in common


@dataclass(frozen=True)
class MotionConfig:
    """Noise of the motion model, in body heights."""

    position_noise: float = 0.05  # standard deviation of a detected box edge
    speed: float = 0.7  # standard deviation of the speed of a new track, per second
    acceleration: float = 1.0  # standard deviation of the change of speed within a second
    # Time after which an unseen person keeps 37 % of the predicted speed.
    decay_seconds: float = 3.8


@dataclass(frozen=True)
class CameraConfig:
    """How the motion of the camera and cuts are found."""

    max_side: int = 320  # frames are reduced to this side in px for the estimate
    num_points: int = 200  # corners that are followed
    min_inliers: float = 0.3  # fraction of the corners that must agree; fewer: unknown motion
    # Correlation of the colours of two frames, below which they belong to different shots.
    max_cut_correlation: float = 0.5


@dataclass(frozen=True)
class AssociationConfig:
    """How people are followed from frame to frame."""

    high_score: float = 0.45  # detections above this may start a track
    low_score: float = 0.3  # detections below this are ignored
    min_affinity: float = 0.0  # matches below this are rejected
    min_low_affinity: float = 0.46  # the same for detections between the two scores
    # Detections farther from the prediction are rejected, in standard deviations.
    max_distance: float = 4.0
    # Standard deviation of a box edge around its prediction, in body heights.
    motion_spread: float = 0.12
    min_hits: int = 3  # detections that confirm a track; before, it ends when it is not seen
    max_lost_seconds: float = 2.4  # a track without detection ends after this time
    max_tentative_seconds: float = 0.25  # the same for a track that is not confirmed
    max_hidden_seconds: float = 3.8  # the same for a track that ended behind another person
    # Fraction of the predicted box behind nearer boxes that counts as hidden.
    min_covered: float = 0.5
    # A detection that also overlaps a lost track may show both people. Its box is less certain by
    # this factor, so that crossing people keep their speed.
    merged_noise: float = 4.0
    min_merged_iou: float = 0.2  # of the detection and the predicted box of the lost track
    color_rate: float = 0.1  # weight of a new detection in the colours of a track
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    motion: MotionConfig = field(default_factory=MotionConfig)
    camera: CameraConfig | None = field(default_factory=CameraConfig)  # None: a still camera


@dataclass(frozen=True)
class FinishConfig:
    """What becomes of the tracks at the end of a video."""

    min_detections: int = 5  # shorter tracks are dropped
    # Tracks are dropped if the mean of the best quarter of their scores is lower: people are seen
    # well at some time, what only resembles a person never is.
    min_top_score: float = 0.6
    max_gap_seconds: float = 1.5  # longer gaps are not filled
    # Boxes are not filled in where a nearer person's box covers more of them. With 1, hidden people
    # keep their box, as in the ground truth of MOTChallenge.
    max_covered: float = 1.0


@dataclass(frozen=True)
class TrackingConfig(AssociationConfig):
    """How people are followed through a video; images do not depend on it."""

    # association, or a tracker of the package trackers: sort, bytetrack, ocsort, botsort, cbiou,
    # mcbyte. Those use none of the other settings here.
    method: str = 'association'
    finish: FinishConfig = field(default_factory=FinishConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.low_score <= self.high_score <= 1:
            raise ValueError(
                'tracking needs 0 <= low_score <= high_score <= 1, got '
                f'low_score={self.low_score} and high_score={self.high_score}'
            )
