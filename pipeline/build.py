"""Build a pipeline from its settings; the only module that maps settings to classes."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Literal

from .config import (
    CONFIG_FOLDER,
    ConfigError,
    DetectorConfig,
    PipelineConfig,
    PoseConfig,
    ResolvedConfig,
    SegmenterConfig,
    find_model_config,
    load_config,
)
from .loop import PersonPipeline
from .openmmlab import Library, read_model_config
from .runtime.malloc import release_freed
from .runtime.options import RuntimeOptions
from .stages import Detector, PoseEstimator, Segmenter
from .weights.checkpoints import Weights, find_all_weights, find_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuiltPipeline:
    """A pipeline that is ready to run, with its weights and configs."""

    run: PersonPipeline
    weights: tuple[Weights, ...]
    model_configs: tuple[str, ...]  # name and sha256 of each model's own config
    device: str


def build_pipeline(resolved: ResolvedConfig) -> BuiltPipeline:
    """Build the three models and the loop around them.

    All files are looked up before the first model is built, so a wrong name fails at once.

    Raises:
        ConfigError: A config file or the device is missing.
        CheckpointError: Weights are missing or do not fit.
    """
    settings = resolved.settings
    stages = _stages(settings)
    configs = [find_model_config(stage.config, resolved.path) for stage in stages]
    weights = find_pipeline_weights(resolved)
    hashes = tuple(
        f'{stage.config}: sha256 {hashlib.sha256(_read_config(path).encode()).hexdigest()}'
        for stage, path in zip(stages, configs, strict=True)
    )
    _check_compiler(settings.runtime)
    runtime = _resolve_device(settings.runtime)
    _check_segmenter_config(configs[2])
    _warn_of_random_weights(settings)
    detector, later_detector = _detectors(settings, configs[0], weights[0], runtime)
    loop = PersonPipeline(
        detector,
        _pose_estimator(settings, configs[1], weights[1], runtime),
        _segmenter(settings, configs[2], weights[2], runtime),
        settings.loop,
        later_detector,
        release_freed if runtime.freed_memory and runtime.on_cpu else None,
    )
    return BuiltPipeline(loop, tuple(w for w in weights if w), hashes, runtime.device)


def build_pose_estimator(resolved: ResolvedConfig) -> PoseEstimator:
    """Build only the pose estimator of a pipeline.

    Raises:
        ConfigError: The config file or the device is missing.
        CheckpointError: The weights are missing or do not fit.
    """
    part = resolved.settings.pose
    config = find_model_config(part.config, resolved.path)
    weights = find_weights(part.checkpoint, resolved.path) if part.checkpoint else None
    runtime = _resolve_device(resolved.settings.runtime)
    return _pose_estimator(resolved.settings, config, weights, runtime)


def _read_config(path: str) -> str:
    """Text of a model config with its bases; imports `pipeline.registry` if the config does."""
    if not path.endswith('.py'):
        return Path(path).read_text() if Path(path).is_file() else path
    library: Library = 'mmpose' if path.startswith('mmpose::') else 'mmdet'
    config = read_model_config(path, library)
    # MMEngine's own import of `pipeline` has no effect, because `pipeline` is already imported.
    if 'pipeline' in (config.get('custom_imports') or {}).get('imports', ()):
        import_module('pipeline.registry')
    return json.dumps(config.to_dict(), sort_keys=True, default=str)


def find_pipeline_weights(resolved: ResolvedConfig) -> list[Weights | None]:
    """Find the weights of detector, pose estimator and segmenter; None where none are configured.

    Raises:
        CheckpointError: Files are missing or damaged; the message lists all of them and the
            command that downloads them.
    """
    named = named_weights(resolved)

    def command(absent: list[str]) -> str:
        from .weights.messages import fetch_command

        # Overrides may replace the weights that the file names.
        if not set(absent) <= set(named_weights(load_config(resolved.path))):
            return fetch_command(*absent)
        shipped = resolved.path.parent.resolve() == CONFIG_FOLDER
        return fetch_command('--pipeline', resolved.path.stem if shipped else str(resolved.path))

    return find_all_weights(named, resolved.path, command)


def named_weights(resolved: ResolvedConfig) -> list[str | None]:
    """Checkpoint names of detector, pose estimator and segmenter."""
    return [stage.checkpoint for stage in _stages(resolved.settings)]


def _stages(settings: PipelineConfig) -> tuple[DetectorConfig | PoseConfig | SegmenterConfig, ...]:
    return settings.detector, settings.pose, settings.segmenter


def pick_device(device: str) -> str:
    """Return the device to use; ``auto`` selects CUDA if available."""
    import torch

    if device == 'auto':
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        if torch.empty(0, device=device).is_meta:
            raise ValueError('it computes nothing')
    except Exception as error:  # its kind depends on the device
        reason = re.split(r'\n|\. ', str(error).strip())[0][:120] or type(error).__name__
        raise ConfigError(
            f'device {device!r} cannot be used here ({reason}); try auto or cpu'
        ) from error
    return device


def _detectors(
    settings: PipelineConfig, config: str, weights: Weights | None, runtime: RuntimeOptions
) -> tuple[Detector, Detector | None]:
    """Detector of round one, and that of later rounds where it differs."""
    from .detectors.mmdet_detector import build_mmdet_detector

    part = settings.detector
    detector = build_mmdet_detector(
        config,
        weights.path if weights else None,
        runtime,
        score_threshold=part.score_threshold,
        max_iou=part.max_iou,
        max_people=part.max_people,
        batch_size=_batch_size(part.batch_size, runtime, 8, 1),
        ignorable=_ignorable(part, weights),
        person_class=part.person_class,
    )
    if part.slices.grid is None:
        return detector, None
    from .detectors.slices import SlicedDetector

    sliced = SlicedDetector(detector, part.slices, part.max_people)
    return (detector, sliced) if part.slices.from_round == 2 else (sliced, None)


def _pose_estimator(
    settings: PipelineConfig, config: str, weights: Weights | None, runtime: RuntimeOptions
) -> PoseEstimator:
    from .poses.mmpose_estimator import build_mmpose_estimator

    part = settings.pose
    try:
        return build_mmpose_estimator(
            config,
            weights.path if weights else None,
            runtime,
            batch_size=_batch_size(part.batch_size, runtime, 32, 8),
            flip_test=part.flip_test,
            mask_conditioning=part.mask_conditioning,
            refine_boxes=part.refine_boxes,
            coco_only=part.keypoints == 'coco17',
            ignorable=_ignorable(part, weights),
        )
    except ValueError as error:
        raise ConfigError(f'pose.config: {error}') from error


def _batch_size(
    size: int | Literal['auto'], runtime: RuntimeOptions, on_gpu: int, on_cpu: int
) -> int:
    """People or images per forward pass; larger batches keep a GPU busy."""
    if size != 'auto':
        return size
    return on_cpu if runtime.on_cpu else on_gpu


def _check_compiler(runtime: RuntimeOptions) -> None:
    """Fail now instead of at the first image, where `torch.compile` needs the compiler."""
    if runtime.compile is not None and not any(map(shutil.which, ('c++', 'g++', 'clang++'))):
        raise ConfigError(
            f'runtime.compile={runtime.compile!r} needs a C++ compiler, and none of c++, g++ and '
            'clang++ is on the PATH; install one (Debian: g++) or set runtime.compile=None'
        )


def _resolve_device(runtime: RuntimeOptions) -> RuntimeOptions:
    """Replace ``auto`` by a device and warn about emulated precision."""
    from .runtime.precision import warn_of_emulation

    resolved = replace(runtime, device=pick_device(runtime.device))
    warn_of_emulation(resolved)
    return resolved


def _warn_of_random_weights(settings: PipelineConfig) -> None:
    for name, stage in zip(('detector', 'pose', 'segmenter'), _stages(settings), strict=True):
        if stage.checkpoint is None:
            logger.warning('%s.checkpoint is None: its weights are random', name)


def _check_segmenter_config(config: str) -> None:
    """Check the SAM config before the other two models are built."""
    from .segmenters.build_sam2 import load_model_config

    try:
        load_model_config(config)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(f'segmenter.config: {error}') from error


def _segmenter(
    settings: PipelineConfig, config: str, weights: Weights | None, runtime: RuntimeOptions
) -> Segmenter:
    from .segmenters.sam2_segmenter import build_sam2_segmenter

    part = settings.segmenter
    return build_sam2_segmenter(
        config,
        weights.path if weights else None,
        part.prompt,
        runtime,
        batch_size=_batch_size(part.batch_size, runtime, 16, 1),
        channel_order=part.channel_order,
        min_component_area=part.min_component_area,
        min_component_fraction=part.min_component_fraction,
        max_hole_area=part.max_hole_area,
        mask_prompt_from_keypoints=part.mask_prompt_from_keypoints,
        prompt_with_mask_box=part.prompt_with_mask_box,
        crops=part.crop_segmentation,
        lean=part.encoder == 'lean',
        ignorable=_ignorable(part, weights),
    )


def _ignorable(
    part: DetectorConfig | PoseConfig | SegmenterConfig, weights: Weights | None
) -> tuple[str, ...]:
    return part.ignorable + (weights.ignorable if weights else ())
