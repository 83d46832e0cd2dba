"""Stages that run the real models at their full cost while a script decides what is found.

With random weights a detector has no detections, keypoints lie anywhere and masks are noise. The
loop would take another course than in real use. Here every model runs on its usual input, and then
the ground truth of a synthetic crowd replaces its output:

- detector: its biases and limits make it return as many people, masks included, as the script has
  in this round; the boxes and masks of the script replace them;
- pose estimator: its keypoints are kept for comparisons; those of the crowd replace them;
- mask decoder: the mask of the crowd is added to its logits, squashed to +-`_SWAY`, before they
  are enlarged. Each mask has the extent of a person, and its outline still depends on the model.

All schedules of the loop run the same models and find the same people.
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

_PRIOR, _FRACTION = 8.0, 0.4  # logits per covered fraction of a cell; fraction on the outline
_SWAY = 2.0  # largest contribution of the model, in logits
_VISIBLE, _HIDDEN = 0.9, 0.1
_PERSON_BIAS = 5.0


class ScriptedDetector(Detector):
    """Runs a detector for its cost; the script provides the detections.

    Args:
        inner: the real detector, after `open_limits`.
        script: people of each round; none after its end.
    """

    def __init__(self, inner: Detector, script: Sequence[Detections]) -> None:
        self.inner = inner
        self.script = tuple(script)
        self.found: list[int] = []  # by the real detector, per call

    def __call__(self, image: Image) -> Detections:
        """People of the next round of the script."""
        rounds = len(self.found)
        empty = self.script[0].select(np.zeros(0, int))
        people = self.script[rounds] if rounds < len(self.script) else empty
        expect_people(self.inner, len(people))
        self.found.append(len(self.inner(image)))
        return people


class ScriptedPoses(PoseEstimator):
    """Runs a pose estimator for its cost; the crowd provides the keypoints, boxes are unchanged.

    Args:
        inner: the real pose estimator.
        crowd: boxes of the loop are exact copies of its boxes.
    """

    def __init__(self, inner: PoseEstimator, crowd: Crowd) -> None:
        self.inner = inner
        self.crowd = crowd
        self.num_keypoints, self.keypoint_set = inner.num_keypoints, inner.keypoint_set
        self.keypoints: list[Floats] = []  # keypoints (n, K, 2) of the real model, per call

    def __call__(self, image: Image, detections: Detections) -> Poses:
        """Poses of the crowd for every detection, same order."""
        answer = self.inner(image, detections)
        self.keypoints.append(answer.keypoints)
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


def open_limits(detector: Detector) -> None:
    """Make a detector report anything as a person, in place; see `expect_people`.

    Raises the bias of the class `person`, so that random weights find people, and removes the
    thresholds. Detectors of other heads than RTMDet's keep their biases.
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
    """Limit a detector of `open_limits` to ``number`` people per image."""
    if isinstance(detector, MMDetDetector):
        _head(detector).test_cfg.max_per_img = max(number, 1)


def _head(detector: MMDetDetector) -> Any:
    return detector.model.bbox_head


@contextmanager
def scripted_masks(segmenter: Any, crowd: Crowd) -> Iterator[None]:
    """Inside the block, masks of a SAM 2 segmenter have the extent of the crowd's people.

    The first positive click, a visible keypoint, selects the person.

    Raises:
        RuntimeError: at the end of the block, if the mask decoder was never called.
        ValueError: inside the block, if people are cropped and prompted without boxes.
    """
    decoders = [_ScriptedDecoder(segmenter.model, _WholeImage(crowd, segmenter.model))]
    crop_segmenter = getattr(segmenter, 'crop_segmenter', None)
    if crop_segmenter is not None:
        decoders.append(
            _ScriptedDecoder(crop_segmenter.model, _PersonCrops(crowd, crop_segmenter.model))
        )
    handles = [handle for decoder in decoders for handle in decoder.hooks()]
    try:
        yield
        if not any(decoder.is_called for decoder in decoders):
            raise RuntimeError('the mask decoder of the segmenter was never called')
    finally:
        for handle in handles:
            handle.remove()


class _CrowdMasks(Protocol):
    """Masks of the crowd for prompts."""

    def of(self, points: Tensor, labels: Tensor) -> Tensor:
        """Logits (n, side / 4, side / 4) for prompts: points (n, P, 2) px of the square, labels."""


