"""Densities, speeds and flows in metres, by PedPy where it has them.

PedPy needs a constant frame rate and integer ids; `make_trajectory` resamples tracks. Images are
frames without speeds. Columns name their units.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..values import install_hint
from .attributes import PersonTable

if TYPE_CHECKING:
    import pandas

Doubles = npt.NDArray[np.float64]
CUT_OFF_M = 0.8  # radius of a Voronoi cell
SPEED_SECONDS = 0.4  # over which an individual speed is measured
MAX_GAP_SECONDS = 1.0  # of a track; longer gaps stay gaps
GAUSS_RADIUS_M = 1.0
MAX_CELLS, MAX_PROFILES = 40, 60
MARGIN_M = 2.0  # of the floor around the people, where no floor is given
# Fruin's levels as tabulated in EPJ Data Science 2012, Table 1: people per m2 from which they hold.
LEVELS = (
    (0.0, 'free'), (0.43, 'normal walking'), (2.0, 'slower'), (3.57, 'involuntary contact'),
    (5.55, 'forces begin'), (7.1, 'critical when standing'),
)  # fmt: skip


def import_pedpy() -> Any:
    """Import PedPy.

    Raises:
        ValueError: It is absent; it needs Python 3.11.
    """
    try:
        import pedpy
    except ModuleNotFoundError as error:
        raise ValueError(
            'figures in metres need PedPy, which needs Python 3.11 or later: '
            f'{install_hint("crowd")}'
        ) from error
    return pedpy


def make_trajectory(table: PersonTable, fps: float | None = None) -> Any:
    """PedPy trajectories of the people with a position in metres.

    Args:
        table: tracks, or people of images; then every image is a frame.
        fps: frames a second; None: that of the tracks.

    Returns:
        ``pedpy.TrajectoryData``; its frames count from the first time stamp, or are the images.
    """
    import pandas

    pedpy = import_pedpy()
    known = np.asarray(np.isfinite(table.ground_m).all(1))
    if not has_tracks(table):
        rows = table.select(known)
        data = {'id': rows.person_ids, 'frame': rows.images}
        xy, rate = rows.ground_m, 1.0
    else:
        rows = table.select(known & (table.track_ids > 0))
        times = np.unique(table.seconds)
        rate = fps or float(1 / np.median(np.diff(times))) if len(times) > 1 else 25.0
        parts = [
            _resample(rows.select(rows.track_ids == track), times[0], rate)
            for track in np.unique(rows.track_ids)
        ]
        joined = np.concatenate([np.zeros((0, 4)), *parts])
        data = {'id': joined[:, 0].astype(int), 'frame': joined[:, 1].astype(int)}
        xy = joined[:, 2:]
    frame = pandas.DataFrame({**data, 'x': xy[:, 0], 'y': xy[:, 1]})
    return pedpy.TrajectoryData(data=frame, frame_rate=rate)


def has_tracks(table: PersonTable) -> bool:
    """Whether people have identities and times."""
    return bool(((table.track_ids > 0) & np.isfinite(table.seconds)).any())


def _resample(track: PersonTable, start: float, rate: float) -> Doubles:
    """Rows (id, frame, x, y) of a track at a constant rate."""
    order = np.argsort(track.seconds)
    seconds, xy = track.seconds[order] - start, track.ground_m[order]
    # A millionth of a frame, against rounding of times.
    first, last = np.ceil(seconds[0] * rate - 1e-6), np.floor(seconds[-1] * rate + 1e-6)
    frames = np.arange(first, last + 1)
    times = np.clip(frames / rate, seconds[0], seconds[-1])
    # A frame that exists is taken as it is: a person on the edge of an area stays there.
    nearest = seconds[np.abs(seconds[None] - times[:, None]).argmin(1)]
    times = np.where(np.abs(nearest - times) < 1e-6, nearest, times)
    after = np.clip(np.searchsorted(seconds, times - 1e-9), 1, max(len(seconds) - 1, 1))
    if len(seconds) > 1:
        short = seconds[after] - seconds[after - 1] <= MAX_GAP_SECONDS
        frames, times = frames[short], times[short]
    x, y = (np.interp(times, seconds, xy[:, k]) for k in (0, 1))
    return np.stack([np.full(len(frames), track.track_ids[0]), frames, x, y], axis=1)


def measure_speeds(trajectory: Any, step: int | None = None) -> pandas.DataFrame:
    """Individual speeds: columns id, frame, speed, v_x, v_y in m/s."""
    pedpy = import_pedpy()
    step = step or max(round(SPEED_SECONDS * trajectory.frame_rate / 2), 1)
    lengths = trajectory.data.groupby('id').frame.agg(lambda f: f.max() - f.min())
    kept = trajectory.data[trajectory.data.id.isin(lengths.index[lengths >= step])]
    columns = ['id', 'frame', 'speed', 'v_x', 'v_y']
    if kept.empty:
        return kept.assign(speed=np.nan, v_x=np.nan, v_y=np.nan)[columns]
    part = pedpy.TrajectoryData(
        data=kept[['id', 'frame', 'x', 'y']].reset_index(drop=True),
        frame_rate=trajectory.frame_rate,
    )
    return pedpy.compute_individual_speed(
        traj_data=part, frame_step=step, compute_velocity=True,
        speed_calculation=pedpy.SpeedCalculation.BORDER_SINGLE_SIDED,
    )[columns]  # fmt: skip


def make_floor(trajectory: Any, polygon: Any = None) -> Any:
    """Walkable area: the given polygon, or the hull of all points with a margin."""
    import shapely

    pedpy = import_pedpy()
    if polygon is None:
        points = shapely.multipoints(trajectory.data[['x', 'y']].to_numpy())
        polygon = shapely.convex_hull(points).buffer(MARGIN_M, quad_segs=4)
    return pedpy.WalkableArea(polygon)


def keep_inside(trajectory: Any, floor: Any) -> tuple[Any, int]:
    """Trajectories inside the floor, and the number of points that were outside."""
    import shapely

    pedpy = import_pedpy()
    data = trajectory.data
    inner = shapely.contains_xy(floor.polygon, data.x.to_numpy(), data.y.to_numpy())
    kept = data.loc[inner, ['id', 'frame', 'x', 'y']].reset_index(drop=True)
    rate = trajectory.frame_rate
    return pedpy.TrajectoryData(data=kept, frame_rate=rate), int((~inner).sum())


def measure_cells(trajectory: Any, floor: Any, cut_off_m: float = CUT_OFF_M) -> pandas.DataFrame:
    """Voronoi cells with a cut-off: columns id, frame, polygon, density (people per m2).

    People of a frame at exactly one point are a millimetre apart for this.
    """
    pedpy = import_pedpy()
    data = trajectory.data[['id', 'frame', 'x', 'y']].copy()
    data['x'] += 1e-3 * data.groupby(['frame', 'x', 'y']).cumcount()
    trajectory = pedpy.TrajectoryData(data=data, frame_rate=trajectory.frame_rate)
    cut_off = pedpy.Cutoff(radius=cut_off_m, quad_segments=3)
    return pedpy.compute_individual_voronoi_polygons(
        traj_data=trajectory, walkable_area=floor, cut_off=cut_off
    )


def measure_area(
    trajectory: Any, cells: pandas.DataFrame, speeds: pandas.DataFrame, polygon: Any
) -> pandas.DataFrame:
    """Density and speed in a measurement area, one row per frame.

    Columns: classic_density_per_m2, voronoi_density_per_m2, and of tracks mean_speed_m_per_s (of
    the people in the area) and voronoi_speed_m_per_s (empty floor counts as speed 0).
    """
    pedpy = import_pedpy()
    area = pedpy.MeasurementArea(polygon)
    classic = pedpy.compute_classic_density(traj_data=trajectory, measurement_area=area)
    voronoi, parts = pedpy.compute_voronoi_density(
        individual_voronoi_data=cells, measurement_area=area
    )
    frame = classic.rename(columns={'density': 'classic_density_per_m2'})
    voronoi = voronoi.rename(columns={'density': 'voronoi_density_per_m2'})
    frame = frame.merge(voronoi, on='frame', how='left')
    if speeds.empty:
        return frame
    mean = speeds.merge(trajectory.data, on=['id', 'frame'])
    import shapely

    inner = shapely.intersects_xy(polygon, mean.x.to_numpy(), mean.y.to_numpy())
    speed = mean[inner].groupby('frame').speed.mean().rename('mean_speed_m_per_s')
    weighted = parts.merge(speeds, on=['id', 'frame'])
    weighted['area'] = weighted.intersection.map(lambda part: part.area)
    weighted['product'] = weighted.area * weighted.speed
    # As PedPy's Voronoi speed, but people without a speed do not stop it.
    rate = weighted.groupby('frame')['product'].sum() / polygon.area
    rate = rate.rename('voronoi_speed_m_per_s')
    return frame.merge(speed, on='frame', how='left').merge(rate, on='frame', how='left')


def measure_line(
    trajectory: Any, speeds: pandas.DataFrame, points: Doubles, window_seconds: float = 10.0
) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """N-t and flow over a line.

    Returns:
        Per frame: time_s, cumulative_people. Per window: flow_per_s, mean_speed_m_per_s.
    """
    pedpy = import_pedpy()
    line = pedpy.MeasurementLine(points.tolist())
    nt, crossings = pedpy.compute_n_t(traj_data=trajectory, measurement_line=line)
    table = nt.reset_index().rename(
        columns={'time': 'time_s', 'cumulative_pedestrians': 'cumulative_people'}
    )
    table = table[['frame', 'time_s', 'cumulative_people']]
    if crossings.empty or speeds.empty:
        import pandas

        return table, pandas.DataFrame(columns=['flow_per_s', 'mean_speed_m_per_s'])
    flow = pedpy.compute_flow(
        nt=nt, crossing_frames=crossings, individual_speed=speeds,
        delta_frame=max(round(window_seconds * trajectory.frame_rate), 1),
        frame_rate=trajectory.frame_rate,
    )  # fmt: skip
    return table, flow.rename(columns={'flow': 'flow_per_s', 'mean_speed': 'mean_speed_m_per_s'})


def measure_time_to_line(trajectory: Any, points: Doubles) -> pandas.DataFrame:
    """Time until each person crosses a line, and the distance: time_s, distance_m."""
    pedpy = import_pedpy()
    rows = pedpy.compute_time_distance_line(
        traj_data=trajectory, measurement_line=pedpy.MeasurementLine(points.tolist())
    )
    return rows.rename(columns={'time': 'time_s', 'distance': 'distance_m'})


def measure_profiles(
    cells: pandas.DataFrame, speeds: pandas.DataFrame, floor: Any, grid_m: float | None = None
) -> dict[str, Doubles]:
    """Mean density (per m2) and speed (m/s) on a grid over the floor, and the edges of its cells.

    Rows go from the largest to the smallest y, as in an image. Without ``grid_m``, cells are 0.5 m
    or larger, at most `MAX_CELLS` a side. At most `MAX_PROFILES` frames, evenly spread, are used.
    """
    pedpy = import_pedpy()
    frames = np.unique(cells.frame)
    frames = frames[:: max(len(frames) // MAX_PROFILES, 1)]
    cells = cells[cells.frame.isin(frames)]
    if grid_m is None:
        x1, y1, x2, y2 = floor.bounds
        grid_m = max(0.5, round(max(x2 - x1, y2 - y1) / MAX_CELLS, 1))
    merged = cells.merge(speeds, on=['id', 'frame'], how='inner')
    x1, y1, x2, y2 = floor.bounds
    result = {'bounds_m': np.array([x1, y1, x2, y2]), 'grid_m': np.array(grid_m)}
    options = {'walkable_area': floor, 'grid_size': grid_m}
    voronoi = pedpy.DensityMethod.VORONOI
    density = pedpy.compute_density_profile(data=cells, density_method=voronoi, **options)
    result['density_per_m2'] = np.mean(density, axis=0)
    if len(merged):
        mean = pedpy.SpeedMethod.ARITHMETIC
        speed = np.array(pedpy.compute_speed_profile(data=merged, speed_method=mean, **options))
        # PedPy has 0 where there is nobody, and where a cell only touches.
        there = pedpy.compute_density_profile(data=merged, density_method=voronoi, **options)
        taken = np.array(there) > 1e-9
        count = taken.sum(0)
        total = np.where(taken, speed, 0).sum(0)
        result['speed_m_per_s'] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return result


def measure_pairs(trajectory: Any, bin_m: float = 0.25) -> dict[str, Doubles]:
    """Pair distribution function: radius_m and g (1: as if people stood at random).

    Empty for a single frame: the random pairs are those of different frames.
    """
    pedpy = import_pedpy()
    sizes = trajectory.data.groupby('frame').size()
    if len(sizes) < 2 or sizes.max() < 2:
        return {'radius_m': np.zeros(0), 'g': np.zeros(0)}
    state = np.random.get_state()
    np.random.seed(0)  # PedPy shuffles with the global generator
    try:
        # Radii without random pairs have g = NaN or infinity. PedPy sets the filters itself.
        with warnings.catch_warnings(record=True):
            radius, g = pedpy.compute_pair_distribution_function(
                traj_data=trajectory, radius_bin_size=bin_m
            )
    finally:
        np.random.set_state(state)
    return {'radius_m': np.asarray(radius, np.float64), 'g': np.asarray(g, np.float64)}


def measure_local(
    trajectory: Any, speeds: pandas.DataFrame, radius_m: float = GAUSS_RADIUS_M
) -> pandas.DataFrame:
    """Gaussian density at each person, and crowd pressure.

    Density: sum of exp(-d2 / R2) / (pi R2) over the people, the person included. Pressure: density
    times the variance of the velocities with the same weights, in 1/s2.
    """
    rows = trajectory.data[['id', 'frame', 'x', 'y']].merge(speeds, on=['id', 'frame'], how='left')
    density, pressure = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for index in rows.groupby('frame').indices.values():
        part = rows.iloc[index]
        xy, v = (part[names].to_numpy(float) for names in (['x', 'y'], ['v_x', 'v_y']))
        squared = ((xy[:, None] - xy[None]) ** 2).sum(-1)
        weights = np.exp(-squared / radius_m**2)
        density[index] = weights.sum(1) / (np.pi * radius_m**2)
        known = np.isfinite(v).all(1)
        if known.sum() > 1:
            w = weights[:, known] / weights[:, known].sum(1, keepdims=True)
            mean = w @ v[known]
            variance = (w * ((v[known][None] - mean[:, None]) ** 2).sum(-1)).sum(1)
            pressure[index] = density[index] * variance
    return rows[['id', 'frame']].assign(gaussian_density_per_m2=density, pressure_per_s2=pressure)


def name_level(density_per_m2: float) -> str:
    """Level of service of a density."""
    if not np.isfinite(density_per_m2):
        return ''
    return [name for least, name in LEVELS if density_per_m2 >= least][-1]
