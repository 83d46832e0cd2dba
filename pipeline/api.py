"""The Python entry: ``people = load_pipeline('bmp_compact')('img.jpg')``."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .build import BuiltPipeline, build_pipeline
from .candidates import Candidates
from .config import ConfigError, ResolvedConfig, load_config
from .io.images import ChannelOrder, as_image
from .io.inputs import InputError, find_images
from .runtime.timing import StageTimer
from .stages import Detector
from .structures import Detections, Image, ImageSource, People, size_of
from .tracking.config import TrackingConfig
from .values import check_range

if TYPE_CHECKING:
    from .video.process import TrackedFrame
    from .video.reader import Frame
    from .video.store import FrameStore

# Keyword of `load_pipeline` -> setting. All others are written with two underscores for the dot.
SHORT_NAMES = {
    'device': 'runtime.device',
    'precision': 'runtime.precision',
    'max_rounds': 'loop.max_rounds',
    'refine': 'loop.refine',
    'min_score': 'loop.min_score',
    'score_threshold': 'detector.score_threshold',
}


class LoadedPipeline:
    """A pipeline with its models in memory.

    An image is a path, an RGB uint8 array (H, W, 3), a PIL image, a PyTorch tensor, `bytes` or a
    binary file; `pipeline.io.images.as_image` has the table. ``channel_order='bgr'`` marks arrays
    of OpenCV; files and PIL images always have the right order.

    Attributes:
        name: name of the config.
        settings: the checked settings.
        config_text: the resolved config as Python; comments at its end carry a hash of each
            model's own config.
        weights: checkpoint name -> sha256 of the file that was loaded.
        device: where the models run.
        precision: fp32, bf16 or fp16.
        config_key: everything in the config that the people of an image depend on, except
            ``min_score``.
        min_score: threshold on the scores of the people; None: off.
        tracking: settings of videos.
        note: note of the config for the user, or an empty string.
        load_seconds: time for loading.
    """

    def __init__(self, config: ResolvedConfig, built: BuiltPipeline, load_seconds: float) -> None:
        self._run = built.run
        self.name = config.path.stem
        self.settings = config.settings
        self.config_text = config.text + ''.join(f'# {line}\n' for line in built.model_configs)
        self.weights = {w.name: w.sha256 for w in built.weights}
        self.device = built.device
        self.precision: str = config.settings.runtime.precision
        self.note = config.settings.runtime.note or ''
        self.min_score = config.settings.loop.min_score
        self.tracking = config.settings.tracking
        loop = replace(config.settings.loop, min_score=None)
        settings = replace(config.settings, loop=loop, tracking=TrackingConfig())
        self.config_key = '\n'.join([repr(settings), *built.model_configs])
        self.load_seconds = load_seconds

    def __repr__(self) -> str:
        return (
            f'LoadedPipeline({self.name!r}, device={self.device!r}, precision={self.precision!r})'
        )

    def __call__(
        self,
        image: Any,
        boxes: npt.ArrayLike | None = None,
        *,
        channel_order: ChannelOrder = 'rgb',
        timer: StageTimer | None = None,
    ) -> People:
        """Find every person in an image.

        Args:
            image: Image of any kind named above.
            boxes: User boxes, which replace the detector in round one: (N, 4) xyxy px, or
                ``{'boxes': (N, 4), 'scores': (N,)}``.
            channel_order: ``'rgb'`` or ``'bgr'``, of an array or a tensor.
            timer: Adds up the seconds per stage.

        Raises:
            ImageReadError: The file cannot be read.
            ValueError: The image is of no kind named above.
            BoxesError: The boxes are wrong; see `pipeline.boxes.check_boxes`.
        """
        return self.predict_batch([image], [boxes], channel_order=channel_order, timer=timer)[0]

    def predict_batch(
        self,
        images: Iterable[Any],
        boxes: Sequence[npt.ArrayLike | None] | None = None,
        batch_size: int = 8,
        *,
        channel_order: ChannelOrder = 'rgb',
        timer: StageTimer | None = None,
    ) -> list[People]:
        """Find every person in several images; one result per image, in their order.

        On a GPU the images of a batch share forward passes of the detector and of the pose
        estimator. On a CPU the results equal those of single images.

        Args:
            images: As in `__call__`; so are the other arguments, for all images.
            boxes: One entry per image.
            batch_size: Images that are decoded and computed at the same time.
            channel_order: As in `__call__`.
            timer: As in `__call__`.
        """
        if is_single_image(images):
            raise ValueError(
                f'predict_batch needs a list of images, got one {type(images).__name__}'
            )
        check_range('batch_size', batch_size, '>= 1')
        images = list(images)
        rows = [None] * len(images) if boxes is None else list(boxes)
        if len(rows) != len(images):
            raise ValueError(f'got {len(images)} images, but boxes of {len(rows)}')
        people: list[People] = []
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            arrays = [as_image(image, channel_order) for image in batch]
            found = self.predict_candidates(arrays, rows[start : start + batch_size], timer)
            people += [
                replace(
                    candidates.keep(self.min_score), source=ImageSource.of(image, channel_order)
                )
                for candidates, image in zip(found, batch, strict=True)
            ]
        return people

    def predict_candidates(
        self,
        images: Sequence[Image],
        boxes: Sequence[npt.ArrayLike | None],
        timer: StageTimer | None = None,
    ) -> list[Candidates]:
        """Find people of any score in RGB uint8 arrays (H, W, 3); see `predict_batch`."""
        return self._run.predict_candidates(images, as_detections(boxes, images), timer)

    def predict_stream(
        self, sources: Any, batch_size: int = 8, *, channel_order: ChannelOrder = 'rgb'
    ) -> Iterator[People]:
        """Find every person in any number of images; a generator with one batch in memory.

        Args:
            sources: A folder (searched recursively, sorted), a glob pattern, an image, or an
                iterable that mixes them, for example a generator of video frames.
            batch_size: As in `predict_batch`; 1 for a live camera, as a batch waits for its last
                image.
            channel_order: As in `__call__`.

        Yields:
            One result per image, in their order; ``people.path`` is the path of its file, and
            ``people.plot()`` works on a frame until the next result is requested.

        Raises:
            InputError: A folder or a pattern has no image.
            ImageReadError: A file cannot be read.
        """
        check_range('batch_size', batch_size, '>= 1')
        images = expand_sources(sources)
        batches = iter(lambda: list(islice(images, batch_size)), [])
        return (
            people
            for batch in batches
            for people in self.predict_batch(batch, None, batch_size, channel_order=channel_order)
        )

    def track(
        self,
        source: str | Path | int | Iterable[Frame],
        *,
        detect_every: int = 1,
        batch_size: int = 1,
        fps: float = 25.0,
        store: FrameStore | None = None,
        timer: StageTimer | None = None,
        **selection: Any,
    ) -> Iterator[TrackedFrame]:
        """Find and follow every person in a video; a generator with one batch in memory.

        Args:
            source: A video file, a folder of numbered frames, the address of a stream, the index of
                a camera, or frames.
            detect_every: The detector looks at every n-th frame; between them it is replaced by
                the boxes where the tracker expects people.
            batch_size: As in `predict_batch`; ignored with ``detect_every``.
            fps: Rate of a folder of frames.
            store: Keeps the predictions on the disk, and those there are not computed again.
            timer: As in `__call__`; also of ``track`` and ``store``.
            **selection: ``start``, ``end``, ``stride`` and ``max_fps`` of
                `pipeline.video.reader.FrameSelection`.

        Yields:
            Frames with the people who have a track. The settings are those in ``tracking``; people
            below ``tracking.low_score`` are dropped, and ``min_score`` has no effect.

        Raises:
            VideoReadError: The source is no video.
            ImageReadError: A frame of a folder cannot be read.
        """
        from .tracking.libraries import DEFAULT_TRACKER, make_tracker
        from .video.process import ProcessConfig, track_frames
        from .video.reader import FrameSelection, VideoReader

        frames: Iterable[Frame]
        if isinstance(source, (str, Path, int)):
            frames = VideoReader(source, FrameSelection(**selection), fps)
        else:
            frames = source
        method = self.tracking.method
        settings = self.tracking if method == DEFAULT_TRACKER else None
        tracker = make_tracker(method, settings, fps)
        config = ProcessConfig(detect_every, batch_size)
        predict = partial(self._predict_frames, timer=timer)
        return track_frames(frames, predict, tracker, config, store, timer)

    def _predict_frames(
        self,
        images: Sequence[Image],
        expected: Sequence[Detections | None],
        timer: StageTimer | None = None,
    ) -> list[People]:
        """People of frames; the detector does not run where boxes are expected.

        Unlike the user's boxes, the pose model may refine them.
        """
        run = self._run
        if expected[0] is not None:
            config = replace(run.config, max_rounds=1)
            run = replace(run, config=config, detector=ExpectedPeople(expected[0]))
        candidates = run.predict_candidates(images, [None] * len(images), timer)
        return [found.keep(self.tracking.low_score) for found in candidates]


class ExpectedPeople(Detector):
    """Stands for a detector between the frames that it sees."""

    def __init__(self, expected: Detections) -> None:
        self.expected = expected

    def __call__(self, image: Image) -> Detections:
        """The expected people."""
        return self.expected


def load_pipeline(
    config: str | Path = 'bmp_compact',
    device: str | Mapping[str, Any] | None = None,
    precision: str | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> LoadedPipeline:
    """Load the three models of a pipeline.

    Args:
        config: name of a config in ``configs/`` or path of one.
        device: ``'cpu'``, ``'cuda'``, ``'cuda:1'``, ...; None: the one of the config, ``'auto'``.
        precision: ``'fp32'``, ``'bf16'`` or ``'fp16'``; None: the one of the config.
        cfg_options: overrides such as ``{'loop.max_rounds': None, 'runtime.device': 'cuda'}``;
            also in second place, as in version 0.1.
        **overrides: settings with two underscores for each dot, ``loop__pose_nms__max_oks=0.5``,
            or by a short name: ``max_rounds``, ``refine`` and ``min_score`` (of ``loop``),
            ``score_threshold`` (of ``detector``). They win over ``cfg_options``.

    Raises:
        ConfigError: a setting is wrong.
        CheckpointError: weights are absent or do not fit.
    """
    start = time.perf_counter()
    options = dict(cfg_options or {})
    if isinstance(device, Mapping):
        options, device = {**device, **options}, None
    named = {'device': device, 'precision': precision}
    overrides |= {name: value for name, value in named.items() if value is not None}
    resolved = load_config(config, options | name_settings(overrides))
    built = build_pipeline(resolved)
    return LoadedPipeline(resolved, built, time.perf_counter() - start)


def name_settings(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their dotted names from keywords of `load_pipeline`."""
    unknown = [name for name in overrides if name not in SHORT_NAMES and '__' not in name]
    if unknown:
        from .config_messages import nearest

        raise ConfigError(
            f'unknown keyword {unknown[0]!r}{nearest(unknown[0], list(SHORT_NAMES))}; known: '
            f'{", ".join(SHORT_NAMES)}, cfg_options, and every setting as part__setting, for '
            'example loop__boxes (docs/reference/settings.md)'
        )
    return {SHORT_NAMES.get(name, name.replace('__', '.')): v for name, v in overrides.items()}


def as_detections(boxes: Sequence[Any], images: Sequence[Image]) -> list[Detections | None]:
    """Detections from the user's boxes of each image; None where there are none."""
    return [
        user
        if user is None or isinstance(user, Detections)
        else Detections.from_boxes(user, size_of(image))
        for user, image in zip(boxes, images, strict=True)
    ]


def expand_sources(sources: Any) -> Iterator[Any]:
    """Yield every image of the sources of `LoadedPipeline.predict_stream`."""
    for source in [sources] if is_single_image(sources) else sources:
        if isinstance(source, (str, os.PathLike)):
            found = find_images([str(source)])
            if found.failures:
                raise InputError(found.failures[0].describe())
            yield from (image.path for image in found.images)
        else:
            # Some programs decode all frames into one buffer.
            yield source.copy() if isinstance(source, np.ndarray) else source


def is_single_image(images: Any) -> bool:
    """Whether this is one image, or one path, and no collection of them."""
    single = isinstance(images, (str, bytes, bytearray, os.PathLike)) or hasattr(images, 'read')
    return single or not hasattr(images, '__iter__') or getattr(images, 'ndim', 1) in (2, 3)