class _ScriptedDecoder:
    """Hooks that add the masks of the crowd to the output of a mask decoder."""

    def __init__(self, model: Any, masks: _CrowdMasks) -> None:
        self.model = model
        self.crowd_masks = masks
        self.is_called = False
        self._masks: Tensor | None = None

    def hooks(self) -> list[Any]:
        """Handles of the hooks; remove them at the end."""
        prompts, decoder = self.model.sam_prompt_encoder, self.model.sam_mask_decoder
        return [
            prompts.register_forward_pre_hook(self._remember, with_kwargs=True),
            decoder.register_forward_hook(self._steer),
        ]

    def _remember(self, _: Any, args: Any, kwargs: dict[str, Any]) -> None:
        points, labels = kwargs['points'] if 'points' in kwargs else args[0]
        self._masks = self.crowd_masks.of(points, labels)
        self.is_called = True

    def _steer(self, _: Any, args: Any, output: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        logits, *rest = output
        assert self._masks is not None  # prompts are encoded first
        return self._masks[:, None].to(logits) + _SWAY * torch.tanh(logits), *rest


class _WholeImage:
    """The crowd in the square of the whole image."""

    def __init__(self, crowd: Crowd, model: Any) -> None:
        self.owners = _Owners(crowd, int(model.image_size), model.device)
        self.masks = _low_res_masks(crowd, int(model.image_size) // 4).to(model.device)

    def of(self, points: Tensor, labels: Tensor) -> Tensor:
        """See `_CrowdMasks`."""
        return self.masks[self.owners.of(points, labels)]


class _PersonCrops:
    """Each person in a square crop around the box prompt.

    Identical people of the crowd are not distinguished.
    """

    def __init__(self, crowd: Crowd, model: Any) -> None:
        self.cells = int(model.image_size) // 4
        corner, size = crowd.boxes[:, None, :2], crowd.boxes[:, None, 2:] - crowd.boxes[:, None, :2]
        inside = np.where(crowd.visible[..., None], (crowd.keypoints - corner) / size, np.inf)
        self.keypoints = torch.tensor(inside, dtype=torch.float32, device=model.device)
        self.crops = []
        for row, (x1, y1, x2, y2) in enumerate(crowd.boxes.round().astype(int).tolist()):
            crop = crowd.masks.dense(row)[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
            self.crops.append(crop.view(np.uint8) * np.uint8(255))

    def of(self, points: Tensor, labels: Tensor) -> Tensor:
        """See `_CrowdMasks`."""
        if not (labels[:, 0] == BOX_TOP_LEFT).all():
            raise ValueError(
                'cropped people are scripted by their boxes; set '
                'segmenter.prompt.use_box=True or segmenter.crop_segmentation=None'
            )
        clicks = _first_clicks(points, labels)
        size = (points[:, 1] - points[:, 0]).clamp(min=1e-3)
        clicked = (clicks - points[:, 0]) / size
        apart = (self.keypoints[None] - clicked[:, None, None]).square().sum(-1).amin(-1)
        masks = np.zeros((len(points), self.cells, self.cells), np.float32)
        places = (points[:, :2].reshape(-1, 4) / 4).cpu().numpy()
        for mask, row, place in zip(masks, apart.argmin(1).tolist(), places, strict=True):
            x1, y1, x2, y2 = place.round().astype(int).clip(0, self.cells - 1).tolist()
            width, height = max(x2 - x1, 1), max(y2 - y1, 1)
            crop = cv2.resize(self.crops[row], (width, height), interpolation=cv2.INTER_AREA)
            mask[y1 : y1 + height, x1 : x1 + width] = crop / np.float32(255)
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
        """Index in the crowd for each prompt: points (n, P, 2) px of the square, labels (n, P)."""
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
        covered = cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA) / np.float32(255)
        result[i] = _soft(covered)
    return torch.from_numpy(result)


def _soft(covered: Floats) -> Floats:
    """Logits of a mask from the fraction of each cell that it covers."""
    logits: Floats = _PRIOR * (cv2.GaussianBlur(covered, (0, 0), 1.0) - _FRACTION)
    return logits
