"""Runs on videos: files, resume, changed settings, live sources."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.arrays import Image
from pipeline.io.run_options import VIDEO_OUTPUTS, RunReport
from pipeline.structures import Detections, People
from pipeline.synthetic.video import VideoConfig, make_frames
from pipeline.tracking.association import AssociationTracker
from pipeline.tracking.config import FinishConfig, TrackingConfig
from pipeline.tracking.formats import read_mot, read_mots
from pipeline.video import overlay
from pipeline.video import run as run_module
from pipeline.video.inputs import VideoInput
from pipeline.video.process import ProcessConfig, TrackedFrame, track_frames
from pipeline.video.reader import Frame, FrameSelection, VideoReader, open_video
from pipeline.video.run import VideoOptions, run_videos
from pipeline.video.store import FrameStore
from pipeline.video.writer import choose_codec
from pipeline.visualization.draw import draw_people
from pipeline.visualization.style import DrawingStyle
from tests.run_fakes import make_people
from tests.video_files import numbered, turn, write_video

from .test_track_formats import to_people

CONFIG = VideoConfig(num_frames=20, fps=10, num_people=3, width=160, height=120, seed=5)
DRAWN = list(make_frames(CONFIG))
SAVE = frozenset({*VIDEO_OUTPUTS, 'overlay'})


class Oracle:
    """A pipeline that knows the people of each frame of `DRAWN`."""

    config_text = config_key = 'a = 1\n'
    precision, device, load_seconds = 'fp32', 'cpu', 0.0
    min_score: float | None = None

    def __init__(self, stop_at: int | None = None, **tracking: Any) -> None:
        self.weights = {'net': 'abc'}
        self.tracking = TrackingConfig(**tracking)
        self.stop_at = stop_at
        self.seen: list[int] = []

    def track(
        self, source: Any, *, detect_every: int, batch_size: int, store: FrameStore
    ) -> Iterator[TrackedFrame]:
        config = ProcessConfig(detect_every, batch_size)
        return track_frames(source, self.predict, AssociationTracker(self.tracking), config, store)

    def predict(self, images: Sequence[Image], _: Sequence[Detections | None]) -> list[People]:
        result = []
        for image in images:
            (frame,) = (f for f in DRAWN if np.array_equal(f.scene.image, image))
            if frame.index == self.stop_at:
                raise KeyboardInterrupt
            self.seen.append(frame.index)
            result.append(to_people(frame))
        return result

    def predict_candidates(self, *_: Any) -> Any:
        raise NotImplementedError


@pytest.fixture(scope='module', autouse=True)
def short_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, 'FrameStore', partial(FrameStore, chunk_frames=6))
        patch.setattr(overlay, 'SEGMENT_FRAMES', 8)
        yield


@pytest.fixture(scope='module')
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lossless video with sound."""
    frames = [frame.scene.image for frame in DRAWN]
    path = tmp_path_factory.mktemp('clip') / 'clip.mkv'
    return write_video(path, frames, codec='ffv1', pix_fmt='bgr0', sound=2)


def run(clip: Path, out: Path, oracle: Oracle | None = None, **options: Any) -> RunReport:
    report = RunReport(0)
    options = {'save': SAVE, **options}
    videos = [VideoInput(str(clip), 'clip')]
    run_videos(oracle or Oracle(), videos, VideoOptions(out, **options), report)
    return report


