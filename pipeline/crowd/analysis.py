"""Analysis of a crowd: from people or tracks to tables of people, images, groups, zones and lines.

Legend: M people of all images. A frame of a video is an image with a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..structures import People
from ..tracking.formats import TrackedPeople
from ..tracking.tracks import TrackRows
from . import figures, groups, regions, scores
from .attributes import GroundSource, PersonTable, compute_crowd_index, measure_people
from .camera import FACE_HEIGHT, Camera, camera_from_people, check_camera
from .occlusion import Occlusion
from .regions import Region

if TYPE_CHECKING:
    import pandas

Doubles = npt.NDArray[np.float64]
Source = People | TrackRows | PersonTable | Sequence[People] | Iterable[TrackedPeople | People]
STANDING_M_PER_S = 0.5  # people who are slower stand, for formations
WALKABLE = 'walkable'


@dataclass(frozen=True, eq=False)
class CrowdAnalysis:
    """What is known about a crowd; missing things are empty tables.

    Attributes:
        people: one row per person and image.
        image_names: number of an image, or index of a frame -> name.
        shape: (H, W) of the images; None if it is unknown or differs.
        occlusions: by number of the image.
        camera: None: no figure in metres exists.
        regions: zones and lines.
        per_person: figures in metres of the people, columns as in the file.
        images: one row per image.
        groups: one row per group.
        zones: one row per zone.
        lines: one row per line.
        series: table per area, line or diagram; see the user guide.
        arrays: profiles on a grid and the pair distribution.
        warnings: what is probably wrong.
    """

    people: PersonTable
    image_names: dict[int, str]
    shape: tuple[int, int] | None
    occlusions: dict[int, Occlusion]
    camera: Camera | None
    regions: tuple[Region, ...]
    per_person: pandas.DataFrame
    images: pandas.DataFrame
    groups: pandas.DataFrame
    zones: pandas.DataFrame
    lines: pandas.DataFrame
    series: dict[str, pandas.DataFrame]
    arrays: dict[str, Doubles]
    warnings: tuple[str, ...]
    trajectory: Any = field(default=None, repr=False)  # pedpy.TrajectoryData, or None

    def to_dataframe(self) -> pandas.DataFrame:
        """One row per person and image; empty cells are NaN or ''. Units are in the names."""
        return make_dataframe(self.people, self.image_names).join(self.per_person)


@dataclass(frozen=True, eq=False)
class _Measured:
    """People of all images before anything is in metres."""

    people: PersonTable
    occlusions: dict[int, Occlusion]
    crowd_indices: dict[int, float]
    names: dict[int, str]
    seconds: dict[int, float]
    shape: tuple[int, int] | None


def analyze(
    source: Source,
    camera: Camera | None = None,
    zones: Sequence[Region] = (),
    lines: Sequence[Region] = (),
    *,
    assume_height_m: float | None = None,
    fps: float | None = None,
) -> CrowdAnalysis:
    """Analyze a crowd.

    Args:
        source: people of an image or of several, frames with tracks, boxes of tracks, or a table
            of positions.
        camera: for metres; None: pixels and body heights alone.
        zones: polygons, in px or m.
        lines: in px or m.
        assume_height_m: without a camera, fit one to people of this mean height; approximate.
        fps: rate to which tracks are resampled for figures in metres, and of frames without time
            stamps; None: that of the time stamps.

    Raises:
        ValueError: The keypoints are not COCO's, there are too few people for
            ``assume_height_m``, or PedPy is absent.
    """
    measured = _measure(source)
    shape = measured.shape
    table, warnings = _check_times(measured.people, fps)
    tops, part = _find_tops(table)
    if camera is None and assume_height_m is not None:
        if shape is None:
            raise ValueError('a camera from people needs images of one size; give a camera')
        camera = camera_from_people(table.ground_px, tops, shape, assume_height_m, part)
    if camera is not None:
        table = _add_metres(table, camera, assume_height_m or 1.7)
    every = (*zones, *lines)
    warnings += _check_regions(every, camera, table, shape)
    images = np.array(sorted(measured.names), np.int64)
    metric = _Metric.empty(len(table))
    if np.isfinite(table.ground_m).any():
        metric = _measure_metric(table, zones, lines, images, camera, fps)
        warnings += metric.warnings
    if camera is not None and np.isfinite(table.ground_px).any():
        speeds = metric.per_person.get('speed_m_per_s', np.zeros(0))
        warnings += check_camera(
            camera, table.ground_px, tops, np.asarray(speeds, np.float64), shape, part
        )
    return CrowdAnalysis(
        people=table, image_names=measured.names, shape=shape, occlusions=measured.occlusions,
        camera=camera, regions=every, per_person=metric.per_person,
        images=_image_table(measured, table, metric.per_person, images),
        groups=_group_table(table, metric, camera),
        zones=_frame(_measure_zones(zones, table, images), 'zone'),
        lines=_frame([_measure_crossings(line, table) for line in lines], 'line'),
        series=metric.series, arrays=metric.arrays, warnings=tuple(warnings),
        trajectory=metric.trajectory,
    )  # fmt: skip


def _check_times(table: PersonTable, fps: float | None) -> tuple[PersonTable, list[str]]:
    """Times of frames without time stamps, and a warning about them."""
    tracked = table.track_ids > 0
    frames, times = np.unique(table.images[tracked]), table.seconds[tracked]
    if len(np.unique(times[np.isfinite(times)])) == len(frames):
        return table, []
    if fps is not None:
        times = table.images / fps
        return replace(table, seconds=times), [f'no time stamps: taken as frame / {fps:g} s']
    return replace(table, seconds=np.full(len(table), np.nan)), [
        'the frames have no time stamps, or several have the same one, so there are no speeds and '
        'no flows; give the frames a second (--fps)'
    ]


def _measure(source: Source) -> _Measured:
    """Attributes of all people."""
    if isinstance(source, TrackRows):
        source = _from_boxes(source)
    if isinstance(source, PersonTable):
        frames = np.unique(source.images).tolist()
        times = {f: float(source.seconds[source.images == f][0]) for f in frames}
        return _Measured(source, {}, {}, {f: str(f) for f in frames}, times, None)
    items = [source] if isinstance(source, People) else source
    tables, occlusions, indices, names, seconds, shapes = [], {}, {}, {}, {}, set()
    for position, item in enumerate(items):
        tracked = isinstance(item, TrackedPeople)
        number = item.index if isinstance(item, TrackedPeople) else position
        people = item.people if isinstance(item, TrackedPeople) else item
        time = item.seconds if isinstance(item, TrackedPeople) else np.nan
        ids = item.track_ids if isinstance(item, TrackedPeople) else None
        table, occlusions[number] = measure_people(people, number, time, ids)
        tables.append(table)
        indices[number] = compute_crowd_index(people)
        names[number] = str(number) if tracked else (people.path or str(number))
        seconds[number] = float(time)
        shapes.add(people.image_shape)
    table = PersonTable.of_length(0)
    if tables:
        columns = PersonTable.__dataclass_fields__
        table = PersonTable(**{n: np.concatenate([getattr(t, n) for t in tables]) for n in columns})
    shape = shapes.pop() if len(shapes) == 1 else None
    return _Measured(table, occlusions, indices, names, seconds, shape)


def _from_boxes(rows: TrackRows) -> PersonTable:
    """People of tracks that are boxes alone."""
    from ..boxes import max_neighbour_iou

    overlap = np.full(len(rows), np.nan)
    ids = np.ones(len(rows), np.int64)
    for frame in np.unique(rows.frames):
        index = np.flatnonzero(rows.frames == frame)
        overlap[index] = max_neighbour_iou(rows.boxes[index])
        ids[index] = np.arange(1, len(index) + 1)
    boxes = rows.boxes.astype(np.float64)
    return PersonTable.of_length(
        len(rows), images=rows.frames, seconds=rows.seconds, track_ids=rows.track_ids,
        person_ids=ids, scores=rows.scores.astype(np.float64), boxes=boxes, max_iou=overlap,
        ground_px=np.stack([boxes[:, [0, 2]].mean(1), boxes[:, 3]], axis=1),
        ground_sources=np.full(len(rows), GroundSource.BOX, np.int32),
        height_px=boxes[:, 3] - boxes[:, 1],
    )  # fmt: skip


def _find_tops(table: PersonTable) -> tuple[Doubles, float]:
    """Points (M, 2) px high on each person, and their height relative to the person."""
    if len(table) and (table.ground_sources == GroundSource.BOX).all():
        return np.stack([table.boxes[:, [0, 2]].mean(1), table.boxes[:, 1]], axis=1), 1.0
    upright = np.isin(table.ground_sources, [GroundSource.ANKLES, GroundSource.ANKLE])
    return np.where(upright[:, None], table.head_px, np.nan), FACE_HEIGHT


def _add_metres(table: PersonTable, camera: Camera, height_m: float) -> PersonTable:
    """Positions in metres; people without a ground point but with a face get one below it."""
    points, sources = table.ground_px.copy(), table.ground_sources.copy()
    metres = camera.to_metres(points)
    below = np.isnan(points).all(1) & np.isfinite(table.head_px).all(1)
    if camera.projection is not None and below.any():
        metres[below] = camera.ground_below(table.head_px[below], FACE_HEIGHT * height_m)
        points[below] = camera.to_pixels(metres[below])
        sources[below] = GroundSource.HEAD
    return replace(table, ground_m=metres, ground_px=points, ground_sources=sources)


@dataclass(eq=False)
class _Metric:
    """Figures in metres."""

    per_person: pandas.DataFrame
    series: dict[str, pandas.DataFrame]
    arrays: dict[str, Doubles]
    walking: groups.Groups
    warnings: list[str]
    trajectory: Any = None

    @classmethod
    def empty(cls, length: int) -> _Metric:
        import pandas

        return cls(pandas.DataFrame(index=range(length)), {}, {}, [], [])


def _measure_metric(
    table: PersonTable,
    zones: Sequence[Region],
    lines: Sequence[Region],
    images: npt.NDArray[np.int64],
    camera: Camera | None,
    fps: float | None,
) -> _Metric:
    import pandas

    trajectory = figures.make_trajectory(table, fps)
    walkable = [zone for zone in zones if zone.kind == WALKABLE and zone.unit == 'm']
    floor = figures.make_floor(trajectory, walkable[0].shape if walkable else None)
    trajectory, outside = figures.keep_inside(trajectory, floor)
    result = _Metric.empty(len(table))
    if outside:
        result.warnings.append(
            f'{outside} positions lie outside of the zone {walkable[0].name!r} (walkable) and are '
            'left out of densities and speeds'
        )
    if trajectory.data.empty:
        return result
    tracks = figures.has_tracks(table)
    cells = figures.measure_cells(trajectory, floor)
    speeds = figures.measure_speeds(trajectory) if tracks else pandas.DataFrame()
    if speeds.empty:
        speeds = pandas.DataFrame(columns=['id', 'frame', 'speed', 'v_x', 'v_y'], dtype=float)
        speeds = speeds.astype({'id': int, 'frame': int})
    merged = (
        trajectory.data[['id', 'frame', 'x', 'y']]
        .merge(cells[['id', 'frame', 'density']], on=['id', 'frame'], how='left')
        .merge(speeds, on=['id', 'frame'], how='left')
        .merge(figures.measure_local(trajectory, speeds), on=['id', 'frame'], how='left')
    )
    result.trajectory = trajectory
    result.per_person = _per_person(table, merged, trajectory.frame_rate, tracks=tracks)
    areas = {zone.name: zone.shape for zone in zones if zone.kind != 'line' and zone.unit == 'm'}
    areas = areas or {'floor': floor.polygon}
    for name, polygon in areas.items():
        series = figures.measure_area(trajectory, cells, speeds, polygon)
        series['time_s'] = series.frame / trajectory.frame_rate
        result.series[f'density_{name}'] = series
    for line in (line for line in lines if line.unit == 'm' and tracks):
        nt, flow = figures.measure_line(trajectory, speeds, line.points)
        result.series[f'nt_{line.name}'], result.series[f'flow_{line.name}'] = nt, flow
        result.series[f'time_to_{line.name}'] = figures.measure_time_to_line(
            trajectory, line.points
        )
    result.arrays = {
        **figures.measure_profiles(cells, speeds, floor),
        **{f'pairs_{k}': v for k, v in figures.measure_pairs(trajectory).items()},
    }
    if len(speeds):
        result.walking = groups.find_walking_groups(merged, trajectory.frame_rate)
    return result


def _per_person(
    table: PersonTable, merged: pandas.DataFrame, rate: float, *, tracks: bool
) -> pandas.DataFrame:
    """Figures of the resampled trajectories at the nearest frame of each row."""
    import pandas

    if tracks:
        start = np.unique(table.seconds)[0]
        frames = np.rint((np.nan_to_num(table.seconds) - start) * rate).astype(int)
        keys = pandas.DataFrame({'id': table.track_ids, 'frame': frames})
    else:
        keys = pandas.DataFrame({'id': table.person_ids, 'frame': table.images})
    names = {
        'speed': 'speed_m_per_s', 'v_x': 'v_x_m_per_s', 'v_y': 'v_y_m_per_s',
        'density': 'voronoi_density_per_m2', 'gaussian_density_per_m2': 'gaussian_density_per_m2',
        'pressure_per_s2': 'pressure_per_s2',
    }  # fmt: skip
    columns = merged[['id', 'frame', *names]].drop_duplicates(['id', 'frame'])
    joined = keys.merge(columns, on=['id', 'frame'], how='left').rename(columns=names)
    known = np.isfinite(table.ground_m).all(1)
    nearest = np.full(len(table), np.nan)
    for image in np.unique(table.images):
        rows = table.images == image
        nearest[rows] = groups.measure_nearest(table.ground_m[rows])
    joined.loc[~known, list(names.values())] = np.nan
    return joined[list(names.values())].assign(nearest_m=nearest)


def _check_regions(
    every: Sequence[Region], camera: Camera | None, table: PersonTable, shape: Any
) -> list[str]:
    """Raise for regions that cannot be used, and return warnings about useless ones."""
    names = [region.name for region in every]
    if len(set(names)) < len(names):
        raise regions.RegionError(f'two zones or lines have one name: {sorted(names)}')
    found = []
    for region in every:
        if region.unit == 'm' and camera is None and not np.isfinite(table.ground_m).any():
            raise regions.RegionError(
                f'{region.kind} {region.name!r} is in m, but there is no camera: give --camera or '
                '--points, or write the zone in px'
            )
        low, high = region.points.min(0), region.points.max(0)
        if region.unit == 'px' and shape is not None:
            height, width = shape
            if (high <= 0).any() or low[0] >= width or low[1] >= height:
                found.append(
                    f'{region.kind} {region.name!r} lies outside of the image ({width} x {height} '
                    'px): nobody is counted in it'
                )
    return found


def _measure_zones(
    zones: Sequence[Region], table: PersonTable, images: npt.NDArray[np.int64]
) -> list[dict[str, Any]]:
    rows = []
    for zone in zones:
        figures_of = regions.measure_zone(zone, table, images)
        if zone.kind == 'queue':
            points = zone.positions(table)
            lengths = [regions.measure_queue(zone, points[table.images == i])[1] for i in images]
            figures_of[f'mean_queue_length_{zone.unit}'] = float(np.mean(lengths or [np.nan]))
        rows.append(figures_of)
    return rows


def _measure_crossings(line: Region, table: PersonTable) -> dict[str, Any]:
    found = regions.find_crossings(line, table)
    return {
        'line': line.name, 'unit': line.unit, 'crossings': len(found),
        'left_to_right': sum(row[2] > 0 for row in found),
        'right_to_left': sum(row[2] < 0 for row in found),
        'people': len({row[0] for row in found}),
    }  # fmt: skip


def _group_table(table: PersonTable, metric: _Metric, camera: Camera | None) -> pandas.DataFrame:
    """Walking groups of the whole video, and formations of each image."""
    rows: list[dict[str, Any]] = [
        {'kind': 'walking', 'image': None, 'size': len(g), 'members': ' '.join(map(str, g))}
        for g in metric.walking
    ]
    if camera is not None and np.isfinite(table.orientation_deg).any():
        directions = find_directions(table, camera)
        if 'speed_m_per_s' in metric.per_person:
            moving = metric.per_person['speed_m_per_s'].to_numpy() > STANDING_M_PER_S
            directions[moving] = np.nan
        for image in np.unique(table.images).tolist():
            index = np.flatnonzero(table.images == image)
            for part in groups.find_formations(table.ground_m[index], directions[index]):
                ids = ' '.join(str(table.person_ids[index[i]]) for i in part)
                rows.append(
                    {'kind': 'formation', 'image': image, 'size': len(part), 'members': ids}
                )
    import pandas

    return pandas.DataFrame(rows, columns=['kind', 'image', 'size', 'members'])


def find_directions(table: PersonTable, camera: Camera) -> Doubles:
    """Unit vectors (M, 2) on the ground that people face; NaN where unknown."""
    ground = np.nan_to_num(table.ground_px)
    here = camera.to_metres(ground)
    right = camera.to_metres(ground + np.array([1.0, 0])) - here
    toward = camera.to_metres(ground + np.array([0, 1.0])) - here
    angle = np.radians(table.orientation_deg)[:, None]
    with np.errstate(all='ignore'):
        right, toward = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (right, toward))
        vector = np.cos(angle) * toward + np.sin(angle) * right
        vector /= np.linalg.norm(vector, axis=1, keepdims=True)
    return np.where(np.isfinite(table.ground_px), vector, np.nan)


def _image_table(
    measured: _Measured, table: PersonTable, per_person: pandas.DataFrame,
    images: npt.NDArray[np.int64],
) -> pandas.DataFrame:  # fmt: skip
    """One row per image, also without people."""
    rows = []
    for image in images.tolist():
        index = np.flatnonzero(table.images == image)
        part, occlusion = table.select(index), measured.occlusions.get(image)
        low, high = scores.bootstrap_count(len(part))
        row: dict[str, Any] = {
            'image': image, 'name': measured.names[image], 'seconds': measured.seconds[image],
            'people': len(part), 'people_low': low, 'people_high': high,
            'with_ground_point': int(np.isfinite(part.ground_px).all(1).sum()),
            'crowd_index': measured.crowd_indices.get(image, np.nan),
            'mean_max_iou': _mean(part.max_iou),
            'mean_visible_fraction': _mean(part.visible_fraction),
            'occlusion_pairs': int(occlusion.hides.sum()) if occlusion else 0,
            'occlusion_cycles': len(occlusion.cycles) if occlusion else 0,
            'density_per_height2': _mean(part.density_per_height2),
        }  # fmt: skip
        row |= _interval('density_per_height2', part.density_per_height2)
        for name in ('voronoi_density_per_m2', 'gaussian_density_per_m2', 'speed_m_per_s'):
            if name in per_person:
                values = per_person[name].to_numpy()[index]
                row[f'mean_{name}'] = _mean(values)
                row |= _interval(f'mean_{name}', values)
        if 'gaussian_density_per_m2' in per_person:
            row['level'] = figures.name_level(row['mean_gaussian_density_per_m2'])
        rows.append(row)
    return _frame(rows, 'image', 'name', 'seconds', 'people')


def _interval(name: str, values: Any) -> dict[str, float]:
    low, high = scores.bootstrap_mean(values, resamples=500)
    return {f'{name}_low': low, f'{name}_high': high}


def make_dataframe(table: PersonTable, names: dict[int, str]) -> pandas.DataFrame:
    """The columns of a table of people with their units."""
    import pandas

    pairs = {
        'ground': table.ground_px, 'head': table.head_px,
    }  # fmt: skip
    columns: dict[str, Any] = {
        'image': table.images, 'name': [names.get(i, str(i)) for i in table.images.tolist()],
        'seconds': table.seconds, 'track_id': table.track_ids, 'person_id': table.person_ids,
        'score': table.scores,
    }  # fmt: skip
    columns |= {f'{c}_px': table.boxes[:, k] for k, c in enumerate(('x1', 'y1', 'x2', 'y2'))}
    for name, points in pairs.items():
        columns |= {f'{name}_x_px': points[:, 0], f'{name}_y_px': points[:, 1]}
    columns['ground_source'] = [GroundSource(s).name.lower() for s in table.ground_sources]
    columns |= {
        name: getattr(table, name)
        for name in (
            'height_px', 'orientation_deg', 'visible_fraction', 'max_iou', 'neighbours',
            'density_per_height2', 'depth_order',
        )
    }  # fmt: skip
    for name in ('occluders', 'occluded'):
        columns[name] = [' '.join(map(str, ids)) for ids in getattr(table, name)]
    columns |= {'x_m': table.ground_m[:, 0], 'y_m': table.ground_m[:, 1]}
    return pandas.DataFrame(columns)


def _frame(rows: list[dict[str, Any]], *columns: str) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame(rows) if rows else pandas.DataFrame(columns=list(columns))


def _mean(values: Any) -> float:
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    return float(known.mean()) if len(known) else float('nan')
