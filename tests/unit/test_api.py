"""The calls of a loaded pipeline, with a loop that only reports what it gets."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from pipeline.api import LoadedPipeline, name_settings
from pipeline.build import BuiltPipeline
from pipeline.candidates import Candidates
from pipeline.config import ConfigError, load_config
from pipeline.io.images import ImageReadError
from pipeline.io.inputs import InputError
from pipeline.structures import size_of
from pipeline.video.reader import Frame
from tests.run_fakes import save_image
from tests.toy_people import people_in


class Loop:
    """One person per image, whose score is the mean of the red channel."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.boxes: list[Any] = []

    def predict_candidates(self, images: Any, boxes: Any, timer: Any = None) -> list[Candidates]:
        self.batches.append(len(images))
        self.boxes += [None if b is None else b.boxes.tolist() for b in boxes]
        found = [people_in([(1, 1, 5, 5)], size_of(image)) for image in images]
        for people, image in zip(found, images, strict=True):
            people.scores[:] = image[..., 0].mean()
        return [Candidates(people) for people in found]


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def model(loop: Loop) -> LoadedPipeline:
    built = BuiltPipeline(loop, (), (), 'cpu')  # type: ignore[arg-type]
    return LoadedPipeline(load_config('bmp_compact', {'loop.min_score': None}), built, 0.0)


def frame(value: int) -> np.ndarray:
    return np.full((8, 9, 3), value, np.uint8)


def values(results: Any) -> list[int]:
    return [int(people.scores[0]) for people in results]


def test_repr(model: LoadedPipeline) -> None:
    assert repr(model) == "LoadedPipeline('bmp_compact', device='cpu', precision='fp32')"


def test_sources_of_every_kind_in_order(model: LoadedPipeline, loop: Loop, tmp_path: Path) -> None:
    for name, value in (('b/2.png', 2), ('b/deep/3.png', 3), ('c.png', 4)):
        save_image(tmp_path / name, value)
    blue = np.zeros((8, 9, 3), np.uint8)
    blue[..., 2] = 6
    pil = PIL.Image.fromarray(frame(5))
    sources = [frame(1)[..., ::-1], tmp_path / 'b', str(tmp_path / '*.png'), pil, blue]
    results = list(model.predict_stream(iter(sources), 2, channel_order='bgr'))
    assert values(results) == [1, 2, 3, 4, 5, 6]
    names = [people.path and Path(people.path).name for people in results]
    assert names == [None, '2.png', '3.png', 'c.png', None, None]
    assert loop.batches == [2, 2, 2]
    for single in (
        str(tmp_path / 'b'),
        tmp_path / 'c.png',
        frame(1),
        pil,
        np.stack([frame(1)] * 3),
    ):
        assert len(list(model.predict_stream(single))) in (1, 2, 3)


