"""The Python entry: ``people = load_pipeline('bmp_compact')('img.jpg')``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .build import BuiltPipeline, build_pipeline
from .config import ResolvedConfig, load_config
from .runtime.timing import StageTimer
from .structures import Detections, Image, People, size_of


class LoadedPipeline:
    """A pipeline with its models in memory.

    Attributes:
        config_text: the resolved config as Python; comments at its end carry a hash of each
            model's own config.
        weights: checkpoint name -> sha256 of the file that was loaded.
        device: where the models run.
        precision: fp32, bf16 or fp16.
        note: one line that the config wants users to see, or an empty string.
        load_seconds: time that loading took.
    """

    def __init__(self, config: ResolvedConfig, built: BuiltPipeline, load_seconds: float) -> None:
        self._run = built.run
        self.config_text = config.text + ''.join(f'# {line}\n' for line in built.model_configs)
        self.weights = {w.name: w.sha256 for w in built.weights}
        self.device = built.device
        self.precision: str = config.settings.runtime.precision
        self.note = config.settings.runtime.note or ''
        self.load_seconds = load_seconds

    def __call__(
        self,
        image: Image | str | Path | Any,
        boxes: npt.ArrayLike | None = None,
        timer: StageTimer | None = None,
    ) -> People:
        """Find every person in a photo.

        Args:
            image: RGB uint8 array (H, W, 3), a path, or a PIL image.
            boxes: own boxes (N, 4) xyxy px for round one, in place of the detector's.
            timer: adds up seconds per stage.

        Raises:
            ImageReadError: the file cannot be read.
            ValueError: the array is not an RGB uint8 image, or a box is not xyxy.
        """
        photo = as_image(image)
        given = None if boxes is None else Detections.from_boxes(boxes, size_of(photo))
        return self._run(photo, given, timer)

    def together(
        self,
        images: Sequence[Image | str | Path | Any],
        boxes: Sequence[npt.ArrayLike | None] | None = None,
        timer: StageTimer | None = None,
    ) -> list[People]:
        """As one call per photo, but their people share the batches of the pose estimator.

        Worth it on a GPU, for photos of few people; all photos are in memory at once. Arguments as
        in `__call__`, one of each per photo.
        """
        photos = [as_image(image) for image in images]
        rows = boxes if boxes is not None else [None] * len(photos)
        given = [
            None if own is None else Detections.from_boxes(own, size_of(photo))
            for own, photo in zip(rows, photos, strict=True)
        ]
        return self._run.together(photos, given, timer)


def load_pipeline(
    config: str | Path = 'bmp_compact', cfg_options: Mapping[str, Any] | None = None
) -> LoadedPipeline:
    """Load the three models of a pipeline.

    Args:
        config: name of a config in ``configs/`` or path of one.
        cfg_options: overrides such as ``{'loop.max_rounds': None, 'runtime.device': 'cuda'}``.

    Raises:
        ConfigError: a setting is wrong.
        CheckpointError: weights are absent or do not fit.
    """
    start = time.perf_counter()
    resolved = load_config(config, cfg_options)
    built = build_pipeline(resolved)
    return LoadedPipeline(resolved, built, time.perf_counter() - start)


def as_image(image: Image | str | Path | Any) -> Image:
    """RGB uint8 array (H, W, 3) from an array, a path or a PIL image."""
    if isinstance(image, (str, Path)):
        from .io.images import read_image

        return read_image(Path(image))
    if not isinstance(image, np.ndarray):
        from PIL import Image as PILImage

        from .io.images import image_from_pil

        if not isinstance(image, PILImage.Image):
            raise ValueError(
                f'an image is an RGB uint8 array, a path or a PIL image, got {type(image).__name__}'
            )
        return image_from_pil(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f'an image array must be RGB uint8 of shape (H, W, 3), got {image.dtype} {image.shape}'
        )
    return image
