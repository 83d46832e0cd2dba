"""Settings: MMEngine Python configs, checked against typed dataclasses before anything loads.

A pipeline config is a Python file with the names ``detector``, ``pose``, ``segmenter``, ``loop``,
``tracking`` and ``runtime``, each a dict of the fields below. Unknown keys and wrong types fail
here.

Some settings compensate for the weaknesses of small models. Only `bmp_compact` sets them; their
defaults are off. In each class below they come last, under "For the compact models". In
`LoopConfig` they are ``max_covered_fraction``, ``boxes``, ``refine_keypoints``, ``refine_masks``,
``min_score``, ``resolve_overlaps='scored_logits'`` and all of ``score``.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from .config_file import ConfigError as ConfigError
from .config_file import merge_overrides, read_config
from .detectors.slice_config import SliceConfig
from .loop import LoopConfig
from .resources import ROOT
from .runtime.options import RuntimeOptions
from .segmenters.crop_segmentation import CropSegmentationConfig
from .segmenters.prompts import PromptConfig
from .tracking.config import TrackingConfig
from .values import check_ranges, shorten

CONFIG_FOLDER = ROOT / 'configs'

MAX_NUMBER = 2**31 - 1  # of a setting
MAX_TEXT = 1000  # characters of a setting

T = TypeVar('T')
_TEXTS = tuple[str, ...]


@dataclass(frozen=True)
class DetectorConfig:
    """An MMDetection detector."""

    config: str  # file (relative to configs/), or mmdet::name
    checkpoint: str | None  # name in the manifest or file; None: random weights
    score_threshold: float = 0.3  # detections with a lower score are dropped
    max_iou: float | None = 0.3  # box NMS between people; None: off
    max_people: int | None = None  # best boxes kept per round; None: value of the model's config
    # Images per forward pass; auto: GPU 8, CPU 1. On a CPU batches change the last bits of results.
    batch_size: int | Literal['auto'] = 'auto'
    slices: SliceConfig = field(default_factory=SliceConfig)
    ignorable: tuple[str, ...] = ()  # prefixes of keys of the checkpoint that need not fit
    person_class: str | int | None = None  # name or number of the class; None: found by its name

    # For the compact models.
    eval_score_threshold: float | None = None  # For average precision; None: score_threshold

    def __post_init__(self) -> None:
        check_ranges(
            self, 'detector', score_threshold='in [0, 1]', eval_score_threshold='in [0, 1]',
            max_iou='in [0, 1]', max_people='>= 1', batch_size='>= 1',
        )  # fmt: skip


@dataclass(frozen=True)
class PoseConfig:
    """An MMPose top-down pose estimator."""

    config: str  # file (relative to configs/), or mmpose::name
    checkpoint: str | None  # name in the manifest or file; None: random weights
    batch_size: int | Literal['auto'] = 'auto'  # people per forward pass; auto: GPU 32, CPU 8
    flip_test: bool | None = None  # None: value of the model's config
    mask_conditioning: bool = True  # pass the detector's masks to `MaskBackground`
    # Keypoints of the result: all that the model predicts, or only COCO's 17.
    keypoints: Literal['all', 'coco17'] = 'all'
    ignorable: tuple[str, ...] = ()  # as in the detector

    # For the compact models.
    refine_boxes: bool = False  # Replace the detector's boxes by those of a PMPoseBoxHead

    def __post_init__(self) -> None:
        check_ranges(self, 'pose', batch_size='>= 1')


@dataclass(frozen=True)
class SegmenterConfig:
    """A SAM 2.1 model prompted by poses."""

    config: str  # file (relative to configs/), or a name of the sam2 package
    checkpoint: str | None  # name in the manifest or file; None: random weights
    batch_size: int | Literal['auto'] = 'auto'  # people per decoder call; auto: GPU 16, CPU 4
    channel_order: Literal['rgb', 'bgr'] = 'rgb'  # bgr: as in the reference (its B2)
    encoder: Literal['lean'] | None = 'lean'  # lean: equal results, less memory
    prompt: PromptConfig = field(default_factory=PromptConfig)
    ignorable: tuple[str, ...] = ()  # as in the detector

    # For the compact models. The first three clean masks; the others need a model trained for them.
    min_component_area: int = 0  # Area in px; smaller connected components are removed; 0: off
    min_component_fraction: float = 0.0  # components below this fraction of the mask too; 0: off
    max_hole_area: int = 0  # px; smaller holes are filled; 0: off
    mask_prompt_from_keypoints: bool = False  # also draw the keypoint prompts as SAM's mask prompt
    # Without a box prompt, SAM runs again with the box of the first mask; the logits are averaged.
    prompt_with_mask_box: bool = False
    # Crop each person and embed the crops one by one; None: off.
    crop_segmentation: CropSegmentationConfig | None = None

    def __post_init__(self) -> None:
        check_ranges(
            self, 'segmenter', batch_size='>= 1', min_component_area='>= 0', max_hole_area='>= 0',
            min_component_fraction='in [0, 1)',
        )  # fmt: skip


@dataclass(frozen=True)
class PipelineConfig:
    """A whole pipeline."""

    detector: DetectorConfig
    pose: PoseConfig
    segmenter: SegmenterConfig
    loop: LoopConfig = field(default_factory=LoopConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)


@dataclass(frozen=True)
class ResolvedConfig:
    """Checked settings and their source."""

    settings: PipelineConfig
    text: str  # the whole config as Python, overrides and bases merged
    path: Path


def load_config(config: str | Path, options: Mapping[str, Any] | None = None) -> ResolvedConfig:
    """Load the settings of a named pipeline or a config file.

    Args:
        config: Name of a file in ``configs/`` (``bmp_compact``) or a path to a Python config.
        options: Overrides, e.g. ``{'loop.max_rounds': 1}``.

    Raises:
        ConfigError: no such config, an unknown key, a wrong type or value.
    """
    path = find_config(config)
    loaded = read_config(path, lazy_import=False)
    merge_overrides(loaded, options or {}, path)
    # Names with a leading underscore are helpers of the file (MMEngine drops `_base_`).
    values = {k: v for k, v in loaded.to_dict().items() if not k.startswith('_')}
    try:
        settings = parse(PipelineConfig, values, '')
    except ConfigError as error:
        raise ConfigError(f'{path}: {error}') from error
    return ResolvedConfig(settings, str(loaded.pretty_text), path)


def find_model_config(name: str, beside: Path) -> str:
    """Find the config of a model.

    ``mmdet::...``, ``mmpose::...`` and names of the ``sam2`` package pass through. A file is
    searched as an absolute path, beside the pipeline config, and in ``configs/``, but not in the
    working directory.
    """
    if '::' in name:
        return name
    for folder in (beside.resolve().parent, CONFIG_FOLDER):
        if (folder / name).is_file():
            return str(folder / name)
    if name.endswith('.py') or Path(name).is_absolute():
        raise ConfigError(
            f'no model config {name!r}: neither an absolute path, nor beside {beside}, '
            f'nor in {CONFIG_FOLDER}'
        )
    return name


def find_config(config: str | Path) -> Path:
    """Path of a pipeline config given by name or path."""
    named = CONFIG_FOLDER / f'{config}.py'
    for candidate in (Path(config), named):
        if '\0' not in str(config) and candidate.suffix == '.py' and candidate.is_file():
            return candidate
    from .config_messages import nearest

    names = sorted(p.stem for p in CONFIG_FOLDER.glob('*.py'))
    raise ConfigError(
        f'no pipeline config {str(config)!r}{nearest(str(config), names)}; '
        f'give a Python file or one of: {", ".join(names)}'
    )


def parse(kind: type[T], values: Any, place: str) -> T:
    """Create a dataclass of type ``kind`` from nested dicts; checks every key and type."""
    if not isinstance(values, Mapping):
        raise ConfigError(f'{place or "config"} must be a dict, got {shorten(values)}')
    hints = typing.get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            from .config_messages import describe_unknown

            raise ConfigError(describe_unknown(str(key), place, list(known)))
    for name, f in known.items():
        if f.default is MISSING and f.default_factory is MISSING and name not in values:
            raise ConfigError(f'{f"{place}.{name}" if place else name} is missing')
    checked = {
        key: _checked(hints[key], value, f'{place}.{key}' if place else key)
        for key, value in values.items()
    }
    try:
        return kind(**checked)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _checked(hint: Any, value: Any, place: str) -> Any:
    if is_dataclass(hint):
        return parse(hint, value, place)  # type: ignore[arg-type]
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    if isinstance(value, int | float) and not -MAX_NUMBER <= value <= MAX_NUMBER:  # also NaN
        raise ConfigError(f'{place} must be a finite number, got {shorten(value)}')
    if isinstance(value, str) and ('\0' in value or len(value) > MAX_TEXT):
        raise ConfigError(
            f'{place} has a NUL character or over {MAX_TEXT} characters: {shorten(value)}'
        )
    for option in options:
        if is_dataclass(option) and isinstance(value, Mapping):
            return parse(option, value, place)  # type: ignore[arg-type]
        if _fits(option, value):
            return _converted(option, value)
    from .config_messages import describe_wrong_type

    raise ConfigError(describe_wrong_type(place, options, value))


def _fits(option: Any, value: Any) -> bool:
    if option == _TEXTS:  # a list too: --cfg-options and JSON have no tuples
        return isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value)
    if typing.get_origin(option) is Literal:
        return value in typing.get_args(option)
    if option in (int, float):
        # bool is an int to Python, but True is no count and False no threshold.
        return isinstance(value, (int, float) if option is float else int) and not isinstance(
            value, bool
        )
    return isinstance(value, option)


def _converted(option: Any, value: Any) -> Any:
    if option == _TEXTS:
        return tuple(value)
    return float(value) if option is float else value


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)
