"""Stages that run the real models at their full cost while a script decides what is found.

With random weights a detector finds nobody, keypoints lie anywhere and masks are noise, so neither
the course of the loop nor its cost would be that of real use. Here every model runs on the very
input that it would get, and then the truth of a made-up crowd takes over:

- detector: its biases and limits are set so that it returns, masks included, as many people as the
  script has in this round; then the script's boxes and masks go on to the loop;
- pose estimator: its answer is kept (for comparisons), the crowd's keypoints go on;
- mask decoder: the crowd's own mask is added to the decoder's answer, squashed to +-`_SWAY`, before
  anything is enlarged. So each mask has the extent of a person, and its outline still follows what
  the model says: by some cells of the low-resolution mask.

What each model computes is the same for all schedules of the loop, and so is what is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
import torch

from pipeline.detectors.mmdet_detector import MMDetDetector
from pipeline.segmenters.sam2_forward import BOX_TOP_LEFT, POINT_POSITIVE
from pipeline.stages import Detector, PoseEstimator
from pipeline.structures import Detections, Floats, Image, Poses

from .crowd import Crowd

if TYPE_CHECKING:
    from torch import Tensor

_PRIOR, _SHARE = 8.0, 0.4  # logits per share of a cell covered; share that is on the outline
_SWAY = 2.0  # logits by which the model's own answer counts at most
_VISIBLE, _HIDDEN = 0.9, 0.1
_PERSON_BIAS = 5.0


class PlayedDetector(Detector):
    """Runs a detector for its cost; what it finds comes from the script.

    Args:
        inner: the real detector, after `open_limits`.
        script: people of each round; nobody after its end.
    """

    def __init__(self, inner: Detector, script: Sequence[Detections]) -> None:
        self.inner = inner
        self.script = tuple(script)
        self.found: list[int] = []  # by the real detector, per call

    def __call__(self, image: Image) -> Detections:
        """People of the next round of the script."""
        rounds = len(self.found)
        nobody = self.script[0].select(np.zeros(0, int))
        own = self.script[rounds] if rounds < len(self.script) else nobody
        expect_people(self.inner, len(own))
        self.found.append(len(self.inner(image)))
        return own


class PlayedPoses(PoseEstimator):
    """Runs a pose estimator for its cost; keypoints come from the crowd, boxes stay as they are.

    Args:
        inner: the real pose estimator.
        crowd: boxes of the loop are exact copies of its boxes.
    """

    def __init__(self, inner: PoseEstimator, crowd: Crowd) -> None:
        self.inner = inner
        self.crowd = crowd
        self.num_keypoints, self.keypoint_set = inner.num_keypoints, inner.keypoint_set
        self.answers: list[Floats] = []  # keypoints (n, K, 2) of the real model, per call

    def __call__(self, image: Image, detections: Detections) -> Poses:
        """Poses of the crowd for every detection, same order."""
        answer = self.inner(image, detections)
        self.answers.append(answer.keypoints)
        rows = self.crowd.rows_of(detections.boxes)
        seen = np.where(self.crowd.visible[rows], _VISIBLE, _HIDDEN).astype(np.float32)
        return replace(
            answer,
            boxes=detections.boxes,
            box_scores=detections.box_scores,
            keypoints=self.crowd.keypoints[rows],
            keypoint_scores=seen,
            presence=np.ones_like(seen),
            visibility=seen,
        )


class HasModel(Protocol):
    """A stage around one network."""

    model: Any


def open_limits(detector: Detector) -> None:
    """Lets a detector report anything as a person, in place; see `expect_people`.

    The bias of the class `person` is raised, so that random weights find people too, and the
    thresholds are taken away. Detectors of other heads than RTMDet's keep their biases.
    """
    if not isinstance(detector, MMDetDetector):
        return
    detector.score_threshold, detector.max_iou = 0.0, None
    head = _head(detector)
    head.test_cfg.score_thr = 0.0
    for layer in getattr(head, 'rtm_cls', ()):
        with torch.no_grad():
            layer.bias[0] += _PERSON_BIAS


def expect_people(detector: Detector, number: int) -> None:
    """Limits a detector of `open_limits` to so many people per image."""
    if isinstance(detector, MMDetDetector):
        _head(detector).test_cfg.max_per_img = max(number, 1)


def _head(detector: MMDetDetector) -> Any:
    return detector.model.bbox_head


@contextmanager
def played_masks(segmenter: HasModel, crowd: Crowd) -> Iterator[None]:
    """Inside the block, masks of a SAM 2 segmenter have the extent of the crowd's people.

    Whose mask is asked for is told by the first positive click, a visible keypoint of that person.

    Raises:
        RuntimeError: at the end of the block, if the mask decoder was never called.
        ValueError: inside the block, if people are cut out and prompted without their boxes.
    """
    plays = [_Play(segmenter.model, _WholePhoto(crowd, segmenter.model))]
    crop_segmenter = getattr(segmenter, 'crop_segmenter', None)
    if crop_segmenter is not None:
        plays.append(_Play(crop_segmenter.model, _CutOuts(crowd, crop_segmenter.model)))
    handles = [handle for play in plays for handle in play.hooks()]
    try:
        yield
        if not any(play.was_asked for play in plays):
            raise RuntimeError('the mask decoder of the segmenter was never called')
    finally:
        for handle in handles:
            handle.remove()


class _Truth(Protocol):
    """Tells what the crowd's masks are."""

    def of(self, points: Tensor, labels: Tensor) -> Tensor:
        """Logits (n, side / 4, side / 4) for prompts: points (n, P, 2) px of the square, labels."""


