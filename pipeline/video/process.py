"""Find and follow the people of a video, frame after frame.

Every frame goes through the loop as an image does. With ``detect_every`` n, the loop runs on every
n-th frame; between them the boxes that the tracker predicts take the place of the detector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from ..arrays import Image
from ..runtime.timing import StageTimer
from ..structures import Detections, ImageSource, People
from ..tracking.formats import TrackedPeople
from .reader import Frame
from .store import FrameStore

if TYPE_CHECKING:
    from ..visualization.style import DrawingStyle

# Images and, per image, what takes the place of the detector, or None.
Predict = Callable[[Sequence[Image], Sequence[Detections | None]], list[People]]


@dataclass(frozen=True, eq=False)
class TrackedFrame(Frame):
    """A frame with the people who have a track.

    Attributes:
        people: N people; ``people.plot()`` works while the frame is kept.
        track_ids: (N,) from 1.
    """

    people: People
    track_ids: npt.NDArray[np.int64]

    def plot(self, style: DrawingStyle | None = None) -> Image:
        """Copy of the image with the people, one colour per identity; labels are the ids."""
        from ..visualization.draw import draw_people
        from ..visualization.style import DrawingStyle

        style = style or DrawingStyle(labels='id')
        return draw_people(self.image, self.people, style, self.track_ids)


class Tracker(Protocol):
    """Assigns identities to the people of consecutive frames."""

    def update(self, people: People, image: Image, seconds: float) -> npt.NDArray[np.int64]:
        """Track ids (N,) of the people of the next frame, -1 for people without a track."""

    def predict_boxes(self, seconds: float) -> Detections:
        """Boxes without masks where people of current tracks are expected."""


@dataclass(frozen=True)
class ProcessConfig:
    """Settings of `process_video`.

    Attributes:
        detect_every: the detector looks at every n-th of the frames.
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
    timer: StageTimer | None = None,
) -> Iterator[tuple[Frame, TrackedPeople]]:
    """Find and follow the people.

    Frames that the store has are not predicted again; the tracker sees them, so that it goes on
    with the same identities. Memory holds one batch of images, and the people of one chunk.

    Args:
        frames: of one video, in order.
        predict: the pipeline.
        tracker: new for each video.
        config: settings.
        store: keeps the predictions on the disk.
        timer: adds up the seconds of ``track`` and ``store``.
    """
    timer = timer or StageTimer()
    stream, first = iter(frames), 0
    size = store.chunk_frames if store else config.batch_size
    for number in count():
        known = {k.index: k for k in (store.read(number) or ())} if store else {}
        done = []
        for frame, people in _predict(islice(stream, size), first, known, predict, tracker, config):
            with timer('track'):
                ids = tracker.update(people, frame.image, frame.seconds)
            done.append(TrackedPeople(frame.index, frame.seconds, people, ids))
            yield frame, done[-1]
        if not done:
            break
        if store and not _equal(done, known):
            with timer('store'):
                store.write(number, done)
        first += size
    if store:
        store.truncate(number)


def track_frames(
    frames: Iterable[Frame],
    predict: Predict,
    tracker: Tracker,
    config: ProcessConfig,
    store: FrameStore | None = None,
    timer: StageTimer | None = None,
) -> Iterator[TrackedFrame]:
    """Yield the frames with the people who have a track; arguments as in `process_video`."""
    for frame, result in process_video(frames, predict, tracker, config, store, timer):
        people, ids = result.tracked
        people = replace(people, source=ImageSource.of(frame.image, 'rgb'))
        yield TrackedFrame(frame.index, frame.seconds, frame.image, people, ids)


def _equal(done: Sequence[TrackedPeople], known: Mapping[int, TrackedPeople]) -> bool:
    """Whether a chunk on the disk has these frames and these track ids."""
    ids = [(frame.index, frame.track_ids.tolist()) for frame in done]
    return ids == [(frame.index, frame.track_ids.tolist()) for frame in known.values()]


def _predict(
    frames: Iterator[Frame],
    first: int,
    known: Mapping[int, TrackedPeople],
    predict: Predict,
    tracker: Tracker,
    config: ProcessConfig,
) -> Iterator[tuple[Frame, People]]:
    """People of frames, the first of which is number ``first`` of the selected ones."""
    size = config.batch_size if config.detect_every == 1 else 1
    while batch := list(islice(frames, size)):
        if all(frame.index in known for frame in batch):
            people = [known[frame.index].people for frame in batch]
        else:
            whole = first % config.detect_every == 0
            boxes = None if whole else tracker.predict_boxes(batch[0].seconds)
            people = predict([frame.image for frame in batch], [boxes] * len(batch))
        yield from zip(batch, people, strict=True)
        first += len(batch)
