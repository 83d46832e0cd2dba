"""Evaluation protocols: the loop, or one pass of it with stages replaced by ground truth.

In every protocol except ``loop``, masks are predicted independently, without overlap resolution and
fallback; otherwise a person's score would depend on which other people are annotated.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..build import build_pipeline
from ..candidates import Candidates
from ..config import PipelineConfig, ResolvedConfig, load_config
from ..datasets.coco_ground_truth import build_people
from ..io.images import describe_exchanged_sides
from ..io.results import PROTOCOLS, ProtocolFacts, ProtocolName
from ..keypoint_sets import Convention
from ..keypoints import NUM_COCO
from ..loop import PersonPipeline
from ..masks import LogitMasks, Masks
from ..nms import PoseNMSConfig
from ..runtime.timing import StageTimer
from ..segmenters.prompts import PromptConfig
from ..stages import Detector, PoseEstimator, PoseToMask
from ..structures import Detections, Image, MaskSource, People, Poses, Segments, size_of


class ProtocolError(ValueError):
    """The options do not fit the protocol."""


@dataclass(frozen=True)
class Protocol:
    """A protocol with its options."""

    name: ProtocolName = 'loop'
    gt_boxes: bool = False  # detected_keypoints: annotated boxes replace the detector
    gt_masks: bool = False  # the input of the pose estimator has the annotated masks

    def __post_init__(self) -> None:
        if self.gt_boxes and self.name != 'detected_keypoints':
            raise ProtocolError(f'--gt-boxes needs --protocol detected_keypoints, not {self.name}')
        if self.gt_masks and not (self.name == 'gt_boxes' or self.gt_boxes):
            raise ProtocolError(
                '--gt-masks needs --protocol gt_boxes, or detected_keypoints with --gt-boxes; '
                f'not {self.name}'
            )

    @property
    def facts(self) -> ProtocolFacts:
        """Input and scoring of the protocol."""
        return PROTOCOLS[self.name]

    @property
    def from_ground_truth(self) -> bool:
        """Whether there is one result for each annotated person."""
        return self.facts.from_ground_truth or self.gt_boxes

    def includes(self, annotation: Mapping[str, Any]) -> bool:
        """Return whether the protocol uses an annotated person."""
        if not self.from_ground_truth or annotation.get('iscrowd', 0):
            return False
        return not self.facts.keypoints_needed or any(
            flag > 0 for flag in annotation.get('keypoints', ())[2::3]
        )

    def text(self, settings: PipelineConfig) -> str:
        """Describe the protocol and its settings in one line for tables."""
        parts = [self.facts.text]
        if self.name == 'loop':
            loop = settings.loop
            rounds = loop.max_rounds or f'all (at most {loop.round_cap})'
            parts.append(f'rounds {rounds}{", refined" if loop.refine else ""}')
            slices = settings.detector.slices
            if slices.grid is not None:
                parts.append(f'slices {slices.grid} from round {slices.from_round}')
        if self.name == 'detected_keypoints':
            parts.append(f'{"ground-truth" if self.gt_boxes else "detector"} boxes')
        if self.gt_masks:
            parts.append('poses inside ground-truth masks')
        if self.name in ('gt_keypoints', 'detected_keypoints'):
            parts.append(_prompt_text(settings.segmenter.prompt))
        return ', '.join(parts)

    @property
    def idle_stages(self) -> tuple[str, ...]:
        """Stages that the protocol replaces."""
        if self.gt_boxes:
            return ('detector',)
        idle: dict[ProtocolName, tuple[str, ...]] = {
            'gt_boxes': ('detector', 'segmenter'),
            'gt_keypoints': ('detector', 'pose'),
        }
        return idle.get(self.name, ())


def select_ground_truth(
    protocol: Protocol,
    image: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    order: Convention | None,
) -> dict[str, Any]:
    """Select the ground truth of an image of a COCO file as JSON content for `read_ground_truth`.

    ``order`` is the convention of the annotated keypoints; None: no keypoints.

    Returns:
        ``size`` ([H, W] px), ``order`` and ``people``: id, bbox and, where annotated,
        segmentation and keypoints.
    """
    keys = ('id', 'bbox', 'segmentation', 'keypoints')
    people = [{k: a[k] for k in keys if k in a} for a in annotations if protocol.includes(a)]
    return {'size': [image['height'], image['width']], 'order': order, 'people': people}


def read_ground_truth(content: Any, shape: tuple[int, int]) -> People:
    """Convert content of `select_ground_truth` to people of an image of ``shape`` (H, W).

    Raises:
        ValueError: The annotations have another image size.
    """
    height, width = content['size']
    if (height, width) != shape:
        raise ValueError(
            f'the image has {shape[1]} x {shape[0]} px, its annotations {width} x {height}; '
            f'they belong to another version of the image'
            f'{describe_exchanged_sides(shape, (height, width))}'
        )
    return build_people(content['people'], height, width, content['order'])


class ProtocolPipeline:
    """A pipeline under a protocol, for `pipeline.io.run.run_images`.

    Attributes:
        config_text: Resolved config as Python. Comments at its end have the protocol and the hashes
            of the model configs, so a run never resumes with others.
        weights: Checkpoint name -> sha256, for the stages of the protocol.
        device: Device of the models.
        precision: fp32, bf16 or fp16.
        note: Note of the config for the user, or an empty string.
        load_seconds: Time for loading.
        protocol_text: One line for tables.
    """

    def __init__(self, config: ResolvedConfig, protocol: Protocol) -> None:
        start = time.perf_counter()
        self.protocol = protocol
        self.config_text = config.text
        self.weights: dict[str, str] = {}
        self.device = 'none'
        self.precision: str = config.settings.runtime.precision
        self.note = config.settings.runtime.note or ''
        self.protocol_text = protocol.text(config.settings)
        self._run: PersonPipeline | None = None
        if protocol.name != 'oracle':
            built = build_pipeline(_without_idle_weights(config, protocol))
            self._run, self.device = built.run, built.device
            self.weights = {w.name: w.sha256 for w in built.weights}
            self.config_text += ''.join(f'# {line}\n' for line in built.model_configs)
        self.config_text += f'# protocol: {protocol}\n'
        self.config_key = self.config_text
        # People of the ground truth all stay, in their order.
        self.min_score = None if protocol.from_ground_truth else config.settings.loop.min_score
        self.load_seconds = time.perf_counter() - start

    def __call__(
        self, image: Image, ground_truth: People, timer: StageTimer | None = None
    ) -> People:
        """Predict the people of an RGB uint8 image (H, W, 3)."""
        return self._find(image, ground_truth, timer).keep(self.min_score)

    def predict_candidates(
        self,
        images: Sequence[Image],
        ground_truth: Sequence[People],
        timer: StageTimer | None = None,
    ) -> list[Candidates]:
        """Predict the people of each image, one image at a time."""
        return [self._find(*pair, timer) for pair in zip(images, ground_truth, strict=True)]

    def _find(
        self, image: Image, ground_truth: People, timer: StageTimer | None = None
    ) -> Candidates:
        run, boxes = _replace_stages(self._run, self.protocol, ground_truth)
        if not self.protocol.from_ground_truth:
            return run.predict_candidates([image], [boxes], timer)[0]
        *_, (state,) = run.iter_rounds([image], [boxes], timer)
        return Candidates(state.people)


def load_protocol(
    config: str | Path,
    cfg_options: Mapping[str, Any] | None = None,
    protocol: Protocol | None = None,
) -> ProtocolPipeline:
    """Load the stages of a pipeline for a protocol; see `pipeline.api.load_pipeline`.

    Raises:
        ConfigError: A setting is wrong.
        CheckpointError: Weights are missing or do not fit.
    """
    # Average precision needs low scores too, so people are not filtered by score.
    options = {'loop.min_score': None, **(cfg_options or {})}
    resolved = load_config(config, options)
    threshold = resolved.settings.detector.eval_score_threshold
    if threshold is not None and 'detector.score_threshold' not in options:
        resolved = load_config(config, {'detector.score_threshold': threshold, **options})
    return ProtocolPipeline(resolved, protocol or Protocol())


def _replace_stages(
    run: PersonPipeline | None, protocol: Protocol, ground_truth: People
) -> tuple[PersonPipeline, Detections | None]:
    """Return the loop with the stages of the protocol, and the boxes of round one."""
    poses, masks = _GroundTruthPoses(ground_truth), _GroundTruthMasks(ground_truth)
    if run is None:  # oracle
        run = PersonPipeline(_NoDetector(), poses, masks)
    if protocol.name == 'loop':
        return run, None
    config = replace(run.config, max_rounds=1, refine=False, resolve_overlaps=None, fallback=None)
    if not protocol.from_ground_truth:
        return replace(run, config=config), None
    # Pose NMS must not remove an annotated person.
    config = replace(config, pose_nms=PoseNMSConfig(max_oks=1.0))
    if protocol.name in ('gt_boxes', 'oracle'):
        run, config = replace(run, segmenter=masks), replace(config, boxes='detector')
    if protocol.name == 'gt_keypoints':
        run = replace(run, pose_estimator=poses)
    people = len(ground_truth)
    empty = Masks.empty(*ground_truth.image_shape, people)
    input_masks = ground_truth.masks if protocol.gt_masks else empty
    boxes = Detections(ground_truth.boxes, np.ones(people, np.float32), input_masks)
    return replace(run, config=config), boxes


def _without_idle_weights(config: ResolvedConfig, protocol: Protocol) -> ResolvedConfig:
    """Remove the checkpoints of unused stages."""
    settings = config.settings
    changes = {
        stage: replace(getattr(settings, stage), checkpoint=None) for stage in protocol.idle_stages
    }
    return replace(config, settings=replace(settings, **changes))


class _NoDetector(Detector):
    """Detects no person."""

    def __call__(self, image: Image) -> Detections:
        return Detections.from_boxes([], size_of(image))


@dataclass
class _GroundTruthPoses(PoseEstimator):
    """Annotated keypoints: score and presence 1 if labelled, visibility 1 if visible (v = 2)."""

    people: People
    num_keypoints: int = NUM_COCO

    def __call__(self, image: Image, detections: Detections) -> Poses:
        people = self.people
        return Poses(
            detections.boxes, detections.box_scores, detections.detector_masks,
            people.keypoints, people.keypoint_scores, people.presence, people.visibility,
        )  # fmt: skip


@dataclass(frozen=True)
class _GroundTruthMasks:
    """Annotated masks with score 1."""

    people: People

    def __call__(self, image: Image) -> PoseToMask:
        def segment(poses: Poses, others: Poses) -> Segments:
            people = len(poses)
            return Segments(
                LogitMasks.from_masks(self.people.masks, 1.0),
                np.ones(people, np.float32),
                np.full(people, MaskSource.DETECTOR, np.int32),
                np.full((people, poses.num_keypoints), -1, np.int32),
            )

        return segment


def _prompt_text(prompt: PromptConfig) -> str:
    box = 'with' if prompt.use_box else 'without'
    return f'prompts: {prompt.num_keypoints} keypoints ({prompt.method}) {box} box'
