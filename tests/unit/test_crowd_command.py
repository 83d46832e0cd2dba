"""`bmp crowd` and `analyze`: every file, real sources, bad inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pedpy
import PIL.Image
import pytest

from pipeline.__main__ import main
from pipeline.crowd import Camera, Region, analyze, summarize
from pipeline.crowd.attributes import GroundSource, PersonTable
from pipeline.io.atomic import write_json
from pipeline.structures import ImageSource, People
from pipeline.synthetic.scene import SceneConfig, make_scene
from pipeline.synthetic.video import VideoConfig, make_camera, make_frames
from pipeline.tracking.formats import TrackedPeople, read_mot, write_mot
from pipeline.tracking.tracks import TrackRows
from pipeline.video.store import FrameStore
from tests.crowds import oracle_people

CONFIG = VideoConfig(num_frames=24, fps=8, width=320, height=240, num_people=5, noise=0, seed=3)


@pytest.fixture(scope='module')
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run: two images and a video, made from ground truth."""
    folder = tmp_path_factory.mktemp('run')
    (folder / 'predictions').mkdir()
    for seed in (1, 2):
        scene = make_scene(SceneConfig(min_people=6, max_people=6, seed=seed, noise=0))
        path = folder / f'{seed}.png'
        PIL.Image.fromarray(scene.image).save(path)
        people = oracle_people(scene)
        people.save(folder / 'predictions' / f'{seed}.json')
        record = json.loads((folder / 'predictions' / f'{seed}.json').read_text())
        write_json(folder / 'predictions' / f'{seed}.json', record | {'source': str(path)})
    video = folder / 'videos' / 'clip'
    frames = [
        TrackedPeople(f.index, f.seconds, oracle_people(f.scene), f.track_ids)
        for f in make_frames(CONFIG)
    ]
    FrameStore(video / 'frames').write(0, frames)
    write_json(video / 'video.json', {'source': 'gone.mp4'})
    write_json(folder / 'camera.json', make_camera(CONFIG))
    return folder


def test_every_file_of_a_run(results: Path, tmp_path: Path) -> None:
    zones = {'zones': [
        {'name': 'all', 'unit': 'px', 'polygon': [[0, 0], [640, 0], [640, 480], [0, 480]]},
        {'name': 'front', 'unit': 'm', 'polygon': [[-9, 0], [9, 0], [9, 9], [-9, 9]]},
        {'name': 'queue', 'unit': 'm', 'kind': 'queue',
         'polygon': [[-9, 0], [9, 0], [9, 9], [-9, 9]]},
    ]}  # fmt: skip
    write_json(tmp_path / 'zones.json', zones)
    line = {'name': 'middle', 'unit': 'm', 'points': [[0, 0], [0, 30]]}
    write_json(tmp_path / 'lines.json', {'lines': [line]})
    out = tmp_path / 'out'
    options = ['--zones', str(tmp_path / 'zones.json'), '--lines', str(tmp_path / 'lines.json')]
    command = ['crowd', str(results), '--camera', str(results / 'camera.json'), '--parquet']
    assert main([*command, *options, '--out-dir', str(out)]) == 0
    images, clip = out / 'images', out / 'clip'
    pictures = {path.stem for path in (images / 'figures').glob('*.png')}
    assert {'top_view', 'density_map', 'distances', 'heat_map', 'occlusion_000000'} <= pictures
    moving = {path.stem for path in (clip / 'figures').glob('*.png')}
    assert {'n_t', 'density_over_time', 'fundamental_diagram', 'speed_map'} <= moving
    people = pd.read_csv(clip / 'people.csv')
    assert len(pd.read_parquet(clip / 'people.parquet')) == len(people)
    rows = pd.read_csv(clip / 'images.csv')
    assert len(rows) == CONFIG.num_frames and rows.people.sum() == len(people)
    loaded = pedpy.load_trajectory(trajectory_file=clip / 'trajectories.txt')
    assert loaded.frame_rate == pytest.approx(8) and set(loaded.data.id) <= set(people.track_id)
    graph = json.loads((clip / 'occlusion.json').read_text())
    assert len(graph) == CONFIG.num_frames and any(row['edges'] for row in graph)
    summary = json.loads((clip / 'summary.json').read_text())
    assert 0.3 < summary['speed_m_per_s']['median'] < 2.5, summary['warnings']
    assert {row['zone'] for row in summary['zones']} == {'all', 'front', 'queue'}
    assert {'mean_queue_length_m'} <= set(summary['zones'][0])
    assert summary['lines'][0]['line'] == 'middle' and summary['definitions']
    assert np.load(clip / 'density.npz')['density_per_m2'].ndim == 2
    assert pd.read_csv(clip / 'series' / 'nt_middle.csv').cumulative_people.iloc[-1] >= 0


