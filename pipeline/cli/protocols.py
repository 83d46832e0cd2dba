"""Evaluation protocols: the loop as it is, or one pass of it with stages replaced by ground truth.

What an annotated person gives to a stage is decided here, so that figures of different protocols
differ in nothing else. In every protocol but ``loop`` masks are made for each person alone: no
sharing of pixels and no fallback, because ground truth may name only some of the people.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..build import build_pipeline
from ..config import PipelineConfig, ResolvedConfig, load_config
from ..datasets.coco_ground_truth import build_people
from ..io.results import PROTOCOLS, ProtocolFacts, ProtocolName
from ..keypoints import NUM_COCO, Convention
from ..loop import PersonPipeline
from ..masks import LogitMasks, Masks
from ..nms import PoseNMSConfig
from ..runtime.timing import StageTimer
from ..segmenters.prompts import PromptConfig
from ..stages import Detector, PoseEstimator, PoseToMask
from ..structures import Detections, Image, MaskSource, People, Poses, Segments, size_of


class ProtocolError(ValueError):
    """Options that do not belong to the protocol."""


@dataclass(frozen=True)
class Protocol:
    """A protocol with its options."""

    name: ProtocolName = 'loop'
    gt_boxes: bool = False  # detected_keypoints: annotated boxes take the place of the detector
    gt_masks: bool = False  # the pose estimator gets the annotated masks

    def __post_init__(self) -> None:
        if self.gt_boxes and self.name != 'detected_keypoints':
            raise ProtocolError(
                f'--gt-boxes goes with --protocol detected_keypoints, not with {self.name}'
            )
        if self.gt_masks and not (self.name == 'gt_boxes' or self.gt_boxes):
            raise ProtocolError(
                '--gt-masks goes with --protocol gt_boxes, or detected_keypoints with --gt-boxes; '
                f'not with {self.name}'
            )

    @property
    def facts(self) -> ProtocolFacts:
        """What is scored, and on whom."""
        return PROTOCOLS[self.name]

    @property
    def from_truth(self) -> bool:
        """Whether the people are those of the annotations, one result for each."""
        return self.facts.from_truth or self.gt_boxes

    def takes(self, annotation: Mapping[str, Any]) -> bool:
        """Whether an annotated person takes part."""
        if not self.from_truth or annotation.get('iscrowd', 0):
            return False
        return not self.facts.keypoints_needed or any(
            flag > 0 for flag in annotation.get('keypoints', ())[2::3]
        )

    def text(self, settings: PipelineConfig) -> str:
        """One line for tables, with what the figures depend on."""
        parts = [self.facts.text]
        if self.name == 'loop':
            loop = settings.loop
            rounds = loop.max_rounds or f'all (at most {loop.round_cap})'
            parts.append(f'rounds {rounds}{", refined" if loop.refine else ""}')
        if self.name == 'detected_keypoints':
            parts.append(f'boxes of the {"ground truth" if self.gt_boxes else "detector"}')
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


def ground_truth_of(
    protocol: Protocol,
    image: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    order: Convention | None,
) -> dict[str, Any]:
    """Ground truth of one image for a run, as JSON content; `read_ground_truth` reads it.

    Args:
        protocol: decides who takes part.
        image: entry of ``images`` of a COCO file.
        annotations: people of this photo.
        order: of the annotated keypoints; None: there are none.

    Returns:
        ``size`` ([H, W] px), ``order`` and ``people``: id, bbox and, where annotated,
        segmentation and keypoints.
    """
    keys = ('id', 'bbox', 'segmentation', 'keypoints')
    people = [{k: a[k] for k in keys if k in a} for a in annotations if protocol.takes(a)]
    return {'size': [image['height'], image['width']], 'order': order, 'people': people}


def read_ground_truth(content: Any, shape: tuple[int, int]) -> People:
    """The annotated people that `ground_truth_of` wrote, for an image of ``shape`` (H, W).

    Raises:
        ValueError: the image has another size than the annotations say.
    """
    height, width = content['size']
    if (height, width) != shape:
        raise ValueError(
            f'the photo is {shape[1]} x {shape[0]} px, the annotations say {width} x {height}; '
            'they belong to another version of it'
        )
    return build_people(content['people'], height, width, content['order'])


class ProtocolPipeline:
    """A pipeline under a protocol, for `pipeline.io.run.run_images`.

    Attributes:
        config_text: the resolved config as Python; comments at its end carry the hashes of the
            models' configs and the protocol, so that a run never resumes with another one.
        weights: checkpoint name -> sha256, of the stages that the protocol uses.
        device: where the models run.
        precision: fp32, bf16 or fp16.
        note: one line that the config wants users to see, or an empty string.
        load_seconds: time that loading took.
        protocol_text: one line for tables.
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
        self.load_seconds = time.perf_counter() - start

    def __call__(self, image: Image, truth: People, timer: StageTimer | None = None) -> People:
        """People of an RGB uint8 image (H, W, 3); in protocols from ground truth one for each."""
        run, boxes = _arranged(self._run, self.protocol, truth)
        return run(image, boxes, timer)

    def predict_batch(
        self, images: Sequence[Image], truth: Sequence[People], timer: StageTimer | None = None
    ) -> list[People]:
        """As one call per image."""
        return [self(image, people, timer) for image, people in zip(images, truth, strict=True)]


