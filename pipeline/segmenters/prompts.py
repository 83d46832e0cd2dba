"""From poses to SAM prompts: select the keypoints that become clicks.

The selection methods and their names are those of the reference (``reference`` here means the
public BBoxMaskPose v2): ``k_most_visible`` is the published default ("MaxVis" in the
SAM-pose2seg paper, arXiv 2601.08982), ``distance+confidence`` the one of BMP v1 ("MaxSpread").

Legend: N people, K keypoints, P prompt points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ..boxes import box_iou, max_neighbour_iou
from ..keypoints import FACE
from ..structures import Floats, Ints, Poses
from ..values import check_ranges

Method = Literal['k_most_visible', 'distance+confidence', 'distance', 'closest']
METHODS: tuple[Method, ...] = get_args(Method)
Order = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PromptConfig:
    """How a pose becomes a prompt."""

    num_keypoints: int = 3  # positive points per person
    # Order in which the keypoints become points: pipeline.segmenters.prompts.
    method: Method = 'k_most_visible'
    visibility_threshold: float = 0.5  # ignore keypoints with a lower visibility
    confidence_threshold: float | None = None  # ignore keypoints with this score or a lower one
    presence_threshold: float | None = None  # ignore keypoints with a lower presence
    # Require one keypoint with score above this and visibility above its threshold (as in BMP).
    min_confident: float | None = None
    use_box: bool = False  # also prompt with the box
    num_negative: int = 0  # negative clicks on the nearest keypoints of neighbours
    crowd_iou: float | None = None  # box IoU above which a person counts as crowded
    num_keypoints_in_crowd: int | None = (
        None  # replaces num_keypoints for crowded people; no box prompt for them
    )

    def __post_init__(self) -> None:
        check_ranges(
            self, 'prompt', num_keypoints='in [1, 17]', num_keypoints_in_crowd='in [1, 17]',
            visibility_threshold='in [0, 1]', confidence_threshold='in [0, 1]',
            presence_threshold='in [0, 1]', min_confident='in [0, 1]', crowd_iou='in [0, 1]',
            num_negative='>= 0',
        )  # fmt: skip
        if self.num_keypoints_in_crowd is not None and self.crowd_iou is None:
            raise ValueError('prompt.num_keypoints_in_crowd acts only when prompt.crowd_iou is set')
        if self.method not in METHODS:
            raise ValueError(f'prompt.method must be one of {sorted(METHODS)}, got {self.method!r}')


@dataclass(frozen=True)
class Prompts:
    """Prompts of N people, padded to the longest row. Rows may have no click."""

    points: Floats  # (N, P, 2) px, NaN where there is no click
    labels: Ints  # (N, P) 1 positive, 0 negative, -1 no click
    boxes: Floats  # (N, 4) xyxy px, NaN without a box prompt
    keypoints: Ints  # (N, K) keypoint indices of the positive clicks, in order, then -1

    def __len__(self) -> int:
        return len(self.points)

    @property
    def num_points(self) -> Ints:
        """Clicks per person (N,)."""
        return np.asarray((self.labels >= 0).sum(1), np.int32)

    @property
    def has_box(self) -> npt.NDArray[np.bool_]:
        """People (N,) with a box prompt."""
        return np.asarray(np.isfinite(self.boxes).all(1))


def make_prompts(poses: Poses, others: Poses, config: PromptConfig) -> Prompts:
    """Create prompts for ``poses``; ``others`` are known people, for negatives and crowding."""
    poses, others = _without_absent(poses, config), _without_absent(others, config)
    crowded = is_crowded(poses.boxes, others.boxes, config.crowd_iou)
    rows = [_choose(poses, i, bool(crowded[i]), config) for i in range(len(poses))]
    points = [poses.keypoints[i][row] for i, row in enumerate(rows)]
    negatives = _negative_points(poses, others, config, points)
    keypoints = np.full((len(poses), poses.num_keypoints), -1, np.int32)
    for i, row in enumerate(rows):
        keypoints[i, : len(row)] = row
    boxes = poses.boxes.copy()
    boxes[crowded if config.use_box else slice(None)] = np.nan
    return Prompts(*_pad(points, negatives), boxes, keypoints)


def select_keypoints(
    keypoints: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    visibility: npt.NDArray[Any],
    box: npt.NDArray[Any] | None = None,
    *,
    method: Method = 'k_most_visible',
    visibility_threshold: float = 0.5,
    confidence_threshold: float | None = None,
    face: Sequence[int] = FACE,
) -> Order:
    """Select the usable keypoints of one person, best prompt first.

    The rules are those of the reference's ``_select_keypoints`` (`sam2_utils.py`): only visibility
    filters (its B16; set ``confidence_threshold`` to filter by score too). Every method except
    ``k_most_visible`` keeps only the most visible of nose and eyes. Ties keep the lower index.

    Args:
        keypoints: (K, 2) px.
        scores: (K,).
        visibility: (K,).
        box: (4,) xyxy px, the anchor of the distance methods; None: centre of the usable points.
        method: Order of the result.
        visibility_threshold: Ignore keypoints with a lower visibility.
        confidence_threshold: Ignore keypoints with this score or a lower one; None disables it.
        face: Indices of nose and eyes; may be empty.

    Returns:
        Keypoint indices (P,).
    """
    usable = visibility >= visibility_threshold
    if confidence_threshold is not None:
        usable &= scores > confidence_threshold
    if method != 'k_most_visible' and len(face):
        rows = np.array(face)
        anchor = rows[visibility[rows].argmax()]
        if usable[anchor]:
            usable[rows[rows != anchor]] = False
    index = np.flatnonzero(usable)
    if len(index) == 0:
        return index
    centre = keypoints[index].mean(0) if box is None else (box[:2] + box[2:]) / 2
    order = _ORDERS[method](keypoints[index], scores[index], visibility[index], centre)
    return np.asarray(index[order])


def is_crowded(
    boxes: Floats, other_boxes: Floats, crowd_iou: float | None
) -> npt.NDArray[np.bool_]:
    """Return (N,) bool: the IoU with any other box exceeds ``crowd_iou`` (None: all False)."""
    if crowd_iou is None or len(boxes) == 0:
        return np.zeros(len(boxes), bool)
    among = max_neighbour_iou(boxes)
    outside = box_iou(boxes, other_boxes).max(1, initial=0)
    return np.asarray(np.maximum(among, outside) > crowd_iou)


def _without_absent(poses: Poses, config: PromptConfig) -> Poses:
    """Set the visibility of keypoints that are likely outside the image to -1."""
    if config.presence_threshold is None:
        return poses
    is_present = poses.presence >= config.presence_threshold
    # Below 0, so that a visibility threshold of 0 excludes them too.
    return replace(poses, visibility=np.where(is_present, poses.visibility, np.float32(-1)))


def _choose(poses: Poses, i: int, crowded: bool, config: PromptConfig) -> Order:
    k = poses.keypoint_set.compared
    scores, visibility = poses.keypoint_scores[i, k], poses.visibility[i, k]
    floor = config.min_confident
    if (
        floor is not None
        and not ((scores > floor) & (visibility > config.visibility_threshold)).any()
    ):
        return np.zeros(0, np.int64)
    order = select_keypoints(
        poses.keypoints[i, k], scores, visibility, poses.boxes[i],
        method=config.method, visibility_threshold=config.visibility_threshold,
        confidence_threshold=config.confidence_threshold,
        face=FACE if poses.keypoint_set.has_coco else (),
    )  # fmt: skip
    in_crowd = config.num_keypoints_in_crowd
    return k[order][: in_crowd if crowded and in_crowd is not None else config.num_keypoints]


def _negative_points(
    poses: Poses, others: Poses, config: PromptConfig, positives: list[Floats]
) -> list[Floats]:
    """Return the visible keypoints of other people nearest to each box centre."""
    if config.num_negative == 0:
        return [np.zeros((0, 2), np.float32)] * len(poses)
    view = poses.keypoint_set.view
    points = view(np.concatenate([poses.keypoints, others.keypoints]))
    visible = view(np.concatenate([poses.visibility, others.visibility]))
    visible = visible >= config.visibility_threshold
    result = []
    for i, clicks in enumerate(positives):
        usable = visible.copy()
        usable[i] = False
        candidates = points[usable]
        centre = (poses.boxes[i, :2] + poses.boxes[i, 2:]) / 2
        nearest = np.linalg.norm(candidates - centre, axis=1).argsort(kind='stable')
        # Negative clicks alone are no prompt.
        result.append(candidates[nearest[: config.num_negative if len(clicks) else 0]])
    return result


def _pad(positives: list[Floats], negatives: list[Floats]) -> tuple[Floats, Ints]:
    width = max((len(p) + len(n) for p, n in zip(positives, negatives, strict=True)), default=0)
    points = np.full((len(positives), width, 2), np.nan, np.float32)
    labels = np.full((len(positives), width), -1, np.int32)
    for i, (p, n) in enumerate(zip(positives, negatives, strict=True)):
        points[i, : len(p) + len(n)] = np.concatenate([p, n])
        labels[i, : len(p) + len(n)] = [1] * len(p) + [0] * len(n)
    return points, labels


Column = npt.NDArray[Any]


def _by_visibility(points: Column, scores: Column, visibility: Column, centre: Column) -> Order:
    return np.argsort(-visibility, kind='stable')


def _by_spread(points: Column, scores: Column, visibility: Column, centre: Column) -> Order:
    """Start with the highest score, then repeatedly add the point farthest from those chosen.

    Candidates reach the 80th percentile of the remaining scores; chosen points count as -1 in that
    percentile, as in the reference.
    """
    rest = scores.astype(np.float64).copy()
    chosen = [int(rest.argmax())]
    rest[chosen[0]] = -1
    distance = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < len(points):
        good = (rest >= np.percentile(rest, 80)) & (rest >= 0)
        nxt = int(np.where(good, distance, -1).argmax())
        chosen.append(nxt)
        rest[nxt] = -1
        distance = np.minimum(distance, np.linalg.norm(points - points[nxt], axis=1))
    return np.array(chosen, np.int64)


def _by_distance(points: Column, scores: Column, visibility: Column, centre: Column) -> Order:
    """Sort by distance from the box centre plus three times that from the nearest point."""
    between = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(between, np.inf)
    nearest = between.min(1) if len(points) > 1 else np.zeros(1)
    return np.argsort(-(np.linalg.norm(points - centre, axis=1) + 3 * nearest), kind='stable')


def _closest(points: Column, scores: Column, visibility: Column, centre: Column) -> Order:
    return np.argsort(np.linalg.norm(points - centre, axis=1), kind='stable')


_ORDERS: dict[Method, Callable[[Column, Column, Column, Column], Order]] = {
    'k_most_visible': _by_visibility,
    'distance+confidence': _by_spread,
    'distance': _by_distance,
    'closest': _closest,
}
