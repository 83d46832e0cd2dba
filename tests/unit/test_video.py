"""Videos of every kind are read; annotated videos keep time and sound."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from pipeline.video.inputs import split_videos
from pipeline.video.reader import Frame, FrameSelection, VideoReader, VideoReadError
from pipeline.video.writer import choose_codec, join_segments, write_segment
from tests.video_files import numbered, read_number, turn, write_video

SUFFIX = choose_codec()[1]


def read(path: Path, **selection: Any) -> list[Frame]:
    return list(VideoReader(path, FrameSelection(**selection)))


def clip(folder: Path, number: int = 6, name: str = 'clip.mp4', **options: Any) -> Path:
    return write_video(folder / name, [numbered(i) for i in range(number)], **options)


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('silent.mp4', {}),
        ('sound.mp4', {'sound': 0.6}),
        ('matroska.mkv', {}),
        ('mpeg.avi', {'codec': 'mpeg4'}),
        ('vp9.webm', {'codec': 'libvpx-vp9'}),
        ('ten_bit.mkv', {'codec': 'ffv1', 'pix_fmt': 'yuv420p10le'}),
        ('stream.ts', {}),
    ],
)
def test_containers_and_codecs(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    frames = read(clip(tmp_path, name=name, **options))
    assert [read_number(frame.image) for frame in frames] == list(range(6))
    assert [frame.index for frame in frames] == list(range(6))
    np.testing.assert_allclose(
        [frame.seconds for frame in frames], np.arange(6) / options.get('fps', 10), atol=2e-3
    )


def test_rotated(tmp_path: Path) -> None:
    (upright, *_), (turned, *_) = read(clip(tmp_path)), read(turn(clip(tmp_path, name='t.mp4')))
    np.testing.assert_array_equal(turned.image, np.rot90(upright.image, -1))


def test_variable_rate(tmp_path: Path) -> None:
    times = [0, 0.1, 0.15, 0.9, 2.0, 2.04]
    frames = read(clip(tmp_path, name='clip.mkv', times=times))
    np.testing.assert_allclose([frame.seconds for frame in frames], times, atol=2e-3)
    slower = read(clip(tmp_path, name='clip.mkv', times=times), max_fps=5)
    assert [frame.index for frame in slower] == [0, 3, 4]


@pytest.mark.parametrize('name', ['clip.mkv', 'clip.ts', 'clip.avi', 'clip.mp4'])
def test_truncated(name: str, tmp_path: Path) -> None:
    rng, frames = np.random.default_rng(0), [numbered(i % 11, 96, 128) for i in range(30)]
    for image in frames:  # so that all frames need bytes
        image[48:] = rng.integers(0, 255, (48, 128, 3))
    options = {'movflags': 'faststart'} if name.endswith('mp4') else {}
    path = write_video(tmp_path / name, frames, options=options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    numbers = [read_number(frame.image) for frame in read(path)]
    assert 15 <= len(numbers) < 30
    assert numbers[:15] == [i % 11 for i in range(15)]


@pytest.mark.parametrize(
    ('name', 'content', 'reason'),
    [
        ('sound.m4a', None, 'no video stream'),
        ('text.mp4', b'no video' * 99, 'not a video that can be read'),
        ('text.txt', b'no video\n' * 99, 'no video stream'),
        ('empty.mp4', b'', 'not a video that can be read'),
        ('absent.mp4', None, 'not a video that can be read'),
    ],
)
def test_no_video(name: str, content: bytes | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == 'sound.m4a':
        write_video(path, [], sound=0.5)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoReadError, match=f'{name}.*{reason}'):
        read(path)


def test_one_frame(tmp_path: Path) -> None:
    (frame,) = read(clip(tmp_path, 1))
    assert (frame.index, frame.seconds, frame.image.shape) == (0, 0, (48, 64, 3))


def test_odd_size(tmp_path: Path) -> None:
    path = write_video(tmp_path / 'a.mkv', [numbered(2, 31, 45)], codec='ffv1', pix_fmt='bgr0')
    (frame,) = read(path)
    np.testing.assert_array_equal(frame.image, numbered(2, 31, 45))


def test_4k(tmp_path: Path) -> None:
    frames = (numbered(i, 2160, 3840) for i in range(2))
    path = write_video(tmp_path / 'a.mp4', frames, codec='mpeg4')
    assert [f.image.shape for f in read(path)] == [(2160, 3840, 3)] * 2


def test_animation(tmp_path: Path) -> None:
    first, *rest = (PIL.Image.fromarray(numbered(i)) for i in range(4))
    first.save(tmp_path / 'a.gif', save_all=True, append_images=rest, duration=[100, 200, 300, 100])
    frames = read(tmp_path / 'a.gif')
    assert [read_number(frame.image) for frame in frames] == list(range(4))
    np.testing.assert_allclose([frame.seconds for frame in frames], [0, 0.1, 0.3, 0.6], atol=2e-2)


@pytest.mark.parametrize(
    ('selection', 'indices'),
    [
        ({'start': 0.3}, [3, 4, 5, 6, 7, 8, 9]),
        ({'end': 0.3}, [0, 1, 2]),
        ({'stride': 4}, [0, 4, 8]),
        ({'max_fps': 5}, [0, 2, 4, 6, 8]),
        ({'start': 0.5, 'end': 0.9, 'stride': 2}, [6, 8]),
        ({'start': 9}, []),
    ],
)
def test_selection(selection: dict[str, Any], indices: list[int], tmp_path: Path) -> None:
    frames = read(clip(tmp_path, 10), **selection)
    assert [frame.index for frame in frames] == [read_number(f.image) for f in frames] == indices


def test_folder_of_frames(tmp_path: Path) -> None:
    for i in range(12):
        PIL.Image.fromarray(numbered(i)).save(tmp_path / f'frame{i}.png')
    (tmp_path / 'frame3.png').write_text('damaged')
    reader = VideoReader(tmp_path, fps=4)
    frames = list(reader)
    assert [read_number(f.image) for f in frames] == [f.index for f in frames]
    assert [f.seconds for f in frames] == [i / 4 for i in range(12) if i != 3]
    assert reader.broken == 1


# Writing


def durations(path: Path) -> dict[str, float]:
    """End of the last packet of each stream, in seconds."""
    import av

    ends: dict[str, float] = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.pts is not None:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                ends[packet.stream.type] = max(ends.get(packet.stream.type, 0), end)
    return ends


def join(folder: Path, source: Path, size: int = 4, **part: Any) -> Path:
    frames = read(source, **part)
    paths = []
    for start in range(0, len(frames), size):
        paths.append(folder / f'{start:06d}{SUFFIX}')
        shown = frames[start : start + size]
        rows = [(f.seconds - part.get('start', 0), f.image) for f in shown]
        write_segment(paths[-1], rows, 10)
    target = folder / f'joined{SUFFIX}'
    join_segments(target, paths, source, **part)
    return target


def test_joined_segments_keep_sound_and_time(tmp_path: Path) -> None:
    times = [0, 0.1, 0.2, 0.4, 0.5, 0.6, 1.0, 1.1, 1.2, 1.3]
    source = clip(tmp_path, 10, sound=1.4, times=times)
    target = join(tmp_path, source)
    frames = read(target)
    assert [read_number(frame.image) for frame in frames] == list(range(10))
    np.testing.assert_allclose([frame.seconds for frame in frames], times, atol=2e-3)
    before, after = durations(source), durations(target)
    assert set(after) == {'audio', 'video'}
    assert after['audio'] == pytest.approx(before['audio'], abs=0.01)
    assert after['video'] == pytest.approx(before['video'], abs=0.11)


def test_a_part_has_its_part_of_the_sound(tmp_path: Path) -> None:
    target = join(tmp_path, clip(tmp_path, 10, sound=1), start=0.3, end=0.7)
    frames = read(target)
    assert [read_number(frame.image) for frame in frames] == [3, 4, 5, 6]
    assert durations(target)['audio'] == pytest.approx(0.4, abs=0.2)


@pytest.mark.parametrize('codec', ['pcm_u8', 'pcm_s16le'])
def test_sound_that_the_format_cannot_hold_is_left_out(
    codec: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = join(tmp_path, clip(tmp_path, name='clip.mkv', sound=1, sound_codec=codec))
    assert len(read(target)) == 6 and set(durations(target)) == {'video'}
    assert 'cannot hold the sound' in caplog.text


def test_a_silent_video_stays_silent(tmp_path: Path) -> None:
    assert set(durations(join(tmp_path, clip(tmp_path)))) == {'video'}


def test_odd_sides_are_padded(tmp_path: Path) -> None:
    path = tmp_path / f'a{SUFFIX}'
    write_segment(path, [(0.0, numbered(3, 31, 45))], 10)
    (frame,) = read(path)
    assert frame.image.shape == (32, 46, 3)


def test_rates_do_not_change_times(tmp_path: Path) -> None:
    path = tmp_path / f'a{SUFFIX}'
    rate = float(Fraction(30000, 1001))
    write_segment(path, [(i / rate, numbered(i)) for i in range(5)], rate)
    steps = [b.seconds - a.seconds for a, b in pairwise(read(path))]
    np.testing.assert_allclose(steps, 1 / rate, atol=1e-3)


# Inputs


def test_videos_among_inputs(tmp_path: Path) -> None:
    for name in ('a/clip.mp4', 'b/clip.MKV', 'c.jpg', 'd.gif', 'e [1].mov'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / 'folder.mp4').mkdir()
    names = ('*/clip.*', 'c.jpg', 'd.gif', 'e [1].mov', 'folder.mp4', 'none.avi', 'x*.mp4')
    sources = [str(tmp_path / name) for name in names[1:]]
    sources += [str(tmp_path / 'a' / '*.mp4'), str(tmp_path / 'b' / 'clip.MKV'), '7', 'rtsp://h/1']
    videos, others, failures = split_videos(sources, [str(tmp_path / 'folder.mp4')])
    assert [v.name.partition('_2')[0] for v in videos[:2]] == ['e [1]', 'clip']
    assert [v.name for v in videos[2:3]] == ['clip_2']
    cameras = {v.source: v.name for v in videos if v.live}
    assert list(cameras) == [7, 'rtsp://h/1'] and cameras[7].startswith('camera_7_')
    assert videos[-1].name == 'folder' and not videos[-1].live
    assert [Path(other).name for other in others] == ['c.jpg', 'd.gif', 'folder.mp4']
    assert [Path(failure.input).name for failure in failures] == ['none.avi', 'x*.mp4']
    only, none, _ = split_videos([str(tmp_path / 'd.gif')], only_videos=True)
    assert [v.name for v in only] == ['d'] and none == []


def test_a_changed_file_has_another_fingerprint(tmp_path: Path) -> None:
    path = clip(tmp_path)
    (video,), _, _ = split_videos([str(path)])
    before = video.fingerprint()
    path.touch()
    assert video.fingerprint() == before
    path.write_bytes(path.read_bytes()[:-1] + b'x')
    assert video.fingerprint() != before
