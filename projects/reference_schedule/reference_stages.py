"""The models of a case as the reference's schedule runs them: stock parts, float32, flip test."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import replace
from typing import Any

from pipeline.config import ResolvedConfig, find_model_config, load_config
from pipeline.detectors.mmdet_detector import MMDetDetector
from pipeline.openmmlab import read_model_config, scope_of
from pipeline.poses.mask_background import MaskBackground
from pipeline.poses.mmpose_estimator import MMPoseEstimator
from pipeline.poses.released_config import stock_config
from pipeline.segmenters.sam2_segmenter import Sam2Segmenter

from .case import Case, build
from .reference_loop import ReferencePose, ReferenceStages


def reference_stages(case: Case) -> ReferenceStages:
    """The models of a case, for `run_reference`.

    Raises:
        ValueError: the config builds another kind of stage than the reference has.
    """
    own = {'pose.flip_test': True, 'segmenter.encoder': None, 'runtime.precision': 'fp32'}
    case = replace(case, options={**case.options, **own})
    pipeline = build(case)
    detector, pose, segmenter = pipeline.detector, pipeline.pose_estimator, pipeline.segmenter
    if not (
        isinstance(detector, MMDetDetector)
        and isinstance(pose, MMPoseEstimator)
        and isinstance(segmenter, Sam2Segmenter)
    ):
        kinds = ', '.join(type(s).__name__ for s in (detector, pose, segmenter))
        raise ValueError(
            f'the reference schedule knows stages of MMDetection, MMPose and SAM 2, got {kinds}'
        )
    resolved = load_config(case.config, case.settings())
    with redirect_stdout(io.StringIO()):  # what OneDL's packages print when imported
        detector.transforms = _detector_steps(resolved)
        steps = _pose_steps(resolved)
    _as_in_mmdet(detector)
    reference = ReferencePose(pose.model, steps, pose.dataset_meta, pose.num_keypoints)
    return ReferenceStages(detector, reference, segmenter, pipeline.config)


def _as_in_mmdet(detector: MMDetDetector) -> None:
    """Gives the detector's head the class of MMDetection that ours derives from.

    Its layers are the same; its own post-processing makes dense masks.
    """
    head = detector.model.bbox_head
    kinds = type(head).__mro__
    head.__class__ = next(k for k in kinds if k.__module__.startswith('mmdet.'))


def _detector_steps(resolved: ResolvedConfig) -> Any:
    """The test pipeline of the detector's config, for images in memory."""
    from mmcv.transforms import Compose
    from mmdet.utils import get_test_pipeline_cfg

    config = find_model_config(resolved.settings.detector.config, resolved.path)
    steps = [dict(step) for step in get_test_pipeline_cfg(read_model_config(config, 'mmdet'))]
    steps[0] = {'type': 'mmdet.LoadImageFromNDArray'}
    with scope_of('mmdet'):
        return Compose([s for s in steps if not s['type'].endswith('LoadAnnotations')])


def _pose_steps(resolved: ResolvedConfig) -> Any:
    """The test pipeline of the pose config as it stands, the dimming of the image included."""
    from mmcv.transforms import Compose
    from mmpose.registry import TRANSFORMS

    part = resolved.settings.pose
    config = find_model_config(part.config, resolved.path)
    loaded = stock_config(read_model_config(config, 'mmpose'))
    loader = loaded.get('test_dataloader') or loaded.get('val_dataloader')
    with scope_of('mmpose'):
        steps = [TRANSFORMS.build(step) for step in loader.dataset.pipeline]
    if not part.mask_conditioning:
        steps = [step for step in steps if not isinstance(step, MaskBackground)]
    return Compose(steps)
