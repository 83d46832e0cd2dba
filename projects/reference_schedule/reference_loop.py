"""The loop in the order of work of the public reference (BBoxMaskPose v2), from our own parts.

Same models, same prompts, same decisions as our loop, so the results are equal; what differs is how
the work is laid out. As in the reference (its description is our only source):

- the image is embedded anew in every round (a segmenter that works on a crop of each person, as
  that of `bmp_compact`, embeds the crops one by one);
- masks travel as dense N x H x W arrays, those of the detector included;
- for mask conditioning the RLE of each person is decoded at image size and the whole image is
  blended, before the crop is cut; the crops of a round form one batch, with flip test;
- pose NMS compares pair by pair in Python;
- one decoder call per person, logits enlarged to the whole image in float32 and copied to the host;
- pixels are shared out over a dense N x H x W stack;
- found people are painted out one by one over the whole image.

Where the reference does more than its result needs, the cheaper way is taken: its stack is float64,
its masks go through polygons. There is no autocast.

Legend: N people, H x W image, n people of a round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.boxes import box_areas
from pipeline.detectors.mmdet_detector import MMDetDetector
from pipeline.instances import BOX_LOGIT, DETECTOR_LOGIT
from pipeline.keypoints import COCO_SIGMAS
from pipeline.loop import LoopConfig
from pipeline.nms import greedy_nms
from pipeline.openmmlab import scope_of
from pipeline.runtime.timing import StageTimer
from pipeline.scores import pose_scores
from pipeline.segmenters.prompts import Prompts, make_prompts
from pipeline.segmenters.sam2_preprocess import logits_to_image
from pipeline.segmenters.sam2_segmenter import ImageSegmenter, Sam2Segmenter
from pipeline.stages import PoseEstimator
from pipeline.structures import Detections, Floats, Image, Poses, size_of

from .crowd import Crowd
from .scripted import ScriptedPoses, expect_people

if TYPE_CHECKING:
    from torch import nn

Dense = npt.NDArray[np.bool_]  # (N, H, W)


@dataclass(frozen=True, eq=False)
class ReferenceResult:
    """What the reference's schedule gives."""

    masks: Dense  # (N, H, W), no pixel belongs to two people
    keypoints: list[Floats]  # of the real pose model, (n, 17, 2) px per round


@dataclass(frozen=True, eq=False)
class ReferenceStages:
    """The models, as the schedule needs them."""

    detector: MMDetDetector
    pose: ReferencePose
    segmenter: Sam2Segmenter
    config: LoopConfig


def run_reference(
    stages: ReferenceStages, crowd: Crowd, timer: StageTimer | None = None
) -> ReferenceResult:
    """Run the schedule once on a scripted crowd; call it inside `scripted_masks`."""
    timer = timer or StageTimer()
    image, shape = crowd.image, size_of(crowd.image)
    pose = ScriptedPoses(stages.pose, crowd)
    found = Poses.empty_poses(*shape, pose.num_keypoints)
    logits = np.zeros((0, *shape), np.float32)
    masks: Dense = np.zeros((0, *shape), bool)
    for own in crowd.detections():
        with timer('detect'):
            dense = _detect(stages.detector, _painted(image, masks), own)
        with timer('pose'):
            poses = pose(image, own)
        with timer('nms'):
            old, new = _distinct(found, poses, stages.config)
        if len(new) == 0:
            continue
        found, poses = found.select(old), poses.select(new)
        with timer('segment'):
            added = _segment(stages.segmenter, image, poses, found)
        with timer('merge'):
            added = _with_fallback(added, dense[new], poses.boxes)
            logits = np.concatenate([logits[old], added])
            masks = _resolve_overlaps(logits)
            found = found.concat(poses)
    return ReferenceResult(masks, pose.keypoints)


def _painted(image: Image, masks: Dense) -> Image:
    hidden = image.copy()
    for mask in masks:
        hidden[mask] = 0
    return hidden


def _detect(detector: MMDetDetector, image: Image, own: Detections) -> Dense:
    """Runs the detector; its dense masks (n, H, W), overwritten by those of the script."""
    expect_people(detector, len(own))
    image_bgr = np.ascontiguousarray(image[..., ::-1])
    with scope_of('mmdet'), torch.no_grad():
        data = detector.transforms({'img': image_bgr, 'img_id': 0})
        batch = {'inputs': [data['inputs']], 'data_samples': [data['data_samples']]}
        found = detector.model.test_step(batch)[0].pred_instances  # type: ignore[operator]
    masks = found.masks.cpu().numpy() if 'masks' in found else np.zeros((0, *size_of(image)), bool)
    if len(masks) != len(own):
        masks = np.zeros((len(own), *size_of(image)), bool)
    for i in range(len(own)):
        masks[i] = False
        masks[i][own.detector_masks.window(i)] = own.detector_masks.crops[i]
    return np.asarray(masks, bool)