def test_without_a_camera_nothing_is_in_metres(results: Path, tmp_path: Path) -> None:
    assert main(['crowd', str(results / 'videos' / 'clip'), '--out-dir', str(tmp_path)]) == 0
    frame = pd.read_csv(tmp_path / 'people.csv')
    assert frame.x_m.isna().all() and not [c for c in frame.columns if 'per_m2' in c]
    assert frame.visible_fraction.between(0, 1).mean() > 0.9
    assert not (tmp_path / 'trajectories.txt').exists()
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert summary['camera'] is None and 'speed_m_per_s' not in summary
    units = ('_px', '_m', '_per_m2', '_m_per_s', '_per_s2', '_deg', '_per_height2')
    bare = {'image', 'name', 'seconds', 'track_id', 'person_id', 'score', 'ground_source',
            'visible_fraction', 'max_iou', 'neighbours', 'depth_order', 'occluders',
            'occluded'}  # fmt: skip
    assert not [c for c in frame.columns if c not in bare and not c.endswith(units)]


def test_metres_of_a_drawn_video_are_those_of_its_camera() -> None:
    frames = list(make_frames(CONFIG))
    content = make_camera(CONFIG)
    camera = Camera.from_projection(
        content['intrinsics'], content['rotation'], content['translation']
    )
    tracked = [TrackedPeople(f.index, f.seconds, oracle_people(f.scene), f.track_ids)
               for f in frames]  # fmt: skip
    result = analyze(tracked, camera)
    true = camera.to_metres(np.concatenate([f.scene.ground_points for f in frames]))
    near = np.isin(result.people.ground_sources, [GroundSource.ANKLES, GroundSource.ANKLE])
    apart = np.linalg.norm(result.people.ground_m - true, axis=1)[near]
    assert np.median(apart) < 0.25 and near.sum() > 50
    assert result.warnings == ()
    assumed = analyze(tracked, assume_height_m=1.7)
    assert assumed.camera is not None and assumed.camera.approximate
    heads = camera.measure_heights(
        np.concatenate([f.scene.ground_points for f in frames]), result.people.head_px
    )
    assert np.nanmedian(heads) == pytest.approx(0.93 * 1.7, abs=0.15)


def test_frames_without_time_stamps_have_no_speeds() -> None:
    tracked = [
        TrackedPeople(f.index, 0.0, oracle_people(f.scene), f.track_ids)
        for f in make_frames(CONFIG)
    ]
    content = make_camera(CONFIG)
    camera = Camera.from_projection(
        content['intrinsics'], content['rotation'], content['translation']
    )
    result = analyze(tracked, camera)
    assert 'no time stamps' in result.warnings[0]
    assert result.per_person['speed_m_per_s'].isna().all()
    assert result.per_person['voronoi_density_per_m2'].notna().any()
    timed = analyze(tracked, camera, fps=8)
    assert timed.per_person['speed_m_per_s'].median() > 0.3


def test_tracks_of_boxes_and_trajectories_are_sources(tmp_path: Path) -> None:
    boxes = np.array([(10 + 2 * i, 20, 30 + 2 * i, 70) for i in range(10)], np.float32)
    frames = np.arange(10)
    rows = TrackRows(frames, frames / 10, np.ones(10, int), boxes, np.ones(10, np.float32),
                     np.zeros(10, np.int32))  # fmt: skip
    write_mot(tmp_path / 'mot.txt', rows)
    assert len(analyze(read_mot(tmp_path / 'mot.txt')).people) == 10
    out = tmp_path / 'out'
    assert main(['crowd', str(tmp_path / 'mot.txt'), '--fps', '10', '--out-dir', str(out)]) == 0
    assert set(pd.read_csv(out / 'people.csv').ground_source) == {'box'}
    (tmp_path / 'track.txt').write_text(
        '# framerate: 10 fps\n# id frame x/cm y/cm z/cm\n'
        + ''.join(f'{i} {f} {10 * f} {50 * i} 0\n' for i in (1, 2) for f in range(20))
    )
    assert main(['crowd', str(tmp_path / 'track.txt'), '--out-dir', str(out)]) == 0
    summary = json.loads((out / 'summary.json').read_text())
    assert summary['speed_m_per_s']['median'] == pytest.approx(1)
    assert summary['nearest_m']['median'] == pytest.approx(0.5)
    assert summary['walking_groups'] == 0  # together for less than 2 s


def test_exports_of_images(results: Path, tmp_path: Path) -> None:
    images = tmp_path / 'images'
    images.mkdir()
    (images / 'predictions').symlink_to(results / 'predictions')
    command = ['crowd', str(images), '--out-dir', str(tmp_path / 'out'), '--pictures', '0']
    assert main([*command, '--export', 'cvat', 'nwpu']) == 0
    exports = tmp_path / 'out' / 'exports'
    assert {path.name for path in exports.iterdir()} == {'cvat.xml', 'nwpu'}
    assert (exports / 'nwpu' / 'counting.txt').read_text() == '1 6\n2 6\n'


