"""Detection stage: any MMDetection detector, with or without masks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from mmengine.dataset import pseudo_collate

from ..boxes import clip_boxes
from ..masks import Masks
from ..openmmlab import build_model, building_from, read_model_config, scope_of
from ..runtime.options import ON_CPU, RuntimeOptions
from ..runtime.precision import optimize_modules
from ..stages import Detector
from ..structures import Detections, Image, size_of
from .class_count import find_person_class, fit_class_count
from .compact_masks import use_compact_masks
from .image_steps import build_image_transforms
from .selection import select_people

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn


@dataclass(eq=False)
class MMDetDetector(Detector):
    """Runs an MMDetection model and keeps the people."""

    model: nn.Module  # in evaluation mode, on its device
    transforms: Any  # test pipeline of the model, from an image array to packed inputs
    _: KW_ONLY
    score_threshold: float  # boxes with this score or a lower one are dropped
    max_iou: float | None  # threshold of the box NMS between people; None disables it
    max_people: int | None = None  # best people that are kept; None: all
    batch_size: int = 1  # images per forward pass; their inputs must have the same size
    person: int = 0  # label of people

    def __call__(self, image: Image) -> Detections:
        """Detect people in an RGB uint8 image (H, W, 3), highest score first."""
        return self.predict_batch([image])[0]

    def predict_batch(self, images: Sequence[Image]) -> list[Detections]:
        """Detect people in every image; inputs of the same size share forward passes."""
        detections: dict[int, Detections] = {}
        with scope_of('mmdet'), torch.inference_mode():
            samples = [self._pack(image) for image in images]
            for rows in _batches(samples, self.batch_size):
                batch = pseudo_collate([samples[i] for i in rows])
                results = self.model.test_step(batch)  # type: ignore[operator]
                for i, result in zip(rows, results, strict=True):
                    detections[i] = self._select(result.pred_instances, size_of(images[i]))
        return [detections[i] for i in range(len(images))]

    def _pack(self, image: Image) -> dict[str, Any]:
        image_bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)  # MMDetection's pipelines take BGR
        try:
            packed: dict[str, Any] = self.transforms({'img': image_bgr, 'img_id': 0})
        except cv2.error as error:
            height, width = size_of(image)
            raise ValueError(
                f'the image has {width} x {height} px, too thin for the detector, which scales it '
                'to less than one pixel; crop the longer side'
            ) from error
        return packed

    def _select(self, instances: Any, shape: tuple[int, int]) -> Detections:
        boxes, scores, labels = (
            instances[name].float().cpu().numpy() for name in ('bboxes', 'scores', 'labels')
        )
        keep = select_people(
            boxes,
            scores,
            labels,
            score_threshold=self.score_threshold,
            max_iou=self.max_iou,
            max_people=self.max_people,
            person=self.person,
        )
        inside = clip_boxes(boxes[keep], shape).astype(np.float32)
        return Detections(inside, scores[keep], _masks(instances, keep, shape))


def _batches(samples: Sequence[Mapping[str, Any]], size: int) -> Iterator[list[int]]:
    """Yield rows of samples with the same input shape, at most ``size`` at a time."""
    groups: dict[Any, list[int]] = {}
    for i, sample in enumerate(samples):
        groups.setdefault(tuple(sample['inputs'].shape), []).append(i)
    for rows in groups.values():
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


def _masks(instances: Any, keep: Any, shape: tuple[int, int]) -> Masks:
    if 'masks' not in instances:
        return Masks.empty(*shape, len(keep))
    if isinstance(instances.masks, Masks):
        return instances.masks.select(keep)
    # Copy one mask at a time from the device; most raw detections are dropped.
    return Masks.from_dense((instances.masks[i].cpu().numpy() for i in keep.tolist()), shape)


def build_mmdet_detector(
    config: str,
    checkpoint: Path | None,
    runtime: RuntimeOptions = ON_CPU,
    *,
    score_threshold: float = 0.3,
    max_iou: float | None = 0.3,
    max_people: int | None = None,
    batch_size: int = 1,
    ignorable: tuple[str, ...] = (),
    person_class: str | int | None = None,
) -> MMDetDetector:
    """Build a detector from a config (file or ``mmdet::name``) and weights (None: random).

    Raises:
        CheckpointError: The weights do not fit the config, or no class is the person.
    """
    loaded = read_model_config(config, 'mmdet')
    if checkpoint is not None:
        fit_class_count(loaded, checkpoint)
    use_compact_masks(loaded)
    if not runtime.on_cpu or 'roi_head' in loaded.model:
        from ..runtime.mmcv_ops import use_torchvision_ops

        use_torchvision_ops(loaded.model, runtime.device)
    _raise_limits(loaded.model.get('test_cfg'), score_threshold, max_people)
    model, meta = build_model(loaded, checkpoint, 'mmdet', ignorable)
    with warnings.catch_warnings():  # about a call of MMDetection; torch warns once per process
        warnings.simplefilter('ignore')
        torch.meshgrid(torch.zeros(1))
    person = find_person_class(loaded, meta, person_class, config)
    optimize_modules(model, ('backbone', 'neck'), runtime)
    return MMDetDetector(
        model.to(runtime.device),
        _transforms(loaded),
        score_threshold=score_threshold,
        max_iou=max_iou,
        max_people=max_people,
        batch_size=batch_size,
        person=person,
    )


def _raise_limits(test_cfg: Any, score_threshold: float, max_people: int | None) -> None:
    """Raise the limits of the model to those of the stage, in place.

    A higher score threshold changes no result, because greedy NMS never removes a higher score for
    a lower one. It avoids masks of boxes that are dropped anyway. The maximum number of boxes is
    never lowered: it counts all classes, so other objects would displace people.
    """
    for key, value in (('score_thr', score_threshold), ('max_per_img', max_people)):
        if test_cfg and key in test_cfg and value is not None:
            test_cfg[key] = max(test_cfg[key], value)


def _transforms(config: Config) -> Any:
    from mmcv.transforms import Compose
    from mmdet.utils import get_test_pipeline_cfg

    steps = [dict(step) for step in get_test_pipeline_cfg(config)]
    steps = [step for step in steps if not str(step['type']).endswith('LoadAnnotations')]
    steps[0] = {'type': 'mmdet.LoadImageFromNDArray'}
    with building_from('mmdet'):
        return build_image_transforms(steps) or Compose(steps)
