"""Typed rows that travel between the stages.

Convention, everywhere inside: images are RGB uint8 HWC; boxes are xyxy float32 pixels of the
original image; scores are in [0, 1]; nobody is zero rows, never ``None``.

Legend: N people, K keypoints, H x W image.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from .masks import LogitMasks, Masks

if TYPE_CHECKING:
    from mmpose.structures import PoseDataSample

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Index = npt.NDArray[Any]  # (N,) bool, or row numbers


def size_of(image: Image) -> tuple[int, int]:
    """(H, W) of an image."""
    return image.shape[0], image.shape[1]


class MaskSource(IntEnum):
    """Where the mask of a person comes from; anything but SAM is a fallback."""

    SAM = 0
    DETECTOR = 1
    BOX = 2


@dataclass(frozen=True, eq=False)
class Rows:
    """Equally long columns, one row per person; a column may itself be rows."""

    def __post_init__(self) -> None:
        sizes = {f.name: len(getattr(self, f.name)) for f in fields(self)}
        if len(set(sizes.values())) > 1:
            raise ValueError(f'{type(self).__name__}: row counts differ: {sizes}')

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def select(self, index: Index) -> Self:
        """Rows at ``index`` (ints or bools), in that order."""
        return type(self)(*(_take(getattr(self, f.name), index) for f in fields(self)))

    def concat(self, other: Self) -> Self:
        """Rows of ``self`` followed by rows of ``other``."""
        return type(self)(
            *(_join(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        )


@dataclass(frozen=True, eq=False)
class Detections(Rows):
    """People found by a detector, or boxes given by the user."""

    boxes: Floats  # (N, 4) xyxy px
    box_scores: Floats  # (N,)
    detector_masks: Masks  # N rows; an empty mask says that the detector gave none

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.boxes.shape[1:] != (4,):
            raise ValueError(f'boxes must be (N, 4) xyxy, got shape {self.boxes.shape}')
        wrong = (self.boxes[:, 2:] < self.boxes[:, :2]).any(axis=1) | ~np.isfinite(self.boxes).all(
            axis=1
        )
        if wrong.any():
            raise ValueError(
                'boxes must be finite and xyxy with x2 >= x1 and y2 >= y1, got '
                f'{self.boxes[wrong][0].tolist()}; convert xywh boxes first'
            )

    @classmethod
    def from_boxes(cls, boxes: npt.ArrayLike, shape: tuple[int, int]) -> Detections:
        """Detections of score 1 without masks from boxes (N, 4) xyxy px in an image (H, W)."""
        rows = np.asarray(boxes, np.float32).reshape(-1, 4)
        return cls(rows, np.ones(len(rows), np.float32), Masks.empty(*shape, len(rows)))


@dataclass(frozen=True, eq=False)
class Poses(Detections):
    """Detections with keypoints."""

    keypoints: Floats  # (N, K, 2) x, y px
    keypoint_scores: Floats  # (N, K) how well the point is placed (predicted OKS or heatmap peak)
    presence: Floats  # (N, K) probability that the point lies in the picture
    visibility: Floats  # (N, K) probability that nothing hides the point

    @classmethod
    def empty_poses(cls, height: int, width: int, num_keypoints: int) -> Poses:
        """No pose yet, in an image of (height, width) px."""
        nobody = Detections.from_boxes([], (height, width))
        per_point = np.zeros((0, num_keypoints), np.float32)
        points = np.zeros((0, num_keypoints, 2), np.float32)
        return Poses(
            nobody.boxes,
            nobody.box_scores,
            nobody.detector_masks,
            points,
            per_point,
            per_point,
            per_point,
        )

    @property
    def num_keypoints(self) -> int:
        """K."""
        return int(self.keypoints.shape[1])


@dataclass(frozen=True, eq=False)
class Segments(Rows):
    """What the segmenter says about each pose, before pixels are shared out."""

    logits: LogitMasks  # N rows, above 0 is person
    mask_scores: Floats  # (N,) mask quality as predicted by the segmenter; 0 for a fallback
    mask_sources: Ints  # (N,) of `MaskSource`
    prompts: Ints  # (N, K) keypoints used as prompt, in order, then -1

    @classmethod
    def empty(cls, height: int, width: int, num_keypoints: int) -> Segments:
        """No segment yet, in an image of (height, width) px."""
        none = np.zeros(0, np.int32)
        prompts = np.zeros((0, num_keypoints), np.int32)
        return cls(LogitMasks.empty(height, width), np.zeros(0, np.float32), none, prompts)


@dataclass(frozen=True, eq=False)
class People(Poses):
    """Poses with masks: what the pipeline returns. ``boxes`` are those of the masks."""

    masks: Masks  # N rows, no pixel belongs to two people
    mask_scores: Floats  # (N,) as in `Segments`
    mask_sources: Ints  # (N,) of `MaskSource`
    prompts: Ints  # (N, K) as in `Segments`
    detector_boxes: Floats  # (N, 4) xyxy px, as the detector or the user gave them
    rounds: Ints  # (N,) round that found the person, from 1
    scores: Floats  # (N,) instance score, see `pipeline.scores`

    @classmethod
    def empty(cls, height: int, width: int, num_keypoints: int = 17) -> People:
        """No person yet, in an image of (height, width) px."""
        k = num_keypoints
        box, one = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        none, per_point = np.zeros(0, np.int32), np.zeros((0, k), np.float32)
        masks = Masks.empty(height, width)
        return cls(
            box, one, masks, np.zeros((0, k, 2), np.float32), per_point, per_point, per_point,
            masks, one, none, np.zeros((0, k), np.int32), box, none, one,
        )  # fmt: skip

    @property
    def image_shape(self) -> tuple[int, int]:
        """(H, W) of the image."""
        return self.masks.height, self.masks.width

    def to_coco(self, image_id: int | str = 0) -> list[dict[str, Any]]:
        """COCO results of all three tasks, one dict per person (see `pipeline.io.coco`)."""
        from .io.coco import people_to_coco

        return people_to_coco(self, image_id)

    def to_data_sample(self) -> PoseDataSample:
        """MMPose `PoseDataSample` with the field names that MMPose users know."""
        from .io.data_sample import people_to_data_sample

        return people_to_data_sample(self)

    def draw(self, image: Image) -> Image:
        """Copy of ``image`` (H, W, 3) RGB with box, mask and skeleton in one colour per person."""
        from .visualization.draw import draw_people

        return draw_people(image, self)


_COMPOUND = (Masks, LogitMasks, Rows)


def _take(column: Any, index: Index) -> Any:
    return column.select(index) if isinstance(column, _COMPOUND) else column[index]


def _join(first: Any, second: Any) -> Any:
    if isinstance(first, _COMPOUND):
        return first.concat(second)
    return np.concatenate([first, second])
