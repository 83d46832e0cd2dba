"""Typed rows of people: input and output of the stages; conversions and drawings of the result.

Convention, everywhere inside: images are RGB uint8 HWC; boxes are xyxy float32 pixels of the
original image; scores are in [0, 1]; empty is zero rows, never ``None``.

Legend: N people, K keypoints, H x W image.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from io import BytesIO
from pathlib import Path
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
from .keypoints import COCO_17, PERSON, KeypointSet, unnamed_keypoints
from .masks import LogitMasks, Masks
from .masks import MaskSource as MaskSource
from .scores import pose_scores

if TYPE_CHECKING:
    import pandas
    import supervision
    from mmpose.structures import PoseDataSample

    from .io.images import ChannelOrder
    from .visualization.style import DrawingStyle


@dataclass(frozen=True)
class ImageSource:
    """Where the image of a result is. It holds no pixels, so results of a stream stay small."""

    path: str | None = None
    image: weakref.ref[Any] | None = None  # what the caller passed, while the caller keeps it
    channel_order: ChannelOrder = 'rgb'

    @classmethod
    def of(cls, image: Any, channel_order: ChannelOrder) -> ImageSource:
        """Source of an image of any kind."""
        if isinstance(image, (str, Path)):
            return cls(str(image))
        try:
            return cls(None, weakref.ref(image), channel_order)
        except TypeError:  # for example bytes
            return cls()

    def read(self) -> Image | None:
        """Image (H, W, 3) RGB uint8; None if it is no longer available."""
        from .io.images import as_image

        image = self.path if self.image is None else self.image()
        return None if image is None else as_image(image, self.channel_order)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path,)  # weak references cannot be copied to another process


@dataclass(frozen=True, eq=False)
class Rows:
    """Equally long columns, one row per person; a column may itself be rows.

    Keyword-only fields are no columns: they hold for all rows.
    """

    def __post_init__(self) -> None:
        sizes = {name: len(getattr(self, name)) for name in self._columns()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f'{type(self).__name__}: row counts differ: {sizes}')

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def select(self, index: Index) -> Self:
        """Rows at ``index`` (ints or bools), in that order."""
        return replace(self, **{n: _take(getattr(self, n), index) for n in self._columns()})

    def concat(self, other: Self) -> Self:
        """Rows of ``self`` followed by rows of ``other``."""
        columns = self._columns()
        return replace(self, **{n: _join(getattr(self, n), getattr(other, n)) for n in columns})

    def __getitem__(self, index: int | slice | Index | list[Any]) -> Self:
        """Rows of the same class: one, a slice, row numbers, or those of a mask."""
        return self.select(np.atleast_1d(np.arange(len(self))[index]))

    def __iter__(self) -> Iterator[Self]:
        return (self[i] for i in range(len(self)))

    def _columns(self) -> list[str]:
        return [f.name for f in fields(self) if not f.kw_only]


@dataclass(frozen=True, eq=False, repr=False)
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

    def __repr__(self) -> str:
        number, masks = len(self), self.detector_masks
        noun = 'person' if number == 1 else 'people'
        return f'{type(self).__name__}({number} {noun}, image {masks.height}x{masks.width})'

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


@dataclass(frozen=True, eq=False, repr=False)
class Poses(Detections):
    """Detections with keypoints."""

    keypoints: Floats  # (N, K, 2) x, y px
    keypoint_scores: Floats  # (N, K) how well the point is placed (predicted OKS or heatmap peak)
    presence: Floats  # (N, K) probability that the point lies in the image
    visibility: Floats  # (N, K) probability that nothing hides the point
    keypoint_set: KeypointSet = field(default=COCO_17, kw_only=True)  # names, skeleton, sigmas

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keypoint_set.num != self.num_keypoints:
            if self.keypoint_set is not COCO_17:
                raise ValueError(
                    f'{self.num_keypoints} keypoints, but the keypoint set '
                    f'{self.keypoint_set.name} has {self.keypoint_set.num}'
                )
            object.__setattr__(self, 'keypoint_set', unnamed_keypoints(self.num_keypoints))

    @classmethod
    def empty_poses(
        cls, height: int, width: int, num_keypoints: int, keypoint_set: KeypointSet = COCO_17
    ) -> Poses:
        """Zero poses in an image of (height, width) px."""
        empty = Detections.from_boxes([], (height, width))
        per_point = np.zeros((0, num_keypoints), np.float32)
        points = np.zeros((0, num_keypoints, 2), np.float32)
        return Poses(
            empty.boxes, empty.box_scores, empty.detector_masks, points, per_point, per_point,
            per_point, keypoint_set=keypoint_set,
        )  # fmt: skip

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


@dataclass(frozen=True, eq=False, repr=False)
class People(Poses):
    """Poses with masks: the result of the pipeline, in descending order of score.

    ``boxes`` depend on the setting ``loop.boxes``. With ``'mask'``, the default, they are the tight
    boxes around the masks, or the detector's box where a mask is empty. With ``'detector'``, as in
    ``bmp_compact``, they are the boxes of the detector, refined by the pose model if
    ``pose.refine_boxes`` is on, and yours as they are; a mask may then reach out of its box.
    ``masks.boxes`` are the tight boxes around the masks in every config.

    ``people[i]``, ``people[people.scores > 0.5]`` and iteration give `People`. A notebook shows a
    picture if the image is a file or still in memory: only its path or a weak reference is kept.
    """

    masks: Masks  # N rows, no pixel belongs to two people
    mask_scores: Floats  # (N,) as in `Segments`
    mask_sources: Ints  # (N,) of `MaskSource`
    prompts: Ints  # (N, K) as in `Segments`
    detector_boxes: Floats  # (N, 4) xyxy px, from the detector or the user
    rounds: Ints  # (N,) round that found the person, from 1
    scores: Floats  # (N,) instance score, see `pipeline.scores`
    source: ImageSource = field(default=ImageSource(), kw_only=True)

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

    @property
    def path(self) -> str | None:
        """Path of the image; None if the pipeline got no path."""
        return self.source.path

    def to_coco(self, image_id: int | str = 0) -> list[dict[str, Any]]:
        """COCO results of one image, one dict per person in their order.

        Each dict serves all three tasks and holds only what ``json.dump`` takes:

        - ``image_id``, ``category_id`` (1), ``score`` (instance score);
        - ``person_id``, 1, 2, ... in the order of the rows;
        - ``bbox`` xywh px, ``segmentation`` (compressed RLE, ``counts`` as str), ``area`` px of
          the mask;
        - ``keypoints``: 17 times x, y, keypoint score, flat, or K times from a model without
          COCO's keypoints;
        - ``keypoint_scores``, ``keypoint_visibility``, ``keypoint_presence``: as many, in [0, 1];
        - ``box_score``, ``mask_score``, ``pose_score``: the factors of the instance score;
        - ``detector_bbox`` xywh px, ``round`` (from 1);
        - ``mask_source``: 'sam', or a fallback, 'detector' or 'box';
        - ``prompt_keypoints``: names of the keypoints that prompted the mask, in order;
        - ``extra_keypoints``, if there are more than COCO's 17: the others, like ``keypoints``.

        Pixels are rounded to 2 digits, scores to 5. ``COCO.loadRes`` accepts the list, but takes
        the areas of the boxes for all three tasks; pass `pipeline.io.coco.select_task` of it to
        score people by size.

        Args:
            image_id: id of the image in the annotation file; a NumPy integer becomes an int.
        """
        image_id = image_id.item() if isinstance(image_id, np.generic) else image_id
        kept = self.keypoint_set
        compared = kept.compared
        extra = np.setdiff1d(np.arange(kept.num), compared)
        rles, areas = self.masks.to_rle(), self.masks.areas
        boxes_xywh = xyxy_to_xywh(self.boxes)
        detector_boxes_xywh = xyxy_to_xywh(self.detector_boxes)
        poses = pose_scores(kept.view(self.keypoint_scores))
        columns = (self.scores, self.box_scores, self.mask_scores, poses)
        score, box_score, mask_score, pose_score = map(_scores, columns)
        return [
            {
                'image_id': image_id,
                'category_id': PERSON,
                'person_id': i + 1,
                'bbox': _pixels(boxes_xywh[i]),
                'score': score[i],
                'segmentation': rles[i],
                'area': int(areas[i]),
                'keypoints': _flat_keypoints(self, i, compared),
                'keypoint_scores': _scores(self.keypoint_scores[i, compared]),
                'keypoint_visibility': _scores(self.visibility[i, compared]),
                'keypoint_presence': _scores(self.presence[i, compared]),
                'box_score': box_score[i],
                'mask_score': mask_score[i],
                'pose_score': pose_score[i],
                'detector_bbox': _pixels(detector_boxes_xywh[i]),
                'round': int(self.rounds[i]),
                'mask_source': MaskSource(int(self.mask_sources[i])).name.lower(),
                'prompt_keypoints': [kept.names[k] for k in self.prompts[i] if k >= 0],
                **({'extra_keypoints': _flat_keypoints(self, i, extra)} if len(extra) else {}),
            }
            for i in range(len(self))
        ]

    def to_coco_annotations(
        self, image_id: int | str = 0, first_id: int = 1, keypoint_threshold: float = 0.3
    ) -> list[dict[str, Any]]:
        """COCO annotations of one image, numbered from ``first_id``, for example to correct them.

        As in a COCO file, plus ``score`` and ``person_id``. The third number of a keypoint is 2
        (visible), 1 (hidden) or 0 (score or presence below ``keypoint_threshold``; x = y = 0).
        """
        keys = ('image_id', 'category_id', 'person_id', 'bbox', 'segmentation', 'area', 'score')
        annotations = []
        for number, row in enumerate(self.to_coco(image_id), first_id):
            points = np.array(row['keypoints']).reshape(-1, 3)
            presence, visibility = row['keypoint_presence'], row['keypoint_visibility']
            present = np.minimum(points[:, 2], presence) >= keypoint_threshold
            points[:, 2] = np.where(np.array(visibility) >= 0.5, 2, 1)
            points[~present] = 0
            keypoints = {'keypoints': points.ravel().tolist(), 'num_keypoints': int(present.sum())}
            annotations.append(
                {'id': number, **{key: row[key] for key in keys}, 'iscrowd': 0, **keypoints}
            )
        return annotations

    def to_dataframe(self) -> pandas.DataFrame:
        """Table with one row per person: ``path`` and the columns of ``people.csv``.

        These are ``person_id`` (from 1), ``score``, ``box_score``, ``mask_score``, ``mask_source``,
        ``round``, ``x1`` to ``y2``, ``detector_x1`` to ``detector_y2``, ``mask_area`` (px), and per
        keypoint ``NAME_x``, ``NAME_y``, ``NAME_score``, ``NAME_presence``, ``NAME_visibility``.
        """
        from .conversions import make_dataframe

        return make_dataframe(self)

    def to_supervision(self) -> supervision.Detections:
        """Detections: boxes, masks (N, H, W), instance scores as ``confidence``, ``class_id`` 0.

        ``data`` has the other columns, so that `from_supervision` also converts selections back.
        """
        from .conversions import make_supervision

        return make_supervision(self)

    @classmethod
    def from_supervision(cls, detections: supervision.Detections) -> People:
        """People from the result of `to_supervision`, or from a selection of it.

        Raises:
            ValueError: The detections come from elsewhere, or have lost their masks.
        """
        from .conversions import columns_from_supervision

        return cls(**columns_from_supervision(detections))

    def save(self, path: str | Path) -> None:
        """Write a JSON file that `load` reads without loss; it has no pixels."""
        from .io.records import save_people

        save_people(self, Path(path))

    @staticmethod
    def load(path: str | Path) -> People:
        """Read people from a file of `save` or a file in ``predictions/`` of a run.

        Raises:
            ValueError: The file is not such a file.
        """
        from .io.records import load_people

        return load_people(Path(path))

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
        from .data_sample import make_sample

        return make_sample(self, with_masks)

    def draw(self, image: Image, style: DrawingStyle | None = None) -> Image:
        """Copy of ``image`` (H, W, 3) RGB with box, mask and skeleton in one colour per person."""
        from .visualization.draw import draw_people

        return draw_people(image, self, style)

    def plot(
        self,
        image: Any = None,
        style: DrawingStyle | None = None,
        channel_order: ChannelOrder = 'rgb',
    ) -> Image:
        """Copy of the image (H, W, 3) RGB with box, mask and skeleton in one colour per person.

        Args:
            image: The image, of any kind that the pipeline takes; None: the one it got.
            style: What to draw and how; None: everything.
            channel_order: ``'rgb'`` or ``'bgr'``, of ``image``.

        Raises:
            ValueError: The image is not known or has another size.
        """
        from .io.images import as_image
        from .visualization.draw import draw_people

        pixels = self.source.read() if image is None else as_image(image, channel_order)
        if pixels is None:
            raise ValueError(
                'the image of these people is no longer in memory; pass it: people.plot(image)'
            )
        return draw_people(pixels, self, style)

    def _repr_png_(self) -> bytes | None:
        """Picture for notebooks, at most 1024 px wide and high; None shows the text instead."""
        import PIL.Image

        if self.source.read() is None:
            return None
        picture, buffer = PIL.Image.fromarray(self.plot()), BytesIO()
        picture.thumbnail((1024, 1024))
        picture.save(buffer, 'PNG')
        return buffer.getvalue()


_COMPOUND = (Masks, LogitMasks, Rows)


def _take(column: Any, index: Index) -> Any:
    return column.select(index) if isinstance(column, _COMPOUND) else column[index]


def _join(first: Any, second: Any) -> Any:
    if isinstance(first, _COMPOUND):
        return first.concat(second)
    return np.concatenate([first, second])


def _flat_keypoints(people: People, i: int, index: Index) -> list[float]:
    points, scores = people.keypoints[i, index], people.keypoint_scores[i, index]
    rows = zip(map(_pixels, points), _scores(scores), strict=True)
    return [value for point, score in rows for value in (*point, score)]


def _pixels(values: Floats) -> list[float]:
    return [round(v, 2) for v in values.tolist()]


def _scores(values: Floats) -> list[float]:
    return [round(v, 5) for v in values.tolist()]