class _Play:
    """Hooks that make one model play."""

    def __init__(self, model: Any, truth: _Truth) -> None:
        self.model = model
        self.truth = truth
        self.was_asked = False
        self._masks: Tensor | None = None

    def hooks(self) -> list[Any]:
        """Handles of the hooks, to be removed after the play."""
        prompts, decoder = self.model.sam_prompt_encoder, self.model.sam_mask_decoder
        return [
            prompts.register_forward_pre_hook(self._remember, with_kwargs=True),
            decoder.register_forward_hook(self._steer),
        ]

    def _remember(self, _: Any, args: Any, kwargs: dict[str, Any]) -> None:
        points, labels = kwargs['points'] if 'points' in kwargs else args[0]
        self._masks = self.truth.of(points, labels)
        self.was_asked = True

    def _steer(self, _: Any, args: Any, output: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        logits, *rest = output
        assert self._masks is not None  # prompts are encoded first
        return self._masks[:, None].to(logits) + _SWAY * torch.tanh(logits), *rest


class _WholePhoto:
    """The crowd in the square of the whole photo."""

    def __init__(self, crowd: Crowd, model: Any) -> None:
        self.owners = _Owners(crowd, int(model.image_size), model.device)
        self.masks = _low_res_masks(crowd, int(model.image_size) // 4).to(model.device)

    def of(self, points: Tensor, labels: Tensor) -> Tensor:
        """See `_Truth`."""
        return self.masks[self.owners.of(points, labels)]


class _CutOuts:
    """Each person in the square of its own window, which the box prompt tells.

    People of the crowd who are copies of each other are told apart no further.
    """

    def __init__(self, crowd: Crowd, model: Any) -> None:
        self.cells = int(model.image_size) // 4
        corner, size = crowd.boxes[:, None, :2], crowd.boxes[:, None, 2:] - crowd.boxes[:, None, :2]
        shares = np.where(crowd.visible[..., None], (crowd.keypoints - corner) / size, np.inf)
        self.shares = torch.tensor(shares, dtype=torch.float32, device=model.device)
        self.cuts = []
        for row, (x1, y1, x2, y2) in enumerate(crowd.boxes.round().astype(int).tolist()):
            cut = crowd.masks.dense(row)[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
            self.cuts.append(cut.view(np.uint8) * np.uint8(255))

    def of(self, points: Tensor, labels: Tensor) -> Tensor:
        """See `_Truth`."""
        if not (labels[:, 0] == BOX_TOP_LEFT).all():
            raise ValueError(
                'people who are cut out are played by their boxes; set '
                'segmenter.prompt.use_box=True or segmenter.crop_segmentation=None'
            )
        clicks = _first_clicks(points, labels)
        size = (points[:, 1] - points[:, 0]).clamp(min=1e-3)
        clicked = (clicks - points[:, 0]) / size
        apart = (self.shares[None] - clicked[:, None, None]).square().sum(-1).amin(-1)
        masks = np.zeros((len(points), self.cells, self.cells), np.float32)
        places = (points[:, :2].reshape(-1, 4) / 4).cpu().numpy()
        for mask, row, place in zip(masks, apart.argmin(1).tolist(), places, strict=True):
            x1, y1, x2, y2 = place.round().astype(int).clip(0, self.cells - 1).tolist()
            width, height = max(x2 - x1, 1), max(y2 - y1, 1)
            cut = cv2.resize(self.cuts[row], (width, height), interpolation=cv2.INTER_AREA)
            mask[y1 : y1 + height, x1 : x1 + width] = cut / np.float32(255)
            mask[:] = _soft(mask)
        return torch.from_numpy(masks).to(points.device)


class _Owners:
    """Finds the person that a click belongs to."""

    def __init__(self, crowd: Crowd, side: int, device: Any) -> None:
        people, points = np.nonzero(crowd.visible)
        height, width = crowd.image.shape[:2]
        scaled = crowd.keypoints[people, points] / [width, height] * side
        self.points = torch.tensor(scaled, dtype=torch.float32, device=device)
        self.people = torch.tensor(people, device=device)

    def of(self, points: Tensor, labels: Tensor) -> Tensor:
        """Row of the crowd of each prompt: points (n, P, 2) px of the square, labels (n, P)."""
        clicks = _first_clicks(points, labels)
        return self.people[torch.cdist(clicks.float(), self.points).argmin(1)]


def _first_clicks(points: Tensor, labels: Tensor) -> Tensor:
    """First positive click (n, 2) of prompts: points (n, P, 2), labels (n, P)."""
    first = (labels == POINT_POSITIVE).int().argmax(1)
    return points[torch.arange(len(points), device=points.device), first]


def _low_res_masks(crowd: Crowd, side: int) -> Tensor:
    """Logits (N, side, side) float16 of the crowd's masks, soft at the outline."""
    result = np.zeros((len(crowd), side, side), np.float16)
    for i in range(len(crowd)):
        mask = crowd.masks.dense(i).view(np.uint8) * np.uint8(255)
        share = cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA) / np.float32(255)
        result[i] = _soft(share)
    return torch.from_numpy(result)


def _soft(share: Floats) -> Floats:
    """Logits of a mask from the share of each cell that it covers."""
    logits: Floats = _PRIOR * (cv2.GaussianBlur(share, (0, 0), 1.0) - _SHARE)
    return logits
