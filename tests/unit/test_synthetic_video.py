"""Drawn crowds in motion: reproducible frames with exact identities."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest

from pipeline.synthetic.video import VideoConfig, VideoFrame, make_frames

CONFIG = VideoConfig(num_frames=40, fps=10, num_people=5, width=200, height=150, seed=3)


def frames(config: VideoConfig = CONFIG, start: int = 0) -> list[VideoFrame]:
    return list(make_frames(config, start))


def test_a_frame_depends_on_nothing_but_its_index() -> None:
    whole, tail = frames(), frames(start=30)
    assert [f.index for f in tail] == list(range(30, 40))
    for first, second in zip(whole[30:], tail, strict=True):
        np.testing.assert_array_equal(first.scene.image, second.scene.image)
        np.testing.assert_array_equal(first.track_ids, second.track_ids)
        assert first.seconds == second.seconds == first.index / 10


def test_people_keep_their_identity_and_move_smoothly() -> None:
    places: dict[int, tuple[int, float]] = {}
    distances = []
    for frame in frames():
        assert len(set(frame.track_ids.tolist())) == len(frame.scene)
        boxes = frame.scene.amodal_boxes
        for track, x in zip(frame.track_ids.tolist(), boxes[:, [0, 2]].mean(1), strict=True):
            index, before = places.get(track, (-9, 0.0))
            if index == frame.index - 1:
                distances.append(abs(x - before))
            places[track] = frame.index, float(x)
    assert max(distances) < 20
    assert np.mean(distances) > 1  # most of them walk


def test_people_return_under_a_new_track_id() -> None:
    config = replace(CONFIG, num_frames=60, fps=1, leaving=1, standing=0, noise=0)
    seen: dict[int, list[tuple[int, int]]] = {}
    for frame in frames(config):
        for person, track in zip(frame.person_ids.tolist(), frame.track_ids.tolist(), strict=True):
            assert (track - person) % config.num_people == 0
            seen.setdefault(person, []).append((frame.index, track))
    returned = [rows for rows in seen.values() if len({track for _, track in rows}) > 1]
    assert returned
    for rows in returned:  # a gap of at least one frame lies before each new id
        for (first, a), (second, b) in pairwise(rows):
            assert (a == b) or (b > a and second > first + 1)


def test_visible_fractions_agree_with_the_masks() -> None:
    for frame in islice(frames(), 0, None, 10):
        inside = frame.scene.masks.areas
        assert (inside > 0).all()
        assert ((frame.visible_fractions > 0) & (frame.visible_fractions <= 1)).all()
    hidden = min(float(f.visible_fractions.min()) for f in frames())
    assert hidden < 0.5  # somebody crosses


def test_the_camera_moves_the_background() -> None:
    still = replace(CONFIG, num_people=0, noise=0, num_frames=3, fps=1)
    first, _, third = (f.scene.image for f in make_frames(still))
    np.testing.assert_array_equal(first, third)
    first, _, third = (f.scene.image for f in make_frames(replace(still, camera_pan=0.2)))
    shift = round(40 * np.sin(2 * np.pi * 2 / 12))
    np.testing.assert_array_equal(first[:, shift:], third[:, :-shift])


@pytest.mark.parametrize(
    ('name', 'value'),
    [('num_frames', 0), ('fps', 0), ('num_people', -1), ('width', 8), ('min_person_height', 0.9)],
)
def test_bad_settings_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f'{name}=.* is out of range; choose'):
        replace(CONFIG, **{name: value})