def load_protocol(
    config: str | Path,
    cfg_options: Mapping[str, Any] | None = None,
    protocol: Protocol | None = None,
) -> ProtocolPipeline:
    """Load what a protocol needs of a pipeline; see `pipeline.api.load_pipeline`.

    Raises:
        ConfigError: a setting is wrong.
        CheckpointError: weights are absent or do not fit.
    """
    # Average precision counts the doubtful too, in their order; leaving them out lowers it.
    options = {'loop.min_score': None, **(cfg_options or {})}
    resolved = load_config(config, options)
    threshold = resolved.settings.detector.eval_score_threshold
    if threshold is not None and 'detector.score_threshold' not in options:
        resolved = load_config(config, {'detector.score_threshold': threshold, **options})
    return ProtocolPipeline(resolved, protocol or Protocol())


def _arranged(
    run: PersonPipeline | None, protocol: Protocol, truth: People
) -> tuple[PersonPipeline, Detections | None]:
    """The loop with the stages of the protocol, and the boxes that round one is given."""
    poses, masks = _TruthPoses(truth), _TruthMasks(truth)
    if run is None:  # oracle
        run = PersonPipeline(_NoDetector(), poses, masks)
    if protocol.name == 'loop':
        return run, None
    config = replace(run.config, max_rounds=1, refine=False, resolve_overlaps=None, fallback=None)
    if not protocol.from_truth:
        return replace(run, config=config), None
    # Every annotated person keeps his row, however alike two of them are.
    config = replace(config, pose_nms=PoseNMSConfig(max_oks=1.0))
    if protocol.name in ('gt_boxes', 'oracle'):
        run, config = replace(run, segmenter=masks), replace(config, boxes='detector')
    if protocol.name == 'gt_keypoints':
        run = replace(run, pose_estimator=poses)
    none = Masks.empty(*truth.image_shape, len(truth))
    seen = truth.masks if protocol.gt_masks else none
    boxes = Detections(truth.boxes, np.ones(len(truth), np.float32), seen)
    return replace(run, config=config), boxes


def _without_idle_weights(config: ResolvedConfig, protocol: Protocol) -> ResolvedConfig:
    """Stages that are not used need no weights."""
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
class _TruthPoses(PoseEstimator):
    """Annotated keypoints: score and presence 1 where labelled, visibility 1 where seen (v = 2)."""

    truth: People
    num_keypoints: int = NUM_COCO

    def __call__(self, image: Image, detections: Detections) -> Poses:
        truth = self.truth
        return Poses(
            detections.boxes, detections.box_scores, detections.detector_masks,
            truth.keypoints, truth.keypoint_scores, truth.presence, truth.visibility,
        )  # fmt: skip


@dataclass(frozen=True)
class _TruthMasks:
    """Annotated masks, of score 1."""

    truth: People

    def __call__(self, image: Image) -> PoseToMask:
        def segment(poses: Poses, others: Poses) -> Segments:
            people = len(poses)
            return Segments(
                LogitMasks.from_masks(self.truth.masks, 1.0),
                np.ones(people, np.float32),
                np.full(people, MaskSource.DETECTOR, np.int32),
                np.full((people, poses.num_keypoints), -1, np.int32),
            )

        return segment


def _prompt_text(prompt: PromptConfig) -> str:
    box = 'with' if prompt.use_box else 'without'
    return f'prompts: {prompt.num_keypoints} keypoints ({prompt.method}) {box} box'
