"""Videos are processed in chunks that survive an interruption."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.arrays import Floats, Image
from pipeline.structures import Detections, People
from pipeline.synthetic.video import VideoConfig, make_frames
from pipeline.tracking.association import AssociationTracker
from pipeline.tracking.formats import TrackedPeople
from pipeline.video.process import ProcessConfig, process_video
from pipeline.video.reader import Frame
from pipeline.video.store import FrameStore

from .test_track_formats import to_people

CONFIG = VideoConfig(num_frames=25, fps=12.5, num_people=4, width=240, height=160, seed=5)


class Oracle:
    """A pipeline that knows the people of each frame."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.frames = list(make_frames(CONFIG))
        self.stop_at = stop_at
        self.seen: list[int] = []
        self.boxes: dict[int, Floats] = {}

    def read(self) -> Iterator[Frame]:
        for frame in self.frames:
            yield Frame(frame.index, frame.seconds, frame.scene.image)

    def __call__(self, images: Sequence[Image], boxes: Sequence[Detections | None]) -> list[People]:
        result = []
        for image, given in zip(images, boxes, strict=True):
            (frame,) = (f for f in self.frames if f.scene.image is image)
            if frame.index == self.stop_at:
                raise KeyboardInterrupt
            self.seen.append(frame.index)
            if given is not None:
                self.boxes[frame.index] = given.boxes
            result.append(to_people(frame))
        return result


def run(oracle: Oracle, folder: Path, config: ProcessConfig | None = None) -> list[TrackedPeople]:
    store = FrameStore(folder, chunk_frames=10)
    stream = process_video(
        oracle.read(), oracle, AssociationTracker(), config or ProcessConfig(), store
    )
    return [people for _, people in stream]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_an_interrupted_run_goes_on_after_its_last_chunk(tmp_path: Path) -> None:
    whole = run(Oracle(), tmp_path / 'whole')
    with pytest.raises(KeyboardInterrupt):
        run(Oracle(stop_at=17), tmp_path / 'part')
    assert list(files(tmp_path / 'part')) == ['000000.jsonl']
    oracle = Oracle()
    again = run(oracle, tmp_path / 'part')
    assert oracle.seen == list(range(10, 25))
    assert files(tmp_path / 'part') == files(tmp_path / 'whole')
    for first, second in zip(whole, again, strict=True):
        assert first.track_ids.tolist() == second.track_ids.tolist()


@pytest.mark.parametrize('damage', ['', '{', '[]\n', '{"frame": 0}\n'])
def test_a_damaged_chunk_is_computed_again(damage: str, tmp_path: Path) -> None:
    run(Oracle(), tmp_path)
    good = files(tmp_path)
    (tmp_path / '000001.jsonl').write_text(damage)
    oracle = Oracle()
    run(oracle, tmp_path)
    assert oracle.seen == list(range(10, 20))
    assert files(tmp_path) == good


def test_chunks_of_a_longer_run_are_removed(tmp_path: Path) -> None:
    run(Oracle(), tmp_path)
    oracle = Oracle()
    oracle.frames = oracle.frames[:10]
    run(oracle, tmp_path)
    assert list(files(tmp_path)) == ['000000.jsonl']


def test_batches_change_nothing(tmp_path: Path) -> None:
    run(Oracle(), tmp_path / 'one')
    run(Oracle(), tmp_path / 'many', ProcessConfig(batch_size=4))
    assert files(tmp_path / 'one') == files(tmp_path / 'many')


def test_between_detections_the_tracker_gives_the_boxes(tmp_path: Path) -> None:
    oracle = Oracle()
    done = run(oracle, tmp_path, ProcessConfig(detect_every=2))
    assert sorted(oracle.boxes) == [i for i in range(25) if i % 2]
    distances = [
        np.abs(oracle.boxes[f.index][:, None] - f.people.boxes[None]).max(-1).min(1)
        for f in done if f.index in oracle.boxes and f.index > 5
    ]  # fmt: skip
    assert np.median(np.concatenate(distances)) < 6


def test_the_store_keeps_everything(tmp_path: Path) -> None:
    done = run(Oracle(), tmp_path)
    again = list(FrameStore(tmp_path).frames())
    assert [f.index for f in again] == [f.index for f in done]
    for first, second in zip(done, again, strict=True):
        assert first.track_ids.tolist() == second.track_ids.tolist()
        np.testing.assert_array_equal(first.people.boxes, second.people.boxes)
        assert first.people.masks.to_rle() == second.people.masks.to_rle()


@pytest.mark.parametrize('name', ['detect_every', 'batch_size'])
def test_bad_settings(name: str) -> None:
    with pytest.raises(ValueError, match=f'{name}=0 must be 1 or more'):
        ProcessConfig(**{name: 0})
