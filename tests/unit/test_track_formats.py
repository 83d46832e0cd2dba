"""Files of tracks are read back as written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from pipeline.cli.score_tracks import score_files
from pipeline.evaluation.track_files import TrackTask
from pipeline.structures import People
from pipeline.synthetic.video import VideoConfig, VideoFrame, make_frames
from pipeline.tracking import formats
from pipeline.tracking.formats import TrackedPeople, VideoSize
from pipeline.tracking.tracks import TrackRows
from projects.studies.drawn_people import to_people as find_everyone

CONFIG = VideoConfig(num_frames=12, fps=4, num_people=4, width=160, height=120, seed=5)
SIZE = VideoSize('drawn', 120, 160, 12, 4)


def to_people(frame: VideoFrame) -> People:
    """The people of a drawn frame with different scores."""
    people = find_everyone(frame)
    return replace(people, scores=np.linspace(0.95, 0.7, len(people)).astype(np.float32))


@pytest.fixture(scope='module')
def frames() -> list[TrackedPeople]:
    return [
        TrackedPeople(f.index, f.seconds, to_people(f), f.track_ids) for f in make_frames(CONFIG)
    ]


def to_rows(frames: list[TrackedPeople]) -> TrackRows:
    return TrackRows.join(frame.to_rows() for frame in frames)


def test_mot(frames: list[TrackedPeople], tmp_path: Path) -> None:
    rows = to_rows(frames)
    formats.write_mot(tmp_path / 'a.txt', rows)
    again = formats.read_mot(tmp_path / 'a.txt', fps=4)
    assert again.frames.tolist() == rows.frames.tolist()
    assert again.track_ids.tolist() == rows.track_ids.tolist()
    np.testing.assert_allclose(again.boxes, rows.boxes, atol=0.02)
    np.testing.assert_allclose(again.scores, rows.scores, atol=1e-4)
    np.testing.assert_allclose(again.seconds, rows.seconds)


@pytest.mark.parametrize(
    ('text', 'ids'),
    [
        ('1,7,0,0,10,20\n', [7]),
        ('1,7,0,0,10,20,0.3,-1,-1,-1\n\n2,8,0,0,10,20,1\n', [7, 8]),
        ('1,7,0,0,10,20,1,1,0.4\n1,8,0,0,9,9,0,1,1\n1,9,0,0,9,9,1,3,1\n', [7]),
        ('1 7 0 0 10 20\n', [7]),
        ('', []),
    ],
    ids=['six columns', 'result', 'ground truth', 'spaces', 'empty'],
)
def test_mot_columns(text: str, ids: list[int], tmp_path: Path) -> None:
    (tmp_path / 'a.txt').write_text(text)
    assert formats.read_mot(tmp_path / 'a.txt').track_ids.tolist() == ids


@pytest.mark.parametrize('line', ['1,2,3', 'a,b,c,d,e,f', '0,1,0,0,5,5', '1,1,nan,0,5,5'])
def test_a_bad_line_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / 'a.txt').write_text(f'1,1,0,0,5,5\n{line}\n')
    with pytest.raises(ValueError, match=r'a\.txt, line 2: .* is not a row'):
        formats.read_mot(tmp_path / 'a.txt')


def test_mots(frames: list[TrackedPeople], tmp_path: Path) -> None:
    formats.write_mots(tmp_path / 'a.txt', frames)
    again = list(formats.read_mots(tmp_path / 'a.txt'))
    assert [index for index, *_ in again] == [f.index for f in frames]
    for (_, ids, masks), frame in zip(again, frames, strict=True):
        assert (ids - 2000).tolist() == frame.track_ids.tolist()
        assert masks.to_rle() == frame.people.masks.to_rle()


def test_mots_rejects_other_files(tmp_path: Path) -> None:
    (tmp_path / 'a.txt').write_text('1 2001 2 120 160\n')
    with pytest.raises(ValueError, match=r'line 1: .* of MOTS'):
        list(formats.read_mots(tmp_path / 'a.txt'))


def test_coco_video(frames: list[TrackedPeople], tmp_path: Path) -> None:
    formats.write_coco_video(tmp_path / 'a.json', frames, SIZE)
    rows = json.loads((tmp_path / 'a.json').read_text())
    ids = sorted({i for f in frames for i in f.track_ids.tolist()})
    assert [row['track_id'] for row in rows] == ids
    for row in rows:
        assert len(row['segmentations']) == SIZE.num_frames
        for frame, rle in zip(frames, row['segmentations'], strict=True):
            assert (rle is None) == (row['track_id'] not in frame.track_ids)


def test_posetrack(frames: list[TrackedPeople], tmp_path: Path) -> None:
    formats.write_posetrack(tmp_path / 'a.json', frames, SIZE)
    content = json.loads((tmp_path / 'a.json').read_text())
    assert content['categories'][0]['keypoints'] == list(formats.POSETRACK_KEYPOINTS)
    assert [i['frame_id'] for i in content['images']] == [i['id'] for i in content['images']]
    first = [a for a in content['annotations'] if a['image_id'] == content['images'][0]['id']]
    assert [a['track_id'] for a in first] == frames[0].track_ids.tolist()
    points = np.array(first[0]['keypoints']).reshape(17, 3)[:, :2]
    wanted = frames[0].people.keypoints[0]
    np.testing.assert_allclose(points[3:], wanted[3:], atol=0.01)
    np.testing.assert_allclose(points[1], (wanted[0] + wanted[5:7].mean(0)) / 2, atol=0.01)


def test_cvat(tmp_path: Path) -> None:
    index = np.array([0, 1, 2, 5])
    boxes = np.tile(np.array([[1, 2, 30, 40]], np.float32), (4, 1))
    rows = TrackRows(
        index, index / 4, np.full(4, 3), boxes, np.ones(4, np.float32),
        np.array([0, -1, 0, 0], np.int32),
    )  # fmt: skip
    formats.write_cvat(tmp_path / 'a.xml', rows, SIZE)
    (track,) = ElementTree.parse(tmp_path / 'a.xml').getroot().iter('track')
    assert track.attrib == {'id': '3', 'label': 'person'}
    found = [(b.get('frame'), b.get('outside'), b.get('occluded')) for b in track]
    assert found == [
        ('0', '0', '0'), ('1', '0', '1'), ('2', '0', '0'), ('3', '1', '0'), ('5', '0', '0'),
        ('6', '1', '0'),
    ]  # fmt: skip


def test_trajectories(frames: list[TrackedPeople], tmp_path: Path) -> None:
    rows = to_rows(frames)
    formats.write_trajectories(tmp_path / 'a.txt', rows, 4)
    text = (tmp_path / 'a.txt').read_text().splitlines()
    assert text[:2] == ['# framerate: 4 fps', '# id frame x/px y/px z/px']
    table = np.loadtxt(tmp_path / 'a.txt')
    assert len(table) == len(rows)
    assert (np.diff(table[:, 0]) >= 0).all()
    row = rows.select((rows.track_ids == table[0, 0]) & (rows.frames == table[0, 1]))
    np.testing.assert_allclose(
        table[0, 2:4], [row.boxes[0, [0, 2]].mean(), row.boxes[0, 3]], atol=1e-2
    )


@pytest.mark.parametrize('task', ['boxes', 'masks', 'poses'])
def test_written_files_score_perfectly(
    task: TrackTask, frames: list[TrackedPeople], tmp_path: Path
) -> None:
    write = {
        'boxes': lambda path: formats.write_mot(path, to_rows(frames)),
        'masks': lambda path: formats.write_mots(path, frames),
        'poses': lambda path: formats.write_posetrack(path, frames, SIZE),
    }[task]
    write(tmp_path / 'a')
    (scores,) = score_files(tmp_path / 'a', tmp_path / 'a', task).values()
    assert (scores.hota, scores.mota, scores.idf1) == pytest.approx((1, 1, 1))