class ReferencePose(PoseEstimator):
    """Top-down pose estimation with whole-image conditioning and one batch for all people.

    Args:
        model: pose model, flip test on.
        transforms: its whole test pipeline.
        meta: keypoint facts that travel with each sample.
        num_keypoints: K of the result.
    """

    def __init__(
        self, model: nn.Module, transforms: Any, meta: dict[str, Any], num_keypoints: int
    ) -> None:
        self.model = model
        self.transforms = transforms
        self.meta = meta
        self.num_keypoints = num_keypoints

    def __call__(self, image: Image, detections: Detections) -> Poses:
        """Keypoints only; scores, presence and visibility are left at zero."""
        from mmengine.dataset import pseudo_collate

        empty = Poses.empty_poses(*size_of(image), self.num_keypoints)
        if len(detections) == 0:
            return empty
        image_bgr = np.ascontiguousarray(image[..., ::-1])
        rles = detections.detector_masks.to_rle()
        with scope_of('mmpose'), torch.no_grad():
            batch = [self._sample(image_bgr, detections, i, rle) for i, rle in enumerate(rles)]
            found = self.model.test_step(pseudo_collate(batch))  # type: ignore[operator]
        rows = [sample.pred_instances.keypoints[:1, : self.num_keypoints] for sample in found]
        nothing = np.zeros((len(rows), self.num_keypoints), np.float32)
        return Poses(
            detections.boxes, detections.box_scores, detections.detector_masks,
            np.concatenate(rows).astype(np.float32), nothing, nothing, nothing,
        )  # fmt: skip

    def _sample(self, image_bgr: Any, detections: Detections, i: int, rle: dict[str, Any]) -> Any:
        return self.transforms({
            **self.meta,
            'img': image_bgr,
            'img_id': 0,
            'img_path': '',
            'bbox': detections.boxes[i : i + 1],
            'bbox_score': detections.box_scores[i : i + 1],
            'segmentation': rle,
        })  # fmt: skip


def _distinct(old: Poses, new: Poses, config: LoopConfig) -> tuple[Any, Any]:
    """Greedy pose NMS over a matrix filled pair by pair; rows of old and new that stay."""
    rows = old.concat(new)
    settings = config.pose_nms
    confident = rows.keypoint_scores > settings.confidence_threshold
    areas = box_areas(rows.boxes)
    similarity = np.zeros((len(rows), len(rows)))
    for i in range(len(rows)):
        for j in range(len(rows)):
            if confident[i].any():
                similarity[i, j] = _oks(
                    rows.keypoints[i], rows.keypoints[j], confident[i], areas[i]
                )
    quality = rows.box_scores * pose_scores(rows.keypoint_scores)
    kept = greedy_nms(similarity, quality, settings.max_oks)
    return kept[kept < len(old)], kept[kept >= len(old)] - len(old)


def _oks(ground_truth: Floats, other: Floats, use: npt.NDArray[np.bool_], area: float) -> float:
    squared = ((ground_truth.astype(np.float64) - other.astype(np.float64)) ** 2).sum(1)
    similar = np.exp(-squared / (2 * (2 * COCO_SIGMAS) ** 2 * (area + np.spacing(1))))
    return float(similar[use].mean())


@torch.no_grad()
def _segment(segmenter: Sam2Segmenter, image: Image, poses: Poses, others: Poses) -> Floats:
    """Logits (n, H, W) float32, one decoder call per person; all -1 without a prompt."""
    image_segmenter = segmenter(image)
    prompts = make_prompts(poses, others, segmenter.prompt)
    result = np.full((len(poses), *image_segmenter.shape), -1, np.float32)
    for i in np.flatnonzero(prompts.num_points + prompts.has_box).tolist():
        result[i] = _decode_one(image_segmenter, prompts, i)
    return result


def _decode_one(image_segmenter: ImageSegmenter, prompts: Prompts, i: int) -> Floats:
    """Logits (H, W) of one person, enlarged to the whole image or to the person's crop."""
    low_res, _, windows = image_segmenter._decode(prompts, np.array([i]))
    x1, y1, x2, y2 = windows[0].tolist()
    logits = np.full(image_segmenter.shape, -1, np.float32)
    logits[y1:y2, x1:x2] = logits_to_image(low_res[:, None], (y2 - y1, x2 - x1))[0, 0].cpu().numpy()
    # Small parts are removed on the crop; SAM 2 itself removes them before enlarging, where it is
    # cheap.
    rows, cols = np.flatnonzero((logits > 0).any(1)), np.flatnonzero((logits > 0).any(0))
    if len(rows):
        part = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
        crop = logits[part].astype(np.float16)
        logits[part] = image_segmenter.segmenter.clean(crop)
    return logits


def _with_fallback(logits: Floats, detector: Dense, boxes: Floats) -> Floats:
    """Logits in place; people without a mask get the detector's, or their box."""
    for i, own in enumerate(logits):
        if (own > 0).any():
            continue
        if detector[i].any():
            own[:] = np.where(detector[i], DETECTOR_LOGIT, -1)
            continue
        x1, y1 = np.floor(boxes[i, :2]).astype(int)
        x2, y2 = np.ceil(boxes[i, 2:]).astype(int)
        own[y1:y2, x1:x2] = BOX_LOGIT
    return logits


def _resolve_overlaps(logits: Floats) -> Dense:
    """Each pixel to the highest logit above 0; (N, H, W)."""
    owner = logits.argmax(0)
    masks = np.zeros(logits.shape, bool)
    for i in range(len(logits)):
        masks[i] = (owner == i) & (logits[i] > 0)
    return masks
