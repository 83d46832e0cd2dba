"""Densities, speeds, flows, zones, groups and errors with answers that are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.crowd import figures, groups, regions, scores
from pipeline.crowd.attributes import PersonTable
from pipeline.crowd.regions import Region, RegionError, load_regions

SQUARE = Region('square', np.array([(0, 0), (10, 0), (10, 10), (0, 10)]))


def walkers(paths: dict[int, np.ndarray], fps: float = 10.0, start: int = 0) -> PersonTable:
    """Tracks of positions in metres, a row per frame."""
    rows = [(k, start + f, *xy) for k, path in paths.items() for f, xy in enumerate(path)]
    table = np.array(rows, float).reshape(-1, 4)
    frames = table[:, 1].astype(int)
    return PersonTable.of_length(
        len(table), images=frames, seconds=frames / fps, track_ids=table[:, 0].astype(int),
        ground_m=table[:, 2:],
    )  # fmt: skip


def line_up(number: int, step: tuple[float, float], start: tuple[float, float]) -> np.ndarray:
    return np.array(start) + np.arange(number)[:, None] * np.array(step)


def test_density_speed_and_flow_of_a_column_of_walkers() -> None:
    # A person a metre, all at 1 m/s to the right: one person a second over a line.
    paths = {i + 1: line_up(101, (0.1, 0), (0.05 - i, 5.0)) for i in range(12)}
    trajectory = figures.make_trajectory(walkers(paths, start=7))
    assert trajectory.frame_rate == pytest.approx(10)
    assert trajectory.data.frame.min() == 0
    speeds = figures.measure_speeds(trajectory)
    assert speeds.speed.to_numpy() == pytest.approx(1)
    floor = figures.make_floor(trajectory)
    cells = figures.measure_cells(trajectory, floor)
    area = figures.measure_area(trajectory, cells, speeds, SQUARE.shape)
    inner = [int(((xy[50] >= 0) & (xy[50] <= 10)).all()) for xy in paths.values()]
    assert area.classic_density_per_m2[50] == pytest.approx(sum(inner) / 100)
    assert area.mean_speed_m_per_s[50] == pytest.approx(1)
    covered = area.voronoi_speed_m_per_s[50]  # the cells of six people, of 100 m2
    assert 0.05 < covered < 0.12
    nt, flow = figures.measure_line(trajectory, speeds, np.array([(4.9, 0), (4.9, 10)]), 3.0)
    assert nt.cumulative_people.max() == 6
    assert flow.flow_per_s.to_numpy() == pytest.approx(4 / 3.1)  # 4 crossings within 31 frames
    waiting = figures.measure_time_to_line(trajectory, np.array([(4.9, 0), (4.9, 10)]))
    assert waiting.time_s.max() == pytest.approx(9.9, abs=0.11)
    pairs = figures.measure_pairs(trajectory)
    assert not np.nan_to_num(pairs['g'])[pairs['radius_m'] < 0.8].any()
    profile = figures.measure_profiles(cells, speeds, floor)
    moving = profile['speed_m_per_s'][profile['density_per_m2'] > 0]
    assert moving == pytest.approx(1) and np.isnan(profile['speed_m_per_s']).any()


def test_a_grid_of_people_has_the_density_of_the_grid() -> None:
    xy = np.stack(np.meshgrid(np.arange(0.5, 10), np.arange(0.5, 10)), axis=-1).reshape(-1, 2)
    table = PersonTable.of_length(100, ground_m=xy)
    trajectory = figures.make_trajectory(table)
    floor = figures.make_floor(trajectory, SQUARE.shape)
    cells = figures.measure_cells(trajectory, floor)
    assert cells.density.to_numpy() == pytest.approx(1, abs=0.1)
    local = figures.measure_local(trajectory, pd.DataFrame(columns=['id', 'frame', 'v_x', 'v_y']))
    middle = local.gaussian_density_per_m2.to_numpy()[44]
    assert middle == pytest.approx(1, abs=0.01)  # a sum of Gaussians over a unit grid
    pairs = figures.measure_pairs(trajectory)
    assert not len(pairs['g']), 'one image has no random pairs to compare with'
    assert groups.measure_nearest(xy) == pytest.approx(1)


def test_pressure_is_density_times_the_variance_of_velocity() -> None:
    paths = {1: line_up(21, (0.1, 0), (0, 0)), 2: line_up(21, (-0.1, 0), (2, 0.0))}
    trajectory = figures.make_trajectory(walkers(paths))
    local = figures.measure_local(trajectory, figures.measure_speeds(trajectory))
    meeting = local[local.frame == 10]
    density = 2 / np.pi  # both stand on one point, R = 1 m
    assert meeting.gaussian_density_per_m2.to_numpy() == pytest.approx(density, abs=0.01)
    assert meeting.pressure_per_s2.to_numpy() == pytest.approx(density * 1, abs=0.02)


def test_uneven_times_are_resampled_and_long_gaps_stay() -> None:
    path = line_up(60, (0.1, 0), (0, 0))
    table = walkers({1: path})
    kept = np.r_[0:20:2, 20:25, 45:60]  # every second frame, then a gap of two seconds
    trajectory = figures.make_trajectory(table.select(kept), fps=10)
    data = trajectory.data
    assert data.x.to_numpy() == pytest.approx(0.1 * data.frame)
    assert {*range(20)} <= {*data.frame} and not {*range(25, 45)} & {*data.frame}


@pytest.mark.parametrize(
    ('density', 'level'),
    [(0.1, 'free'), (0.43, 'normal walking'), (4, 'involuntary contact'),
     (8, 'critical when standing'), (float('nan'), '')],
)  # fmt: skip
def test_levels(density: float, level: str) -> None:
    assert figures.name_level(density) == level


def test_zones_count_visits_and_dwell_times() -> None:
    inside = np.array([(5, 5)] * 31)
    paths = {
        1: np.concatenate(
            [line_up(11, (1, 0), (-10.5, 5)), inside, line_up(11, (1, 0), (10.5, 5))]
        ),
        2: np.array([(20.0, 20)] * 53),
        3: inside,
    }
    table = walkers(paths)
    row = regions.measure_zone(SQUARE, table, np.unique(table.images))
    assert (row['visitors'], row['visits'], row['entries'], row['exits']) == (2, 2, 1, 1)
    assert row['max_dwell_s'] == 3 and row['total_person_s'] == 6
    assert row['max_people'] == 2 and row['occupied_fraction'] == pytest.approx(42 / 53)
    image = PersonTable.of_length(2, ground_m=np.array([(5, 5), (np.nan, np.nan)]))
    row = regions.measure_zone(SQUARE, image, np.array([0, 1]))
    assert row['mean_people'] == 0.5 and 'visits' not in row
    number, length = regions.measure_queue(SQUARE, line_up(5, (0.6, 0.8), (1, 1)))
    assert (number, length) == (5, pytest.approx(4))


def test_crossings_have_a_direction() -> None:
    paths = {1: line_up(11, (1, 0), (0, 1)), 2: line_up(11, (-1, 0), (10, 2)),
             3: line_up(11, (1, 0), (0, 50.0))}  # fmt: skip
    line = Region('door', np.array([(4.5, 0), (4.5, 10)]), 'm', 'line')
    found = regions.find_crossings(line, walkers(paths))
    assert [(t, s) for t, _, s in found] == [(1, 1), (2, -1)]
    assert found[0][1] == pytest.approx(0.45)


SQUARE_ROW = {'name': 'a', 'unit': 'm', 'polygon': [[0, 0], [1, 0], [1, 1]]}
WRONG_REGIONS = {
    'no list': ({'lines': []}, "KeyError('zones')"),
    'no unit': ({'zones': [{'name': 'a', 'polygon': [[0, 0], [1, 0], [1, 1]]}]}, 'unit'),
    'unit': ({'zones': [{**SQUARE_ROW, 'unit': 'ft'}]}, "unit must be px or m, got 'ft'"),
    'two points': ({'zones': [{**SQUARE_ROW, 'polygon': [[0, 0], [1, 1]]}]}, '3 or more corners'),
    'bow tie': (
        {'zones': [{**SQUARE_ROW, 'polygon': [[0, 0], [1, 1], [1, 0], [0, 1]]}]},
        'crosses itself',
    ),
    'numbers': ({'zones': [{**SQUARE_ROW, 'polygon': 'x'}]}, 'not zones'),
    'twice': ({'zones': [SQUARE_ROW, SQUARE_ROW]}, 'two regions have one name'),
    'kind': ({'zones': [{**SQUARE_ROW, 'kind': 'room'}]}, "kind must be zone, queue"),
    'list': ([], 'not zones'),
}  # fmt: skip


@pytest.mark.parametrize('name', WRONG_REGIONS)
def test_wrong_regions_are_named(name: str, tmp_path: Path) -> None:
    content, message = WRONG_REGIONS[name]
    path = tmp_path / 'zones.json'
    path.write_text(json.dumps(content))
    with pytest.raises(RegionError) as error:
        load_regions(path, 'zones')
    assert message in str(error.value) and str(path) in str(error.value)


def test_walking_groups_and_formations() -> None:
    paths = {
        1: line_up(60, (0.12, 0), (0, 0)), 2: line_up(60, (0.12, 0), (0, 0.8)),
        3: line_up(60, (0.12, 0), (-0.5, 1.6)), 4: line_up(60, (-0.12, 0), (6, 0.4)),
        5: line_up(60, (0.12, 0), (0, 9)),
    }  # fmt: skip
    trajectory = figures.make_trajectory(walkers(paths))
    moving = figures.measure_speeds(trajectory).merge(trajectory.data, on=['id', 'frame'])
    assert groups.find_walking_groups(moving, 10) == [(1, 2, 3)]
    angle = np.radians([0, 120, 240])
    ring = 0.75 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.concatenate([ring, [(5, 5), (6, 6)], [(np.nan, np.nan)]])
    looks = np.concatenate([-ring / 0.75, [(1, 0), (1, 0)], [(1, 0)]])
    assert groups.find_formations(points, looks) == [(0, 1, 2)]
    assert groups.find_formations(points[:1], looks[:1]) == []
    assert groups.name_distances(np.array([0.3, 1, 2, 9, np.nan])) == {
        'intimate': 1, 'personal': 1, 'social': 1, 'public': 1}  # fmt: skip


def test_counting_errors_and_localisation() -> None:
    errors = scores.score_counts([3, 5], [4, 8])
    assert (errors.mae, errors.bias) == (2, -2) and errors.rmse == pytest.approx(5**0.5)
    with pytest.raises(ValueError, match='counts of one or more images'):
        scores.score_counts([], [])
    # Matching is one to one: the nearest pair alone would leave a point without a partner.
    found = scores.match_points(np.array([(0.0, 0), (4, 0)]), np.array([(3.0, 0), (7, 0)]), 3.5)
    assert (found.matches, found.f1) == (2, 1)
    none = np.zeros((0, 2))
    assert scores.match_points(none, none, 1).f1 == 1
    both = found + scores.match_points(np.zeros((1, 2)), none, 1)
    assert both.precision == pytest.approx(2 / 3) and both.recall == 1
    low, high = scores.bootstrap_mean(np.arange(100.0))
    assert 40 < low < 49.5 < high < 59
    assert np.isnan(scores.bootstrap_mean([1])).all()
    low, high = scores.bootstrap_count(100)
    assert 75 < low < 85 and 115 < high < 125