def test_a_stream_keeps_one_batch(model: LoadedPipeline) -> None:
    alive: list[weakref.ref[Any]] = []

    def frames() -> Iterator[np.ndarray]:
        for i in range(20):
            image = frame(i)
            alive.append(weakref.ref(image))
            yield image
            del image

    most = 0
    for i, people in enumerate(model.predict_stream(frames(), batch_size=4)):
        assert people.plot()[7, 8, 0] == i  # the frame is there until the next result
        most = max(most, sum(reference() is not None for reference in alive))
        assert len(alive) <= 4 * (i // 4 + 1)  # no frame is read before it is needed
    assert most <= 1
    with pytest.raises(ValueError, match='no longer in memory'):
        people.plot()


def test_frames_in_one_buffer_differ(model: LoadedPipeline) -> None:
    buffer = frame(0)

    def frames() -> Iterator[np.ndarray]:
        for i in range(5):
            buffer[:] = i
            yield buffer

    assert values(model.predict_stream(frames(), batch_size=3)) == [0, 1, 2, 3, 4]


def test_batches(model: LoadedPipeline, loop: Loop, tmp_path: Path) -> None:
    path = save_image(tmp_path / 'a.png', 9)
    boxes = [None, [[1, 2, 3, 4]], None]
    results = model.predict_batch([frame(1), path, frame(3)], boxes, 2)
    assert values(results) == [1, 9, 3] and [p.path for p in results] == [None, str(path), None]
    assert loop.batches == [2, 1] and loop.boxes == [None, [[1.0, 2.0, 3.0, 4.0]], None]
    assert model.predict_batch([]) == []
    assert len(model.predict_batch(np.stack([frame(1)] * 3))) == 3
    assert values(model.predict_batch(np.array([str(path)] * 2))) == [9, 9]


BLUE = np.zeros((8, 9, 3), np.uint8)
BLUE[..., 2] = 7


def test_channel_order_of_every_call(model: LoadedPipeline) -> None:
    assert values([model(BLUE)]) == [0]
    for results in (
        [model(BLUE, channel_order='bgr')],
        model.predict_batch([BLUE], channel_order='bgr'),
        model.predict_stream([BLUE], channel_order='bgr'),
    ):
        assert values(results) == [7]


WRONG = {
    'one image for a batch': (lambda m: m.predict_batch(BLUE), ValueError, 'list.*one ndarray'),
    'one path for a batch': (lambda m: m.predict_batch('a.jpg'), ValueError, 'list.*one str'),
    'boxes of another number': (lambda m: m.predict_batch([BLUE], []), ValueError, 'boxes of 0'),
    'batch size': (lambda m: m.predict_batch([BLUE], None, 0), ValueError, '>= 1, got 0'),
    'batch size of a stream': (lambda m: m.predict_stream([], 0), ValueError, '>= 1, got 0'),
    'missing file': (lambda m: list(m.predict_stream('no.jpg')), ImageReadError, 'no such file'),
    'empty pattern': (
        lambda m: list(m.predict_stream('no*.jpg')),
        InputError,
        'matches this pattern',
    ),
    'float frames': (lambda m: list(m.predict_stream([BLUE / 255])), ValueError, 'uint8'),
}


@pytest.mark.parametrize(('call', 'error', 'message'), WRONG.values(), ids=WRONG)
def test_wrong_calls(call: Any, error: type[Exception], message: str, model: Any) -> None:
    with pytest.raises(error, match=message):
        call(model)


def test_keywords_are_settings() -> None:
    names = {'max_rounds': 1, 'device': 'cpu', 'loop__pose_nms__max_oks': 0.5}
    named = name_settings(names)
    assert named == {'loop.max_rounds': 1, 'runtime.device': 'cpu', 'loop.pose_nms.max_oks': 0.5}
    settings = load_config('bmp_compact', named).settings
    assert (settings.loop.max_rounds, settings.loop.pose_nms.max_oks) == (1, 0.5)
    with pytest.raises(ConfigError, match=r"'max_round' \(did you mean 'max_rounds'\?\); known:"):
        name_settings({'max_round': 1})
    with pytest.raises(ConfigError, match=r"'loop.boxs' \(did you mean 'boxes'\?\)"):
        load_config('bmp_compact', name_settings({'loop__boxs': 'mask'}))


@pytest.mark.parametrize('method', ['association', 'sort'])
def test_the_config_names_the_tracker(loop: Loop, method: str) -> None:
    frames = [Frame(i, i / 10, np.full((40, 30, 3), 1, np.uint8)) for i in range(5)]
    options = {'loop.min_score': None, 'tracking.method': method}
    built = BuiltPipeline(loop, (), (), 'cpu')  # type: ignore[arg-type]
    model = LoadedPipeline(load_config('bmp_compact', options), built, 0.0)
    assert [f.track_ids.tolist() for f in model.track(frames)][-1] == [1]


def test_an_unknown_tracker_is_refused(loop: Loop) -> None:
    built = BuiltPipeline(loop, (), (), 'cpu')  # type: ignore[arg-type]
    model = LoadedPipeline(load_config('bmp_compact', {'tracking.method': 'x'}), built, 0.0)
    with pytest.raises(ValueError, match="no tracker 'x'; choose one of association, sort"):
        model.track([])
