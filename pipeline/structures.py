"""Typed rows of people: input and output of the stages; COCO results, MMPose samples, drawings.

Convention, everywhere inside: images are RGB uint8 HWC; boxes are xyxy float32 pixels of the
original image; scores are in [0, 1]; empty is zero rows, never ``None``.

Legend: N people, K keypoints, H x W image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from .arrays import Floats as Floats
from .arrays import Image as Image
from .arrays import Index as Index
from .arrays import Ints as Ints
from .arrays import size_of as size_of
from .boxes import BoxesError, check_boxes, xyxy_to_xywh
from .keypoints import COCO_NAMES, NUM_COCO, PERSON
from .masks import LogitMasks, Masks
from .masks import MaskSource as MaskSource
from .scores import pose_scores

if TYPE_CHECKING:
    from mmpose.structures import PoseDataSample


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
    """People found by a detector, or boxes of the user."""

    boxes: Floats  # (N, 4) xyxy px
    box_scores: Floats  # (N,)
    detector_masks: Masks  # N rows; empty masks where the detector predicts none

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.boxes.shape[1:] != (4,):
            raise ValueError(f'boxes must be (N, 4) xyxy, got shape {self.boxes.shape}')
        finite = np.isfinite(self.boxes).all(axis=1)
        if not finite.all():
            raise ValueError(
                f'a model returned the box {self.boxes[~finite][0].tolist()}, which is not finite; '
                'try runtime.precision=fp32 and check the weights'
            )
        wrong = (self.boxes[:, 2:] < self.boxes[:, :2]).any(axis=1)
        if wrong.any():
            raise ValueError(
                'boxes must be xyxy with x2 >= x1 and y2 >= y1, got '
                f'{self.boxes[wrong][0].tolist()}'
            )

    @classmethod
    def from_boxes(
        cls, boxes: npt.ArrayLike | Mapping[str, npt.ArrayLike], shape: tuple[int, int]
    ) -> Detections:
        """Detections without masks from the user's boxes in an image (H, W).

        Args:
            boxes: (N, 4) xyxy px, with score 1; or ``{'boxes': (N, 4), 'scores': (N,)}``.
            shape: (H, W) of the image.

        Raises:
            BoxesError: The boxes are wrong; see `pipeline.boxes.check_boxes`.
        """
        named = boxes if isinstance(boxes, Mapping) else {'boxes': boxes}
        if 'boxes' not in named or set(named) - {'boxes', 'scores'}:
            raise BoxesError(f'boxes by name have the keys boxes and scores, got {sorted(named)}')
        rows = check_boxes(named['boxes'], shape)
        scores = np.asarray(named.get('scores', np.ones(len(rows))))
        unit = scores.shape == (len(rows),) and (not len(rows) or scores.dtype.kind in 'iuf')
        if not unit or not ((scores >= 0) & (scores <= 1)).all():
            raise BoxesError(f'scores of {len(rows)} boxes must be as many numbers in [0, 1]')
        return cls(rows, scores.astype(np.float32), Masks.empty(*shape, len(rows)))


@dataclass(frozen=True, eq=False)
class Poses(Detections):
    """Detections with keypoints."""

    keypoints: Floats  # (N, K, 2) x, y px
    keypoint_scores: Floats  # (N, K) how well the point is placed (predicted OKS or heatmap peak)
    presence: Floats  # (N, K) probability that the point lies in the image
    visibility: Floats  # (N, K) probability that nothing hides the point

    @classmethod
    def empty_poses(cls, height: int, width: int, num_keypoints: int) -> Poses:
        """Zero poses in an image of (height, width) px."""
        empty = Detections.from_boxes([], (height, width))
        per_point = np.zeros((0, num_keypoints), np.float32)
        points = np.zeros((0, num_keypoints, 2), np.float32)
        return Poses(
            empty.boxes,
            empty.box_scores,
            empty.detector_masks,
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
    """Output of the segmenter, one row per pose; masks may overlap."""

    logits: LogitMasks  # N rows, above 0 is person
    mask_scores: Floats  # (N,) mask quality as predicted by the segmenter; 0 for a fallback
    mask_sources: Ints  # (N,) of `MaskSource`
    prompts: Ints  # (N, K) keypoints used as prompt, in order, then -1

    @classmethod
    def empty(cls, height: int, width: int, num_keypoints: int) -> Segments:
        """Zero segments in an image of (height, width) px."""
        none = np.zeros(0, np.int32)
        prompts = np.zeros((0, num_keypoints), np.int32)
        return cls(LogitMasks.empty(height, width), np.zeros(0, np.float32), none, prompts)


@dataclass(frozen=True, eq=False)
class People(Poses):
    """Poses with masks: the result of the pipeline. ``boxes`` are those of the masks."""

    masks: Masks  # N rows, no pixel belongs to two people
    mask_scores: Floats  # (N,) as in `Segments`
    mask_sources: Ints  # (N,) of `MaskSource`
    prompts: Ints  # (N, K) as in `Segments`
    detector_boxes: Floats  # (N, 4) xyxy px, from the detector or the user
    rounds: Ints  # (N,) round that found the person, from 1
    scores: Floats  # (N,) instance score, see `pipeline.scores`

    @classmethod
    def empty(cls, height: int, width: int, num_keypoints: int = 17) -> People:
        """Zero people in an image of (height, width) px."""
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
        """COCO results of one image, one dict per person in their order.

        Each dict serves all three tasks and holds only what ``json.dump`` takes:

        - ``image_id``, ``category_id`` (1), ``score`` (instance score);
        - ``bbox`` xywh px, ``segmentation`` (compressed RLE, ``counts`` as str), ``area`` px of
          the mask;
        - ``keypoints``: 17 times x, y, keypoint score, flat;
        - ``keypoint_scores``, ``keypoint_visibility``, ``keypoint_presence``: 17 each, in [0, 1];
        - ``box_score``, ``mask_score``, ``pose_score``: the factors of the instance score;
        - ``detector_bbox`` xywh px, ``round`` (from 1);
        - ``mask_source``: 'sam', or a fallback, 'detector' or 'box';
        - ``prompt_keypoints``: names of the keypoints that prompted the mask, in order.

        Pixels are rounded to 2 digits, scores to 5. Of K > 17 keypoints the first 17 are written:
        COCO defines no others. ``COCO.loadRes`` accepts the list, but takes the areas of the boxes
        for all three tasks; pass `pipeline.io.coco.select_task` of it to score people by size.

        Args:
            image_id: id of the image in the annotation file; a NumPy integer becomes an int.

        Raises:
            ValueError: K < 17.
        """
        if self.num_keypoints < NUM_COCO:
            raise ValueError(
                f'COCO results need {NUM_COCO} keypoints per person, got {self.num_keypoints}'
            )
        image_id = image_id.item() if isinstance(image_id, np.generic) else image_id
        rles, areas = self.masks.to_rle(), self.masks.areas
        boxes_xywh = xyxy_to_xywh(self.boxes)
        detector_boxes_xywh = xyxy_to_xywh(self.detector_boxes)
        poses = pose_scores(self.keypoint_scores)
        return [
            {
                'image_id': image_id,
                'category_id': PERSON,
                'bbox': _pixels(boxes_xywh[i]),
                'score': _score(self.scores[i]),
                'segmentation': rles[i],
                'area': int(areas[i]),
                'keypoints': _flat_keypoints(self.keypoints[i], self.keypoint_scores[i]),
                'keypoint_scores': _scores(self.keypoint_scores[i]),
                'keypoint_visibility': _scores(self.visibility[i]),
                'keypoint_presence': _scores(self.presence[i]),
                'box_score': _score(self.box_scores[i]),
                'mask_score': _score(self.mask_scores[i]),
                'pose_score': _score(poses[i]),
                'detector_bbox': _pixels(detector_boxes_xywh[i]),
                'round': int(self.rounds[i]),
                'mask_source': MaskSource(int(self.mask_sources[i])).name.lower(),
                'prompt_keypoints': [_keypoint_name(k) for k in self.prompts[i] if k >= 0],
            }
            for i in range(len(self))
        ]

    def to_data_sample(self, *, with_masks: bool = False) -> PoseDataSample:
        """Sample with ``pred_instances`` under the names that MMPose users know.

        As in a top-down prediction: ``bboxes`` (N, 4) xyxy px, ``bbox_scores`` (N,) of the
        detector, ``keypoints`` (N, K, 2) px, ``keypoint_scores`` (N, K). As in ProbPose:
        ``keypoints_visible`` (N, K), probability that nothing hides the point, and
        ``keypoints_probs`` (N, K), probability that it lies in the image. MMPose's visualizer
        compares ``kpt_thr`` with ``keypoints_visible``. Additional fields: ``scores`` (N,) of the
        whole person, ``mask_scores`` (N,), ``mask_sources`` (N,) of `MaskSource`,
        ``detector_bboxes`` (N, 4), ``rounds`` (N,) and ``mask_rles``, N COCO RLE dicts.
        ``ori_shape`` and ``img_shape`` are (H, W). All arrays are numpy copies, float32 or int32.

        Args:
            with_masks: add ``masks`` (N, H, W) bool, the layout of MMDetection; N x H x W bytes.
        """
        from mmpose.structures import PoseDataSample

        from .data_sample import make_instances

        shape = self.image_shape
        sample = PoseDataSample(metainfo={'ori_shape': shape, 'img_shape': shape})
        sample.pred_instances = make_instances(self, with_masks)
        return sample

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


_PX_DIGITS, _SCORE_DIGITS = 2, 5


def _flat_keypoints(points: Floats, scores: Floats) -> list[float]:
    rows = zip(points[:NUM_COCO].tolist(), scores[:NUM_COCO].tolist(), strict=True)
    return [
        v
        for (x, y), s in rows
        for v in (round(x, _PX_DIGITS), round(y, _PX_DIGITS), round(s, _SCORE_DIGITS))
    ]


def _pixels(values: Floats) -> list[float]:
    return [round(v, _PX_DIGITS) for v in values.tolist()]


def _scores(values: Floats) -> list[float]:
    return [round(v, _SCORE_DIGITS) for v in values[:NUM_COCO].tolist()]


def _score(value: np.float32) -> float:
    return round(float(value), _SCORE_DIGITS)


def _keypoint_name(index: int) -> str:
    # Models with more keypoints than COCO put them after the 17.
    return COCO_NAMES[index] if index < NUM_COCO else f'keypoint_{index}'