def files(out: Path) -> dict[str, bytes]:
    folder = out / 'videos' / 'clip'
    found = (p for p in sorted(folder.rglob('*')) if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


@pytest.fixture(scope='module')
def whole(clip: Path, short_parts: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of a run without interruption."""
    out = tmp_path_factory.mktemp('whole')
    report = run(clip, out)
    assert (report.exit_code, len(report.videos)) == (0, 1)
    return out


def test_outputs(whole: Path, clip: Path) -> None:
    folder = whole / 'videos' / 'clip'
    suffix = choose_codec()[1]
    chunks = {f'frames/{i:06d}.jsonl' for i in range(4)}
    names = {'settings.json', 'video.json', 'tracks.csv', f'overlay{suffix}'}
    assert set(files(whole)) == {*VIDEO_OUTPUTS.values(), *chunks, *names}
    truth = {(f.index, i) for f in DRAWN for i in range(len(f.scene))}
    rows = read_mot(folder / 'mot.txt', fps=10)
    assert 0.8 * len(truth) < len(rows) <= len(truth)
    assert {i for _, ids, _ in read_mots(folder / 'mots.txt') for i in ids.tolist()} == {
        2000 + i for i in rows.track_ids.tolist()
    }
    with (folder / 'tracks.csv').open() as file:
        table = list(csv.DictReader(file))
    for line in table:
        part = rows.select(rows.track_ids == int(line['track_id']))
        ends = [int(line['first_frame']), int(line['last_frame'])]
        assert ends == part.frames[[0, -1]].tolist()
        assert int(line['detections']) + int(line['filled']) == len(part)
        assert float(line['mean_score']) == pytest.approx(part.scores.mean(), abs=1e-3)
    summary = json.loads((folder / 'video.json').read_text())
    assert (summary['frames'], summary['fps'], summary['tracks']) == (20, 10, len(table))
    drawn = list(VideoReader(folder / f'overlay{suffix}'))
    before = list(VideoReader(clip))
    np.testing.assert_allclose([f.seconds for f in drawn], [f.seconds for f in before], atol=2e-3)
    for a, b in zip(drawn, before, strict=True):
        assert np.abs(a.image.astype(int) - b.image).mean() > 2


@pytest.mark.parametrize('stop_at', [0, 3, 11, 19])
def test_an_interrupted_pass_goes_on(stop_at: int, clip: Path, whole: Path, tmp_path: Path) -> None:
    assert run(clip, tmp_path, Oracle(stop_at)).exit_code == 130
    assert sum(name.startswith('frames') for name in files(tmp_path)) == stop_at // 6
    oracle = Oracle()
    assert run(clip, tmp_path, oracle).exit_code == 0
    assert oracle.seen == list(range(stop_at // 6 * 6, 20))
    assert files(tmp_path) == files(whole)
    again = Oracle()
    run(clip, tmp_path, again)
    assert again.seen == [] and files(tmp_path) == files(whole)


@pytest.mark.parametrize('stop_at', [4, 12, 19])
def test_an_interrupted_drawing_goes_on(
    stop_at: int, clip: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, drawn = draw_people, []

    def draw_some(*arguments: Any) -> Image:
        drawn.append(1)
        if len(drawn) == stop_at:
            raise KeyboardInterrupt
        return draw(*arguments)

    monkeypatch.setattr(overlay, 'draw_people', draw_some)
    assert run(clip, tmp_path).exit_code == 130
    assert sum(name.startswith('segments') for name in files(tmp_path)) == stop_at // 8
    drawn += [1] * 100
    assert run(clip, tmp_path).exit_code == 0
    assert len(drawn) - 100 - stop_at == 20 - stop_at // 8 * 8
    assert files(tmp_path) == files(whole)


@pytest.mark.parametrize(
    ('options', 'tracking', 'predicted', 'same'),
    [
        ({'style': DrawingStyle(('masks',), 'none')}, {}, 0, {'mot.txt', 'frames/000000.jsonl'}),
        ({'trail': 0}, {}, 0, {'mot.txt', 'tracks.csv'}),
        ({}, {'finish': FinishConfig(min_detections=12)}, 0, {'frames/000000.jsonl'}),
        ({}, {'low_score': 0.2}, 20, set()),
        ({'selection': FrameSelection(stride=2)}, {}, 10, set()),
        ({'detect_every': 2}, {}, 20, set()),
        ({'resume': False}, {}, 20, {'mot.txt'}),
    ],
)
def test_changed_settings(
    options: dict[str, Any], tracking: dict[str, Any], predicted: int, same: set[str],
    clip: Path, tmp_path: Path,
) -> None:  # fmt: skip
    run(clip, tmp_path)
    before = files(tmp_path)
    oracle = Oracle(**tracking)
    run(clip, tmp_path, oracle, **options)
    after = files(tmp_path)
    assert len(oracle.seen) == predicted
    assert {name for name in same if after[name] != before[name]} == set()
    assert (after != before) == ('resume' not in options)
    fresh = tmp_path / 'fresh'
    run(clip, fresh, Oracle(**tracking), **options)
    assert files(fresh) == after


def test_a_part_of_a_video(clip: Path, tmp_path: Path) -> None:
    run(clip, tmp_path, selection=FrameSelection(start=0.5, end=1.5))
    folder = tmp_path / 'videos' / 'clip'
    assert set(read_mot(folder / 'mot.txt').frames.tolist()) <= set(range(5, 15))
    (path,) = folder.glob('overlay.*')
    assert [round(f.seconds, 2) for f in VideoReader(path)] == [i / 10 for i in range(10)]


def test_a_bad_video_does_not_stop_the_others(clip: Path, tmp_path: Path) -> None:
    (tmp_path / 'bad.mp4').write_text('no video')
    report = RunReport(0)
    videos = [VideoInput(str(tmp_path / 'bad.mp4'), 'bad'), VideoInput(str(clip), 'clip')]
    selection = FrameSelection(start=99)
    run_videos(Oracle(), videos, VideoOptions(tmp_path, frozenset()), report)
    run_videos(Oracle(), videos[1:], VideoOptions(tmp_path, SAVE, selection), report)
    assert report.exit_code == 1 and len(report.videos) == 1
    messages = [failure.message for failure in report.failures]
    assert 'not a video that can be read' in messages[0]
    assert 'no frame in the chosen part' in messages[1]


class OnePerson(Oracle):
    """Finds one person in every frame; nobody in large ones, whose masks take long."""

    def predict(self, images: Sequence[Image], _: Sequence[Detections | None]) -> list[People]:
        shapes = [image.shape[:2] for image in images]
        return [make_people(int(height < 999), height, width) for height, width in shapes]


ODD: dict[str, Callable[[Path], Path]] = {
    'rotated': lambda folder: turn(short_clip(folder)),
    'variable rate': lambda folder: short_clip(folder, 'a.mkv', times=[0, 0.1, 0.5, 1.8, 1.9, 2]),
    'truncated': lambda folder: cut(short_clip(folder, 'a.mkv', codec='ffv1', pix_fmt='bgr0')),
    'silent': lambda folder: short_clip(folder),
    'sound': lambda folder: short_clip(folder, sound=0.6),
    'one frame': lambda folder: write_video(folder / 'a.mp4', [numbered(0)]),
    'odd size': lambda folder: write_video(
        folder / 'a.mkv', [numbered(0, 31, 45)] * 3, codec='ffv1', pix_fmt='bgr0'),
    '4K': lambda folder: write_video(
        folder / 'a.mp4', [numbered(0, 2160, 3840)] * 2, codec='mpeg4'),
    '10 bit': lambda folder: short_clip(folder, 'a.mkv', codec='ffv1', pix_fmt='yuv420p10le'),
    'animated GIF': lambda folder: short_clip(folder, 'a.gif', codec='gif', pix_fmt='rgb8'),
}  # fmt: skip


def short_clip(folder: Path, name: str = 'a.mp4', **options: Any) -> Path:
    return write_video(folder / name, [numbered(i) for i in range(6)], **options)


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


@pytest.mark.parametrize('name', ODD)
def test_odd_videos_are_annotated(name: str, tmp_path: Path) -> None:
    source = ODD[name](tmp_path)
    report = run(source, tmp_path, OnePerson())
    assert report.exit_code == 0, report.failures
    (path,) = (tmp_path / 'videos' / 'clip').glob('overlay.*')
    before, after = list(VideoReader(source)), list(VideoReader(path))
    assert len(before) == {'one frame': 1, 'odd size': 3, '4K': 2}.get(name, len(after)) > 0
    np.testing.assert_allclose([f.seconds for f in after], [f.seconds for f in before], atol=2e-3)
    height, width = before[0].image.shape[:2]
    assert after[0].image.shape[:2] == (height + height % 2, width + width % 2)
    with open_video(path) as container:
        assert len(container.streams.audio) == (name == 'sound')


def test_a_file_with_sound_only_fails(tmp_path: Path) -> None:
    report = run(write_video(tmp_path / 'a.m4a', [], sound=0.5), tmp_path, OnePerson())
    assert report.exit_code == 1 and 'no video stream' in report.failures[0].message


def test_interrupt_ends_a_live_source_and_keeps_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Camera(VideoReader):
        def __iter__(self) -> Iterator[Frame]:
            for frame in DRAWN:
                yield Frame(frame.index, frame.seconds, frame.scene.image)
                if frame.index == 13:
                    os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(run_module, 'VideoReader', Camera)
    before = signal.getsignal(signal.SIGINT)
    report, oracle = RunReport(0), Oracle()
    run_videos(oracle, [VideoInput(0, 'clip', live=True)], VideoOptions(tmp_path, SAVE), report)
    assert signal.getsignal(signal.SIGINT) is before
    assert report.exit_code == 0 and oracle.seen == list(range(14))
    (path,) = (tmp_path / 'videos' / 'clip').glob('overlay.*')
    assert len(list(VideoReader(path))) == 14
    assert len(list(FrameStore(tmp_path / 'videos' / 'clip' / 'frames').frames())) == 14


def test_people_who_come_later_are_followed_between_detections() -> None:
    """Everybody is unknown to the tracker when they are found for the first time."""
    frames = [Frame(f.index, f.seconds, f.scene.image) for f in DRAWN]

    def predict(images: Sequence[Image], boxes: Sequence[Detections | None]) -> list[People]:
        (people,), (rows,) = Oracle().predict(images, boxes), boxes
        if np.array_equal(images[0], frames[0].image):
            return [people[:0]]
        if rows is None:
            return [people]
        near = np.abs(people.boxes[:, None] - rows.boxes[None]).max(-1) < 8
        return [people.select(near.any(1) if len(rows) else np.zeros(len(people), bool))]

    done = list(track_frames(frames, predict, AssociationTracker(), ProcessConfig(2)))
    counts = np.bincount(np.concatenate([frame.track_ids for frame in done]))
    assert counts.max() >= 15
    first = replace(done[5], people=done[5].people[:1], track_ids=done[5].track_ids[:1])
    assert (first.plot() != first.image).any()


def test_identities_keep_their_colours() -> None:
    frame = DRAWN[0]
    people = to_people(frame)[:1]
    style = DrawingStyle(('masks',), 'none', alpha=1)
    shown = []
    for number in (1, 2, 21):  # the palette has 20 colours
        tracked = TrackedFrame(0, 0.0, frame.scene.image, people, np.array([number]))
        shown.append(tracked.plot(style)[people.masks.to_dense()[0]].mean(0))
    assert (shown[0] == shown[2]).all() and (shown[0] != shown[1]).any()
