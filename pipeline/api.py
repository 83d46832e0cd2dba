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
        settings: the checked settings.
        config_text: the resolved config as Python; comments at its end carry a hash of each
            model's own config.
        weights: checkpoint name -> sha256 of the file that was loaded.
        device: where the models run.
        precision: fp32, bf16 or fp16.
        note: note of the config for the user, or an empty string.
        load_seconds: time for loading.
    """

    def __init__(self, config: ResolvedConfig, built: BuiltPipeline, load_seconds: float) -> None:
        self._run = built.run
        self.settings = config.settings
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
        """Find every person in an image.

        Args:
            image: RGB uint8 array (H, W, 3), a path, or a PIL image.
            boxes: User boxes, which replace the detector in round one: (N, 4) xyxy px, or
                ``{'boxes': (N, 4), 'scores': (N,)}``.
            timer: Adds up the seconds per stage.

        Raises:
            ImageReadError: The file cannot be read.
            ValueError: The array is not an RGB uint8 image.
            BoxesError: The boxes are wrong; see `pipeline.boxes.check_boxes`.
        """
        return self.predict_batch([image], [boxes], timer)[0]

    def predict_batch(
        self,
        images: Sequence[Image | str | Path | Any],
        boxes: Sequence[npt.ArrayLike | None] | None = None,
        timer: StageTimer | None = None,
    ) -> list[People]:
        """Find every person in several images.

        On a GPU the images share forward passes of the detector and of the pose estimator. On a
        CPU the results equal those of single images. All images are in memory at once.

        Args:
            images: As in `__call__`.
            boxes: One entry per image, as in `__call__`.
            timer: Adds up the seconds per stage, for all images.
        """
        if isinstance(images, (str, Path)):
            raise ValueError(f'predict_batch needs a list of images, got {images!r}')
        arrays = [as_image(image) for image in images]
        rows = [None] * len(arrays) if boxes is None else boxes
        user_boxes = [
            user
            if user is None or isinstance(user, Detections)
            else Detections.from_boxes(user, size_of(image))
            for user, image in zip(rows, arrays, strict=True)
        ]
        return self._run.predict_batch(arrays, user_boxes, timer)


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