def test_nobody_gives_valid_empty_tables(tmp_path: Path) -> None:
    People.empty(48, 64).save(tmp_path / 'nobody.json')
    write_json(tmp_path / 'camera.json', make_camera(CONFIG))
    out = tmp_path / 'out'
    command = ['crowd', str(tmp_path / 'nobody.json'), '--out-dir', str(out)]
    assert main([*command, '--camera', str(tmp_path / 'camera.json')]) == 0
    assert len(pd.read_csv(out / 'people.csv')) == 0
    assert pd.read_csv(out / 'images.csv').people.tolist() == [0]
    assert json.loads((out / 'summary.json').read_text())['people_per_image']['mean'] == 0
    assert len(analyze([]).to_dataframe()) == 0


@pytest.mark.parametrize(
    'points',
    [[], [(1, 1)], [(1, 1)] * 3, [(i, 0) for i in range(5)], [(np.nan, 1), (2, 2)],
     [(0, 0), (1e6, 9)]],
    ids=['nobody', 'one', 'one point', 'one line', 'one empty', 'far'],
)  # fmt: skip
def test_few_and_degenerate_positions(points: list[tuple[float, float]]) -> None:
    table = PersonTable.of_length(len(points), ground_m=np.array(points, float).reshape(-1, 2))
    result = analyze(table)
    assert result.images.people.sum() == len(points) == len(result.to_dataframe())
    assert summarize(result)['people'] == len(points)


def test_a_zone_outside_of_the_image_and_another_camera_give_warnings() -> None:
    scene = make_scene(SceneConfig(min_people=6, max_people=6, seed=1, noise=0))
    people = oracle_people(scene)
    away = Region('away', np.array([(900, 0), (950, 0), (950, 50)]), 'px')
    assert 'lies outside of the image' in analyze(people, zones=[away]).warnings[0]
    content = make_camera(CONFIG)
    other = Camera.from_projection(
        content['intrinsics'], content['rotation'], np.array(content['translation']) * 6
    )
    assert 'people are' in ' '.join(analyze(people, other).warnings)


WRONG = {
    'no such folder': (['gone'], 'gone'),
    'folder without results': (['{tmp}/empty'], 'neither predictions/'),
    'zone in m without camera': (['{tmp}/p.json', '--zones', '{tmp}/zones.json'], 'no camera'),
    'too few people': (['{tmp}/p.json', '--assume-height', '1.7'], 'needs 5 people'),
    'height': (['{tmp}/p.json', '--assume-height', '-1'], 'above 0'),
    'camera': (['{tmp}/p.json', '--camera', '{tmp}/p.json'], 'unit must be one of'),
    'camera absent': (['{tmp}/p.json', '--camera', '{tmp}/gone.json'], 'check the path'),
    'text': (['{tmp}/text.txt'], 'neither MOTChallenge text'),
    'people': (['{tmp}/zones.json'], 'not people'),
    'export': (['{tmp}/p.json', '--export', 'voc'], 'format must be one of cvat'),
}  # fmt: skip


@pytest.mark.parametrize('name', WRONG)
def test_wrong_inputs_are_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, message = WRONG[name]
    People.empty(48, 64).save(tmp_path / 'p.json')
    (tmp_path / 'text.txt').write_text('hello world\n')
    (tmp_path / 'empty' / 'predictions').mkdir(parents=True)
    zone = {'name': 'a', 'unit': 'm', 'polygon': [[0, 0], [1, 0], [1, 1]]}
    write_json(tmp_path / 'zones.json', {'zones': [zone]})
    filled = [a.format(tmp=tmp_path) for a in arguments]
    with pytest.raises(SystemExit) as end:
        main(['crowd', *filled, '--out-dir', str(tmp_path / 'out')])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = Path(__file__).parents[2] / 'docs' / 'examples' / 'crowd.ipynb'
    names: dict[str, Any] = {}
    for cell in json.loads(notebook.read_text('utf-8'))['cells']:
        assert not cell.get('outputs'), 'the notebook is kept without outputs'
        if cell['cell_type'] == 'code':
            exec(''.join(cell['source']), names)
    assert 0.5 < names['summary']['speed_m_per_s']['median'] < 2.5
    assert len(names['pictures']) >= 8 and not names['crowd'].warnings


def test_images_keep_their_names() -> None:
    scene = make_scene(SceneConfig(min_people=2, max_people=2, seed=1, noise=0))
    from dataclasses import replace

    people = replace(oracle_people(scene), source=ImageSource('a.jpg'))
    assert set(analyze([people, people]).to_dataframe().name) == {'a.jpg'}
