"""Masks against the number of prompt keypoints and the way they are chosen.

A photo is embedded once; every setting costs a pass of the decoder. Masks are those of each person
alone: no pixels are shared out and nothing takes the place of an empty mask, so that only the
prompt acts.

Legend: D prompted people (results), G annotations of the photo, crowd regions included.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from pipeline.boxes import box_iou, xywh_to_xyxy
from pipeline.evaluation.overlaps import ImageOverlaps
from pipeline.evaluation.precision import match, score_part
from pipeline.keypoints import NUM_COCO
from pipeline.loop import PersonPipeline
from pipeline.nms import keep_distinct_poses
from pipeline.rle import to_rle
from pipeline.scores import instance_scores
from pipeline.segmenters.prompts import METHODS, Method, PromptConfig, make_prompts
from pipeline.structures import Image, People, Poses, Segments, size_of
from projects.studies.images import Parts, StudyImage

Source = Literal['truth', 'detected']
_OWN_BOX = 0.5  # box IoU from which a detected person is an annotated one


@runtime_checkable
class PromptedPhoto(Protocol):
    """A photo ready to be prompted, as `pipeline.segmenters.sam2_segmenter.ImageSegmenter`."""

    def with_prompt(self, prompt: PromptConfig) -> PromptedPhoto:
        """The same photo, prompted in another way."""

    def __call__(self, poses: Poses, others: Poses) -> Segments:
        """One segment per pose."""


@dataclass(frozen=True)
class PromptSetting:
    """A point of the study."""

    method: Method
    num_keypoints: int  # at most; people with fewer usable ones are prompted with all of them

    @property
    def name(self) -> str:
        """Of the part that is kept."""
        return f'{self.method}/{self.num_keypoints}'

    def applied(self, config: PromptConfig) -> PromptConfig:
        """The prompt settings of a pipeline, changed to this point; no exception in crowds."""
        return replace(
            config, method=self.method, num_keypoints=self.num_keypoints,
            crowd_iou=None, num_keypoints_in_crowd=None,
        )  # fmt: skip


@dataclass(frozen=True)
class PromptRow:
    """A setting with what was measured; None where nobody was."""

    method: str
    num_keypoints: int
    num_people: int  # for AP: all that should be found
    mask_ap: float | None
    mask_ap50: float | None
    num_prompted: int  # for the mean IoU: people of whom a mask was asked
    mean_iou: float | None
    mean_points: float | None  # prompt keypoints per person that were really there


@dataclass(frozen=True, eq=False)
class _Candidates:
    """People of a photo to be prompted."""

    poses: Poses
    person: npt.NDArray[np.int64]  # (D,) their annotation, -1 for none
    ignored: npt.NDArray[np.bool_]  # (G,) annotations that AP ignores


class PromptStudy:
    """Computes the parts of a photo.

    Args:
        run: the pipeline; of its settings the prompt is varied.
        prompt: of the pipeline.
        source: ``truth`` prompts annotated people with their labelled keypoints, ``detected`` the
            people of the first round with the keypoints that the pipeline places.
        tie_seed: labelled keypoints are all equally visible, so `k_most_visible` takes them in
            the order of COCO, the face first; with a seed their order is drawn for each person.
    """

    def __init__(
        self,
        run: PersonPipeline,
        prompt: PromptConfig,
        source: Source = 'truth',
        tie_seed: int | None = None,
    ) -> None:
        self.run = run
        self.prompt = prompt
        self.source = source
        self.tie_seed = tie_seed

    def __call__(self, image: Image, photo: StudyImage, missing: Sequence[str]) -> Parts:
        """Parts of a photo: scores, overlaps and number of prompt keypoints per person."""
        settings = [_setting(name) for name in missing]
        find = self._annotated if self.source == 'truth' else self._detected
        candidates = find(image, photo)
        nobody = candidates.poses.select(np.zeros(0, int))
        segment = _prompted(self.run.segmenter(image))
        truth = [to_rle(p['segmentation'], *size_of(image)) for p in photo.people]
        crowds = [int(p.get('iscrowd', 0)) for p in photo.people]
        known: dict[bytes, dict[str, Any]] = {}
        parts = {}
        for setting in settings:
            prompt = setting.applied(self.prompt)
            prompts = make_prompts(candidates.poses, nobody, prompt)
            # More keypoints than anybody has make no difference.
            key = prompts.keypoints.tobytes()
            if key not in known and len(candidates.poses):
                segments = segment.with_prompt(prompt)(candidates.poses, nobody)
                known[key] = {
                    'scores': self._scores(candidates.poses, segments),
                    'overlaps': _overlaps(segments, truth, crowds),
                    'points': (prompts.keypoints >= 0).sum(1).tolist(),
                }
            nothing: dict[str, Any] = {'scores': [], 'overlaps': [], 'points': []}
            parts[setting.name] = {
                **known.get(key, nothing),
                'person': candidates.person.tolist(),
                'ignored': candidates.ignored.tolist(),
            }
        return parts

    def _annotated(self, image: Image, photo: StudyImage) -> _Candidates:
        """Annotated people with a keypoint that may be a prompt."""
        truth = photo.truth
        single = [g for g, p in enumerate(photo.people) if not p.get('iscrowd', 0)]
        rows = np.flatnonzero((truth.visibility >= self.prompt.visibility_threshold).any(1))
        person = np.array(single, np.int64)[rows]
        ignored = np.ones(len(photo.people), bool)
        ignored[person] = False
        poses: Poses = truth.select(rows)
        if self.tie_seed is not None:
            poses = _ties_drawn(poses, [photo.people[g]['id'] for g in person], self.tie_seed)
        return _Candidates(poses, person, ignored)

    def _detected(self, image: Image, photo: StudyImage) -> _Candidates:
        """People of the first round, with the annotation whose box they overlap."""
        poses = self.run.pose_estimator(image, self.run.detector(image))
        nobody = People.empty(*size_of(image), poses.num_keypoints)
        _, distinct = keep_distinct_poses(nobody, poses, self.run.config.pose_nms)
        poses = poses.select(distinct)
        poses = poses.select(np.argsort(-poses.box_scores, kind='stable'))
        ignored = np.array([bool(p.get('iscrowd', 0)) for p in photo.people], bool)
        boxes = xywh_to_xyxy([p['bbox'] for p in photo.people])
        overlaps = np.asarray(box_iou(poses.boxes, boxes), np.float64)
        rows = tuple({'score': float(s)} for s in poses.box_scores)
        person = match(ImageOverlaps(0, photo.people, rows, overlaps, ignored), _OWN_BOX)
        person[np.append(ignored, False)[person]] = -1
        return _Candidates(poses, person, ignored)

    def _scores(self, poses: Poses, segments: Segments) -> list[float]:
        """What AP ranks by: mask score, for detected people the instance score."""
        if self.source == 'truth':
            return [float(s) for s in segments.mask_scores]
        scores = instance_scores(
            poses.box_scores, poses.keypoint_scores, segments.mask_scores, segments.mask_sources,
            self.run.config.score,
        )  # fmt: skip
        return [float(s) for s in scores]


def compute_prompt_rows(
    settings: Sequence[PromptSetting],
    photos: Sequence[StudyImage],
    parts: Mapping[str, Parts],
) -> tuple[PromptRow, ...]:
    """Figures of every setting over the photos that have parts."""
    done = sorted(
        (p for p in photos if p.name in parts),
        key=lambda p: (isinstance(p.image_id, str), p.image_id),
    )
    return tuple(_row(s, [(p, parts[p.name][s.name]) for p in done]) for s in settings)


def _row(setting: PromptSetting, photos: Sequence[tuple[StudyImage, Any]]) -> PromptRow:
    ranked, ious, points = [], [], []
    for photo, part in photos:
        scores = np.array(part['scores'], np.float64)
        overlaps = np.array(part['overlaps'], np.float64).reshape(len(scores), len(photo.people))
        order = np.argsort(-scores, kind='stable')
        rows = tuple({'score': scores[d]} for d in order)
        ignored = np.array(part['ignored'], bool)
        ranked.append(ImageOverlaps(photo.image_id, photo.people, rows, overlaps[order], ignored))
        own = [(d, g) for d, g in enumerate(part['person']) if g >= 0]
        ious += [overlaps[d, g] for d, g in own]
        points += [part['points'][d] for d, _ in own]
    score = score_part(ranked, [p.ignored for p in ranked])
    return PromptRow(
        setting.method, setting.num_keypoints, score.num_people, score.ap, score.ap50,
        len(ious), float(np.mean(ious)) if ious else None,
        float(np.mean(points)) if points else None,
    )  # fmt: skip


def _setting(name: str) -> PromptSetting:
    method, number = name.rsplit('/', 1)
    known: dict[str, Method] = {m: m for m in METHODS}
    return PromptSetting(known[method], int(number))


def _prompted(photo: Callable[[Poses, Poses], Segments]) -> PromptedPhoto:
    if not isinstance(photo, PromptedPhoto):
        raise TypeError(f'{type(photo).__name__} cannot be prompted in several ways')
    return photo


def _ties_drawn(poses: Poses, ids: Sequence[Any], seed: int) -> Poses:
    """The same poses with the visible keypoints of each person ranked by chance."""
    visibility = poses.visibility.copy()
    for row, number in zip(visibility, ids, strict=True):
        # By annotation, so that the order does not depend on other people.
        draw = random.Random(f'{seed} {number}')
        ranks = np.array([draw.random() for _ in range(NUM_COCO)], np.float32)
        row[:NUM_COCO] -= 1e-3 * ranks * (row[:NUM_COCO] > 0)
    return replace(poses, visibility=visibility)


def _overlaps(
    segments: Segments, truth: Sequence[dict[str, Any]], crowds: Sequence[int]
) -> list[list[float]]:
    from pycocotools import mask as coco_mask

    rles = segments.logits.binary().to_rle()
    if not rles or not truth:
        return [[] for _ in rles]
    rows: list[list[float]] = coco_mask.iou(rles, list(truth), list(crowds)).tolist()
    return rows


def make_prompt_settings(
    methods: Sequence[Method], numbers: Sequence[int]
) -> Iterator[PromptSetting]:
    """All combinations, in order.

    Raises:
        ValueError: a number is not in [1, 17].
    """
    for method in methods:
        for number in numbers:
            if not 1 <= number <= NUM_COCO:
                raise ValueError(f'k must be in [1, {NUM_COCO}], got {number}')
            yield PromptSetting(method, number)
