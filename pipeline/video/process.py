"""Find and follow the people of a video, frame after frame.

Every frame goes through the loop as an image does. With ``detect_every`` n, the loop runs on every
n-th frame; between them the boxes that the tracker predicts take the place of the detector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Image
from ..structures import People
from ..tracking.formats import TrackedPeople
from .reader import Frame
from .store import FrameStore

# Images and, per image, boxes (N, 4) xyxy px in place of the detector, or None.
Predict = Callable[[Sequence[Image], Sequence[Floats | None]], list[People]]


class Tracker(Protocol):
    """Assigns identities to the people of consecutive frames."""

    def update(self, people: People, image: Image, seconds: float) -> npt.NDArray[np.int64]:
        """Track ids (N,) of the people of the next frame, -1 for people without a track."""

    def predict_boxes(self, seconds: float) -> Floats:
        """Boxes (T, 4) xyxy px where people of current tracks are expected."""


@dataclass(frozen=True)
class ProcessConfig:
    """Settings of `process_video`.

    Attributes:
        detect_every: the detector looks at every n-th frame.
        batch_size: frames that go through the networks together, if the detector sees each one.
    """

    detect_every: int = 1
    batch_size: int = 1

    def __post_init__(self) -> None:
        for name in ('detect_every', 'batch_size'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name}={getattr(self, name)} must be 1 or more')


def process_video(
    frames: Iterable[Frame],
    predict: Predict,
    tracker: Tracker,
    config: ProcessConfig,
    store: FrameStore | None = None,
) -> Iterator[tuple[Frame, TrackedPeople]]:
    """Find and follow the people.

    Frames that the store has are not predicted again; the tracker sees them, so that it goes on
    with the same identities.

    Args:
        frames: of one video, in order.
        predict: the pipeline.
        tracker: new for each video.
        config: settings.
        store: keeps the predictions on the disk.
    """
    stream, number = iter(frames), 0
    size = store.chunk_frames if store else config.batch_size
    while chunk := list(islice(stream, size)):
        known = store.read(number) if store else None
        if known is not None and [k.index for k in known] != [f.index for f in chunk]:
            known = None
        done = []
        for frame, people in _predict_chunk(chunk, known, predict, tracker, config):
            ids = tracker.update(people, frame.image, frame.seconds)
            done.append(TrackedPeople(frame.index, frame.seconds, people, ids))
            yield frame, done[-1]
        if store and known is None:
            store.write(number, done)
        number += 1
    if store:
        store.truncate(number)


def _predict_chunk(
    chunk: Sequence[Frame],
    known: Sequence[TrackedPeople] | None,
    predict: Predict,
    tracker: Tracker,
    config: ProcessConfig,
) -> Iterator[tuple[Frame, People]]:
    if known is not None:
        for frame, stored in zip(chunk, known, strict=True):
            yield frame, stored.people
    elif config.detect_every == 1:
        for start in range(0, len(chunk), config.batch_size):
            batch = chunk[start : start + config.batch_size]
            images = [frame.image for frame in batch]
            yield from zip(batch, predict(images, [None] * len(batch)), strict=True)
    else:
        for frame in chunk:
            whole = frame.index % config.detect_every == 0
            boxes = None if whole else tracker.predict_boxes(frame.seconds)
            yield frame, predict([frame.image], [boxes])[0]
