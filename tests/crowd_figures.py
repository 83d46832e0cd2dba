"""Crowd figures against known answers: python -m tests.crowd_figures DATA [PART ...].

DATA has the folders mot_pets09_s2l1_a, trajectories, homography_soccertrack, pedestrian_dynamics
and crowd_counting. PART is one of PARTS; default: all. Some run the default
pipeline; its results stay in outputs/crowd_figures and are not computed again. The figures are in
docs/user_guide/crowd.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import shapely

from pipeline.__main__ import main as bmp
from pipeline.boxes import box_iou
from pipeline.crowd import Camera, analyze, figures, groups, scores
from pipeline.crowd.attributes import GroundSource, PersonTable, measure_people
from pipeline.crowd.camera import load_camera
from pipeline.crowd.exports import find_count_points
from pipeline.crowd.sources import find_sources, read_tracks
from pipeline.structures import People
from pipeline.synthetic.scene import SceneConfig, make_scene
from pipeline.tracking.formats import read_mot
from tests.crowds import oracle_people, score_occlusion

OUT = Path('outputs/crowd_figures')
DRAWN = ((20, 960, 640, 0.3, 0.6), (50, 1280, 800, 0.2, 0.45), (100, 1600, 900, 0.15, 0.35),
         (200, 1920, 1080, 0.1, 0.25))  # fmt: skip


def show(name: str, value: Any, goal: str = '') -> None:
    text = f'{value:.3f}' if isinstance(value, float) else str(value)
    sys.stdout.write(f'{name:<62} {text:>14}  {goal}\n')
    sys.stdout.flush()


def draw(number: int, width: int, height: int, low: float, high: float, seed: int) -> Any:
    return make_scene(SceneConfig(
        width=width, height=height, min_people=number, max_people=number, min_person_height=low,
        max_person_height=high, overlap=0.6, seed=seed, noise=0,
    ))  # fmt: skip


def report_drawn(name: str, parts: list[tuple[Any, People, Any]]) -> None:
    """Parts: scene, people and for each person the row in the scene, -1 without one."""
    total, visible, ground, measured = np.zeros(5), [], [], 0
    for scene, people, rows in parts:
        table, occlusion = measure_people(people)
        kept = rows >= 0
        hides = np.zeros((len(scene), len(scene)), bool)
        hides[np.ix_(rows[kept], rows[kept])] = occlusion.hides[np.ix_(kept, kept)]
        order = np.full(len(scene), np.nan)
        order[rows[kept]] = table.depth_order[kept]
        total += score_occlusion(scene, hides, order)
        true = scene.ground_points[rows[kept]]
        apart = np.linalg.norm(table.ground_px[kept] - true, axis=1)
        feet = np.isin(table.ground_sources[kept], [
            GroundSource.ANKLES, GroundSource.ANKLE, GroundSource.COVERED])  # fmt: skip
        ground += (apart / scene.standing_heights[rows[kept]])[feet].tolist()
        difference = table.visible_fraction[kept] - scene.visible_fractions[rows[kept]]
        visible += np.abs(difference[np.isfinite(difference)]).tolist()
        measured += int(kept.sum())
    hits, wrong, missed, right, pairs = total
    show(f'{name}: people measured', measured)
    show(f'{name}: occlusion pairs F1', 2 * hits / (2 * hits + wrong + missed), '>= .95')
    show(f'{name}: order of {int(pairs)} overlapping pairs right', right / pairs, '>= .95')
    show(f'{name}: visible fraction, mean error', float(np.mean(visible)), '<= .05')
    show(f'{name}: ground point, body heights, {len(ground)} people', float(np.mean(ground)),
         '<= .05')  # fmt: skip


def check_drawn(data: Path) -> None:
    for size in DRAWN:
        parts = []
        for seed in range(max(120 // size[0], 1)):
            scene = draw(*size, seed)
            parts.append((scene, oracle_people(scene), np.arange(len(scene))))
        report_drawn(f'drawn, {size[0]} people', parts)


def check_drawn_compact(data: Path) -> None:
    scenes = [draw(*DRAWN[0], seed) for seed in range(4)]
    folder = OUT / 'drawn'
    folder.mkdir(parents=True, exist_ok=True)
    for seed, scene in enumerate(scenes):
        PIL.Image.fromarray(scene.image).save(folder / f'{seed}.png')
    bmp(['run', str(folder), '--out-dir', str(OUT / 'drawn_results'), '--save', 'json'])
    (source,) = find_sources(OUT / 'drawn_results')
    parts = []
    for scene, people in zip(scenes, source.content, strict=True):
        overlap = box_iou(people.boxes, scene.boxes)
        rows = np.where(overlap.max(1) >= 0.5, overlap.argmax(1), -1)
        first = np.array([i == np.flatnonzero(rows == r)[0] for i, r in enumerate(rows)])
        parts.append((scene, people, np.where(first, rows, -1)))
    show('drawn, compact models: people in the images', sum(map(len, scenes)))
    report_drawn('drawn, compact models', parts)


def check_pets(data: Path) -> None:
    folder = data / 'mot_pets09_s2l1_a'
    camera = load_camera(folder / 'camera_tsai_view001.xml')
    rows = read_mot(folder / 'gt' / 'gt.txt', 10)
    true = pd.read_csv(folder / 'ground_plane_m.csv')
    keys = ['frame', 'track_id']
    true = true.rename(columns={'id': 'track_id'}).assign(frame=true.frame - 1)

    def compare(name: str, source: Any) -> None:
        analysis = analyze(source, camera)
        frame = analysis.to_dataframe().rename(columns={'image': 'frame'})
        both = frame.rename(columns={'x_m': 'x', 'y_m': 'y'}).merge(true, on=keys)
        error = np.hypot(both.x - both.x_m, both.y - both.y_m)
        show(f'PETS, {name}: ground points, mean error, m', float(error.mean()), '<= .3')
        speed = float(frame.speed_m_per_s.median())
        show(f'PETS, {name}: median speed, m/s', speed, '1.37 +- 10 %')
        for warning in analysis.warnings:
            show(f'PETS, {name}: {warning}', '')

    compare('true boxes', rows)


def check_pets_compact(data: Path) -> None:
    folder = data / 'mot_pets09_s2l1_a'
    camera = load_camera(folder / 'camera_tsai_view001.xml')
    out = OUT / 'pets'
    bmp(['run', str(folder / 'video.avi'), '--out-dir', str(out), '--save', 'json', '--max-rounds',
         '1', '--end', '12'])  # fmt: skip
    true = read_mot(folder / 'gt' / 'gt.txt', 10)
    (source,) = find_sources(out)
    analysis = analyze(source.content, camera)
    table = analysis.people
    errors = []
    for frame in np.unique(table.images):
        mine, theirs = np.flatnonzero(table.images == frame), np.flatnonzero(true.frames == frame)
        overlap = box_iou(table.boxes[mine].astype(np.float32), true.boxes[theirs])
        for i, j in zip(*np.nonzero(overlap >= 0.5), strict=True):
            box = true.boxes[theirs[j]]
            feet = camera.to_metres([((box[0] + box[2]) / 2, box[3])])[0]
            errors.append(np.linalg.norm(table.ground_m[mine[i]] - feet))
    known = np.array(errors)[np.isfinite(errors)]
    show('PETS, compact, 120 frames: matched people with a point', f'{len(known)}/{len(errors)}')
    show('PETS, compact: ground points, mean error, m', float(known.mean()), '(.3)')
    show('PETS, compact: ground points, median error, m', float(np.median(known)))
    speed = float(analysis.per_person.speed_m_per_s.median())
    show('PETS, compact: median speed, m/s', speed, '1.37 +- 10 %')
    (source,) = find_sources(out)
    assumed = analyze(source.content, assume_height_m=1.7)
    ids = np.random.default_rng(0).integers(len(table), size=(2, 2000))
    first, second = (np.linalg.norm(np.subtract(*points[ids]), axis=1)
                     for points in (assumed.people.ground_m, table.ground_m))  # fmt: skip
    ratio = (first / np.where(second > 1, second, np.nan))[np.isfinite(first)]
    assert assumed.camera is not None and assumed.camera.spread is not None
    show('PETS, assumed height 1.7 m: distances, median ratio', float(np.nanmedian(ratio)))
    show('PETS, assumed height 1.7 m: stated spread (1 SD)', assumed.camera.spread)


def check_trajectories(data: Path) -> None:
    for name, fps in (('eth_seq_eth', 15), ('ucy_zara01', 25)):
        folder = data / 'trajectories' / name
        matrix = np.loadtxt(folder / 'H.txt')
        camera = Camera(matrix[:, [1, 0, 2]])  # the file is in (row, column) order
        rows = np.loadtxt(folder / 'obsmat.txt')
        metres = rows[:, [2, 4]]
        pixels = camera.to_pixels(metres)
        image = PIL.Image.open(folder / 'reference.png')
        inside = ((pixels > -5) & (pixels < np.add(image.size, 5))).all(1).mean()
        error = np.linalg.norm(camera.to_metres(np.rint(pixels)) - metres, axis=1)
        show(f'{name}: m to whole px to m, median error', float(np.median(error)), '<= .05')
        back = np.abs(camera.to_metres(pixels) - metres).max()
        show(f'{name}: m to px to m, largest error', float(back), '<= .05')
        show(f'{name}: people inside of the image', float(inside))
        table = PersonTable.of_length(
            len(rows), images=rows[:, 0].astype(int), seconds=rows[:, 0] / fps,
            track_ids=rows[:, 1].astype(int), ground_m=metres,
        )  # fmt: skip
        trajectory = figures.make_trajectory(table, 2.5)
        moving = figures.measure_speeds(trajectory).merge(trajectory.data, on=['id', 'frame'])
        found = pairs_of(groups.find_walking_groups(moving, 2.5))
        lines = (folder / 'groups.txt').read_text().splitlines()
        true = pairs_of([tuple(map(int, line.split())) for line in lines])
        hits = len(found & true)
        show(f'{name}: pairs of groups, precision', hits / len(found))
        show(f'{name}: pairs of groups, recall', hits / len(true))
        show(f'{name}: pairs of groups, F1', 2 * hits / (len(found) + len(true)), '>= .75')


def pairs_of(parts: Any) -> set[tuple[int, int]]:
    return {(a, b) for part in parts for a in part for b in part if a < b}


def check_soccer(data: Path) -> None:
    folder = data / 'homography_soccertrack'
    pairs = json.loads((folder / 'keypoints_pitch_m_to_px.json').read_text())
    metres = np.array([[float(v) for v in key.strip('()').split(',')] for key in pairs])
    camera = Camera.from_points(np.array(list(pairs.values())), metres, None)
    boxes = pd.read_csv(folder / 'boxes_px.csv', header=[0, 1, 2], index_col=0)
    pitch = pd.read_csv(folder / 'pitch_m.csv', header=[0, 1, 2], index_col=0)
    errors = []
    for team, player in sorted({c[:2] for c in pitch.columns if c[0] != '3'}):
        box = boxes[team][player]
        feet = np.stack([box.bb_left + box.bb_width / 2, box.bb_top + box.bb_height], axis=1)
        errors.append(np.abs(camera.to_metres(feet) - pitch[team][player][['x', 'y']].to_numpy()))
    show('SoccerTrack: largest error, m', float(np.nanmax(errors)), '<= .05')
    show(f'SoccerTrack: {camera.notes[0]}', '')


def check_juelich(data: Path) -> None:
    folder = data / 'pedestrian_dynamics'
    jps = folder / 'jps_bottleneck'
    floor = ('POLYGON ((4 6.25, 4 0.53, 2.4 0.53, 2.4 -0.53, 4 -0.53, 4 -8.5, -2.25 -8.5, -2.25 '
             '-0.53, -0.6 -0.53, -0.6 0.53, -2.25 0.53, -2.25 6.25, 4 6.25))')  # fmt: skip
    area = 'POLYGON ((2.4 0.53, 2.4 -0.53, -0.6 -0.53, -0.6 0.53, 2.4 0.53))'
    table = read_tracks(jps / 'traj.txt')
    series, nt, flow = measure(table, floor, area, [(-2.25, 0.5), (4, 0.5)], 150)
    results = jps / 'results' / 'Fundamental_Diagram'

    def read(name: str) -> Any:
        return np.loadtxt(results / name, comments='#')

    def compare(name: str, column: str, answer: Any, goal: str) -> None:
        both = series[['frame', column]].merge(answer, on='frame')
        error = (both[column] - both.value).abs()
        show(f'AO-300: {name}, {len(both)} frames, largest error', float(error.max()), goal)
        show(f'AO-300: {name}, frames beyond 0.01', int((error > 0.01).sum()))

    for name, file, column, goal in (
        ('classic density', 'rho_v_Classic_traj.txt_id_1.dat', 'classic_density_per_m2', '<= .001'),
        ('Voronoi density', 'rho_v_Voronoi_Voronoi_traj.txt_id_1_blind_points_cut_off.dat',
         'voronoi_density_per_m2', '<= .01'),
    ):  # fmt: skip
        rows = read(f'Classical_Voronoi/{file}')
        # The last 20 frames of the Voronoi answers are wrong, as PedPy's tests note.
        rows = rows if column.startswith('classic') else rows[:-20]
        compare(name, column, pd.DataFrame({'frame': rows[:, 0].astype(int), 'value': rows[:, 1]}),
                goal)  # fmt: skip
    rows = read('FlowVelocity/Flow_NT_traj_AO_300.txt_id_4.dat')
    both = nt.merge(pd.DataFrame({'frame': rows[:, 0].astype(int), 'n': rows[:, 2]}), on='frame')
    show('AO-300: N-t, frames that differ', int((both.cumulative_people != both.n).sum()), '0')
    rows = read('FlowVelocity/FDFlowVelocity_traj_AO_300.txt_id_4.dat')[1:]
    got = flow.flow_per_s.to_numpy()[1 : len(rows) + 1]
    show('AO-300: flow, largest error', float(np.abs(got - rows[:, 0]).max()), '<= .01')
    for name, unit in (('040_c_56_h-', 1), ('uo-060-180-180', 100), ('uo-180-180-180', 100)):
        check_run(folder, name, unit)


def check_run(folder: Path, name: str, unit: int) -> None:
    setup = json.loads((folder / f'{name}.expected.json').read_text())
    table = read_tracks(folder / f'{name}.txt', setup['frame_rate'])
    table.ground_m[:] /= unit
    first, last = setup['evaluated_frames']
    table = table.select((table.images >= first) & (table.images <= last))
    line = list(shapely.from_wkt(setup['line_wkt']).coords)
    walkable = setup.get('walkable_wkt')
    series, nt, flow = measure(table, walkable, setup['area_wkt'], line,
                                  setup['flow_delta_frames'])  # fmt: skip
    answer = pd.read_csv(folder / f'{name}.expected_per_frame.csv')
    shift = int(table.images.min())
    both = series.assign(frame=series.frame + shift).merge(answer, on='frame')
    for column, true, goal in (
        ('classic_density_per_m2', 'classic_density', '<= .001'),
        ('voronoi_density_per_m2', 'voronoi_density_cutoff0.8', '<= .01'),
        ('voronoi_speed_m_per_s', 'voronoi_speed', '<= .01'),
    ):
        error = (both[column] - both[true]).abs()
        show(f'{name}: {true}, {len(both)} frames, largest error', float(error.max()), goal)
    both = nt.assign(frame=nt.frame + shift).merge(answer, on='frame')
    wrong = (both.cumulative_people != both.cumulative_pedestrians).sum()
    show(f'{name}: N-t, frames that differ', int(wrong), '0')
    true = pd.read_csv(folder / f'{name}.expected_flow.csv').flow.to_numpy()
    got = flow.flow_per_s.to_numpy()
    error = np.abs(got - true).max() if len(got) == len(true) else np.nan
    show(f'{name}: flow, largest error', float(error), '<= .01')


def measure(
    table: PersonTable, floor: str | None, area: str, line: Any, delta_frames: int
) -> tuple[Any, ...]:
    trajectory = figures.make_trajectory(table)
    walkable = figures.make_floor(trajectory, None if floor is None else shapely.from_wkt(floor))
    trajectory, _ = figures.keep_inside(trajectory, walkable)
    cells = figures.measure_cells(trajectory, walkable)
    speeds = figures.measure_speeds(trajectory, 5)
    series = figures.measure_area(trajectory, cells, speeds, shapely.from_wkt(area))
    seconds = delta_frames / trajectory.frame_rate
    nt, flow = figures.measure_line(trajectory, speeds, np.array(line, float), seconds)
    return series, nt, flow


def check_counting(data: Path) -> None:
    """Counts, and heads within a quarter of the median height of the boxes of an image."""
    folder = data / 'crowd_counting'
    for slices, score in product(('off', '2x2'), ('0.42', '0.3')):
        out = OUT / f'counting_{slices}'
        # Another minimum score computes nothing again.
        bmp(['run', str(folder / 'street_india'), str(folder / 'shanghaitech_A'), '--slices',
             slices, '--min-score', score, '--out-dir', str(out), '--save', 'json'])  # fmt: skip
        (source,) = find_sources(out)
        by_set: dict[str, list[Any]] = {}
        for people in source.content:
            path = Path(people.path)
            true = pd.read_csv(path.with_suffix('.csv')).to_numpy(float).reshape(-1, 2)
            size = np.median(people.boxes[:, 3] - people.boxes[:, 1]) if len(people) else 50.0
            match = scores.match_points(find_count_points(people), true, max(0.25 * size, 8))
            by_set.setdefault(path.parent.name, []).append((len(people), len(true), match))
        for name, rows in by_set.items():
            errors = scores.score_counts([r[0] for r in rows], [r[1] for r in rows])
            total = sum((r[2] for r in rows), scores.Localisation(0, 0, 0))
            title = f'{name}, {errors.images} images, slices {slices}, score {score}'
            show(f'{title}: MAE (RMSE, bias)',
                 f'{errors.mae:.1f} ({errors.rmse:.1f}, {errors.bias:+.1f})')  # fmt: skip
            show(f'{title}: F1 (P, R)',
                 f'{total.f1:.3f} ({total.precision:.2f}, {total.recall:.2f})')  # fmt: skip


def draw_pictures(data: Path) -> None:
    """The pictures of the user guide, from a drawn video and its ground truth."""
    from pipeline.io.atomic import write_json
    from pipeline.synthetic.video import VideoConfig, make_camera, make_frames
    from pipeline.tracking.formats import TrackedPeople
    from pipeline.video.store import FrameStore
    from pipeline.video.writer import write_segment

    config = VideoConfig(num_frames=150, fps=12.5, width=640, height=360, num_people=24,
                         min_person_height=0.15, max_person_height=0.5, seed=5)  # fmt: skip
    folder = OUT / 'pictures'
    folder.mkdir(parents=True, exist_ok=True)
    frames = list(make_frames(config))
    write_segment(folder / 'drawn.mp4', ((f.seconds, f.scene.image) for f in frames), 12.5)
    FrameStore(folder / 'frames', 200).write(0, [
        TrackedPeople(f.index, f.seconds, oracle_people(f.scene), f.track_ids) for f in frames
    ])  # fmt: skip
    write_json(folder / 'video.json', {'source': str(folder / 'drawn.mp4')})
    write_json(folder / 'camera.json', make_camera(config))
    zone = {'name': 'square', 'unit': 'm', 'polygon': [[-3, 5], [3, 5], [3, 11], [-3, 11]]}
    write_json(folder / 'zones.json', {'zones': [zone]})
    line = {'name': 'middle', 'unit': 'm', 'points': [[0, 3], [0, 14]]}
    write_json(folder / 'lines.json', {'lines': [line]})
    bmp(['crowd', str(folder), '--camera', str(folder / 'camera.json'), '--zones',
         str(folder / 'zones.json'), '--lines', str(folder / 'lines.json'), '--out-dir',
         str(folder / 'out'), '--pictures', '1'])  # fmt: skip
    for path in (folder / 'out' / 'figures').glob('*.png'):
        name = 'occlusion' if path.stem.startswith('occlusion') else path.stem
        picture = PIL.Image.open(path).convert('RGB')
        picture.thumbnail((520, 520))
        target = Path('docs/img') / f'crowd_{name}.png'
        picture.quantize(255).save(target, optimize=True)
        show(str(target), target.stat().st_size)


PARTS: dict[str, Callable[[Path], None]] = {
    'drawn': check_drawn, 'drawn-compact': check_drawn_compact, 'pets': check_pets,
    'pets-compact': check_pets_compact, 'trajectories': check_trajectories,
    'soccer': check_soccer, 'juelich': check_juelich, 'counting': check_counting,
    'pictures': draw_pictures,
}  # fmt: skip

if __name__ == '__main__':
    root, *parts = sys.argv[1:]
    for part in parts or [name for name in PARTS if name != 'pictures']:
        PARTS[part](Path(root))
