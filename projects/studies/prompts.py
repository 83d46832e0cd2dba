"""Study of the number and the selection of prompt keypoints.

An image is embedded once; every setting runs only the mask decoder. Masks are predicted
independently: no overlaps are resolved, and empty masks have no fallback, so that the results
depend only on the prompt.

Legend: D prompted people (results), G annotations of the image, with crowd regions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from pipeline.boxes import box_iou, xywh_to_xyxy
from pipeline.evaluation.matching import match, score_part
from pipeline.evaluation.overlaps import ImageOverlaps
from pipeline.keypoints import NUM_COCO
from pipeline.loop import PersonPipeline
from pipeline.nms import keep_distinct_poses
from pipeline.rle import to_rle
from pipeline.scores import instance_scores
from pipeline.segmenters.prompts import METHODS, Method, PromptConfig, make_prompts
from pipeline.structures import Image, People, Poses, Segments, size_of
from projects.studies.images import Parts, StudyImage

Source = Literal['ground_truth', 'detected']
_MIN_BOX_IOU = 0.5  # to match detected with annotated people


@runtime_checkable
class EmbeddedImage(Protocol):
    """An embedded image, such as `pipeline.segmenters.sam2_segmenter.ImageSegmenter`."""

    def with_prompt(self, prompt: PromptConfig) -> EmbeddedImage:
        """Return the same image with different prompt settings."""

    def __call__(self, poses: Poses, others: Poses) -> Segments:
        """Predict one segment per pose."""


@dataclass(frozen=True)
class PromptSetting:
    """A point of the study."""

    method: Method
    num_keypoints: int  # maximum number of prompt keypoints per person

    @property
    def name(self) -> str:
        """Name of the cached part."""
        return f'{self.method}/{self.num_keypoints}'

    def apply_to(self, config: PromptConfig) -> PromptConfig:
        """Change the prompt settings of a pipeline to this point, without rules for crowds."""
        return replace(
            config, method=self.method, num_keypoints=self.num_keypoints,
            crowd_iou=None, num_keypoints_in_crowd=None,
        )  # fmt: skip


@dataclass(frozen=True)
class PromptRow:
    """Metrics of a setting; None without people."""

    method: str
    num_keypoints: int
    num_people: int  # for AP: all people to detect
    mask_ap: float | None
    mask_ap50: float | None
    num_prompted: int  # for the mean IoU: prompted people
    mean_iou: float | None
    mean_points: float | None  # actual number of prompt keypoints per person


@dataclass(frozen=True, eq=False)
class _Candidates:
    """People of an image to prompt."""

    poses: Poses
    person: npt.NDArray[np.int64]  # (D,) index of the annotation, or -1
    ignored: npt.NDArray[np.bool_]  # (G,) annotations that AP ignores


class PromptStudy:
    """Computes the parts of an image.

    Args:
        run: the pipeline.
        prompt: prompt settings of the pipeline, to be varied.
        source: ``ground_truth`` prompts annotated people with their labelled keypoints;
            ``detected`` prompts the people of the first round with their predicted keypoints.
        tie_seed: seed of the order of labelled keypoints per person. None: the order of COCO, face
            first. Only `k_most_visible` depends on it: labelled keypoints are all equally visible.
    """

    def __init__(
        self,
        run: PersonPipeline,
        prompt: PromptConfig,
        source: Source = 'ground_truth',
        tie_seed: int | None = None,
    ) -> None:
        self.run = run
        self.prompt = prompt
        self.source = source
        self.tie_seed = tie_seed

    def __call__(self, image: Image, item: StudyImage, missing: Sequence[str]) -> Parts:
        """Compute scores, overlaps and number of prompt keypoints per person."""
        settings = [_parse_setting(name) for name in missing]
        find = self._find_annotated if self.source == 'ground_truth' else self._find_detected
        candidates = find(image, item)
        empty = candidates.poses.select(np.zeros(0, int))
        embedded = _check_embedded(self.run.segmenter(image))
        masks = [to_rle(p['segmentation'], *size_of(image)) for p in item.annotations]
        crowds = [int(p.get('iscrowd', 0)) for p in item.annotations]
        cache: dict[bytes, dict[str, Any]] = {}
        parts = {}
        for setting in settings:
            prompt = setting.apply_to(self.prompt)
            prompts = make_prompts(candidates.poses, empty, prompt)
            # Settings with equal prompts are computed once.
            key = prompts.keypoints.tobytes()
            if key not in cache and len(candidates.poses):
                segments = embedded.with_prompt(prompt)(candidates.poses, empty)
                cache[key] = {
                    'scores': self._scores(candidates.poses, segments),
                    'overlaps': _overlaps(segments, masks, crowds),
                    'points': (prompts.keypoints >= 0).sum(1).tolist(),
                }
            parts[setting.name] = {
                **cache.get(key, {'scores': [], 'overlaps': [], 'points': []}),
                'person': candidates.person.tolist(),
                'ignored': candidates.ignored.tolist(),
            }
        return parts

    def _find_annotated(self, image: Image, item: StudyImage) -> _Candidates:
        """Select the annotated people with a keypoint that can be a prompt."""
        ground_truth = item.ground_truth
        single = [g for g, p in enumerate(item.annotations) if not p.get('iscrowd', 0)]
        usable = (ground_truth.visibility >= self.prompt.visibility_threshold).any(1)
        rows = np.flatnonzero(usable)
        person = np.array(single, np.int64)[rows]
        ignored = np.ones(len(item.annotations), bool)
        ignored[person] = False
        poses: Poses = ground_truth.select(rows)
        if self.tie_seed is not None:
            ids = [item.annotations[g]['id'] for g in person]
            poses = _rank_randomly(poses, ids, self.tie_seed)
        return _Candidates(poses, person, ignored)

    def _find_detected(self, image: Image, item: StudyImage) -> _Candidates:
        """Detect the people of the first round, and match their boxes with annotations."""
        poses = self.run.pose_estimator(image, self.run.detector(image))
        empty = People.empty(*size_of(image), poses.num_keypoints)
        _, distinct = keep_distinct_poses(empty, poses, self.run.config.pose_nms)
        poses = poses.select(distinct)
        poses = poses.select(np.argsort(-poses.box_scores, kind='stable'))
        ignored = np.array([bool(p.get('iscrowd', 0)) for p in item.annotations], bool)
        boxes = xywh_to_xyxy([p['bbox'] for p in item.annotations])
        overlaps = np.asarray(box_iou(poses.boxes, boxes), np.float64)
        rows = tuple({'score': float(s)} for s in poses.box_scores)
        person = match(ImageOverlaps(0, item.annotations, rows, overlaps, ignored), _MIN_BOX_IOU)
        person[np.append(ignored, False)[person]] = -1
        return _Candidates(poses, person, ignored)

    def _scores(self, poses: Poses, segments: Segments) -> list[float]:
        """Scores for AP: mask scores, or instance scores of detected people."""
        if self.source == 'ground_truth':
            return [float(s) for s in segments.mask_scores]
        scores = instance_scores(
            poses.box_scores, poses.keypoint_scores, segments.mask_scores, segments.mask_sources,
            self.run.config.score,
        )  # fmt: skip
        return [float(s) for s in scores]


def compute_prompt_rows(
    settings: Sequence[PromptSetting], images: Sequence[StudyImage], parts: Mapping[str, Parts]
) -> tuple[PromptRow, ...]:
    """Compute the metrics of every setting over the images with parts."""
    done = sorted(
        (image for image in images if image.name in parts),
        key=lambda image: (isinstance(image.image_id, str), image.image_id),
    )
    return tuple(_row(s, [(image, parts[image.name][s.name]) for image in done]) for s in settings)


def _row(setting: PromptSetting, images: Sequence[tuple[StudyImage, Any]]) -> PromptRow:
    ranked, ious, points = [], [], []
    for image, part in images:
        people, scores = image.annotations, np.array(part['scores'], np.float64)
        overlaps = np.array(part['overlaps'], np.float64).reshape(len(scores), len(people))
        order = np.argsort(-scores, kind='stable')
        rows = tuple({'score': scores[d]} for d in order)
        ignored = np.array(part['ignored'], bool)
        ranked.append(ImageOverlaps(image.image_id, people, rows, overlaps[order], ignored))
        matches = [(d, g) for d, g in enumerate(part['person']) if g >= 0]
        ious += [overlaps[d, g] for d, g in matches]
        points += [part['points'][d] for d, _ in matches]
    score = score_part(ranked, [image.ignored for image in ranked])
    return PromptRow(
        setting.method, setting.num_keypoints, score.num_people, score.ap, score.ap50,
        len(ious), float(np.mean(ious)) if ious else None,
        float(np.mean(points)) if points else None,
    )  # fmt: skip


def _parse_setting(name: str) -> PromptSetting:
    method, number = name.rsplit('/', 1)
    return PromptSetting(next(m for m in METHODS if m == method), int(number))


def _check_embedded(image: Callable[[Poses, Poses], Segments]) -> EmbeddedImage:
    if not isinstance(image, EmbeddedImage):
        raise TypeError(f'{type(image).__name__} does not support several prompt settings')
    return image


def _rank_randomly(poses: Poses, ids: Sequence[Any], seed: int) -> Poses:
    """Rank the visible keypoints of each person randomly."""
    visibility = poses.visibility.copy()
    for row, number in zip(visibility, ids, strict=True):
        # Seeded by annotation, so that the order does not depend on other people.
        draw = random.Random(f'{seed} {number}')
        ranks = np.array([draw.random() for _ in range(NUM_COCO)], np.float32)
        row[:NUM_COCO] -= 1e-3 * ranks * (row[:NUM_COCO] > 0)
    return replace(poses, visibility=visibility)


def _overlaps(
    segments: Segments, masks: Sequence[dict[str, Any]], crowds: Sequence[int]
) -> list[list[float]]:
    from pycocotools import mask as coco_mask

    rles = segments.logits.binary().to_rle()
    if not rles or not masks:
        return [[] for _ in rles]
    rows: list[list[float]] = coco_mask.iou(rles, list(masks), list(crowds)).tolist()
    return rows


def make_prompt_settings(
    methods: Sequence[Method], numbers: Sequence[int]
) -> Iterator[PromptSetting]:
    """Combine all methods with all numbers, in order.

    Raises:
        ValueError: a number is not in [1, 17].
    """
    for method in methods:
        for number in numbers:
            if not 1 <= number <= NUM_COCO:
                raise ValueError(f'k must be in [1, {NUM_COCO}], got {number}')
            yield PromptSetting(method, number)
