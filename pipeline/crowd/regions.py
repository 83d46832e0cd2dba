"""Zones and lines in px or m: who is inside, who enters, leaves, waits and crosses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ..io.coco_checks import DAMAGE, read_json
from ..io.images import InputError
from ..values import in_line, shorten
from .attributes import PersonTable

if TYPE_CHECKING:
    import shapely

Doubles = npt.NDArray[np.float64]
Unit = Literal['px', 'm']
KEYS = {'zones': 'polygon', 'lines': 'points'}
MAX_ABSENCE = 1.0  # s that a track may be outside of a zone during one visit


class RegionError(ValueError):
    """A file of zones or lines that cannot be used."""


@dataclass(frozen=True, eq=False)
class Region:
    """A zone (polygon) or a line (two points).

    Attributes:
        name: unique.
        points: (N, 2) corners; N = 2 for a line.
        unit: ``px`` of the image or ``m`` on the ground.
        kind: ``zone``, ``queue`` (a zone with a queue), ``walkable`` (the floor, for Voronoi
            cells; at most one) or ``line``.
    """

    name: str
    points: Doubles
    unit: Unit = 'm'
    kind: Literal['zone', 'queue', 'walkable', 'line'] = 'zone'

    def __post_init__(self) -> None:
        points = np.asarray(self.points, np.float64)
        object.__setattr__(self, 'points', points)
        corners = 2 if self.kind == 'line' else 3
        shape = points.ndim == 2 and points.shape[1] == 2 and np.isfinite(points).all()
        if not shape or len(points) < corners or (self.kind == 'line') != (len(points) == 2):
            form = '2 points' if self.kind == 'line' else '3 or more corners'
            raise RegionError(
                f'{shorten(self.name)} needs {form} x, y; got {shorten(points.tolist())}'
            )
        if self.unit not in ('px', 'm') or self.kind not in ('zone', 'queue', 'walkable', 'line'):
            raise RegionError(
                f'{shorten(self.name)}: unit must be px or m, got {shorten(self.unit)}; kind must '
                f'be zone, queue, walkable or line, got {shorten(self.kind)}'
            )
        if not self.shape.is_valid or self.shape.length == 0:
            raise RegionError(f'{self.kind} {shorten(self.name)} crosses itself or has no size')

    @property
    def shape(self) -> shapely.Geometry:
        """The region for shapely."""
        import shapely

        return (
            shapely.LineString(self.points) if self.kind == 'line' else shapely.Polygon(self.points)
        )

    def positions(self, table: PersonTable) -> Doubles:
        """Ground points (M, 2) of people in the unit of this region."""
        return table.ground_m if self.unit == 'm' else table.ground_px


def load_regions(path: Path, kind: Literal['zones', 'lines']) -> list[Region]:
    """Read ``{"zones": [{"name", "unit", "polygon"}]}`` or ``{"lines": [{..., "points"}]}``.

    A zone may have a ``kind``; see `Region`.

    Raises:
        RegionError: The file has another content.
    """
    try:
        rows = read_json(path)[kind]
        regions = [
            Region(
                str(row['name']), np.array(row[KEYS[kind]], np.float64), row['unit'],
                'line' if kind == 'lines' else row.get('kind', 'zone'),
            )
            for row in rows
        ]  # fmt: skip
    except RegionError as error:
        raise RegionError(f'{path}: {error}') from error
    except InputError:
        raise
    except DAMAGE as error:
        raise RegionError(
            f'{path}: not {kind}: {in_line(repr(error))}; write {{"{kind}": [{{"name": "door", '
            f'"unit": "m", "{KEYS[kind]}": [[x, y], ...]}}]}}'
        ) from error
    names = [region.name for region in regions]
    if len(set(names)) < len(names):
        raise RegionError(f'{path}: two regions have one name: {shorten(sorted(names))}')
    return regions


def inside(region: Region, points: Doubles) -> npt.NDArray[np.bool_]:
    """Which points (M, 2) lie in a zone; points without a position do not."""
    import shapely

    known = np.isfinite(points).all(1)
    result = np.zeros(len(points), bool)
    result[known] = shapely.intersects_xy(region.shape, points[known])
    return result


def measure_zone(
    region: Region, table: PersonTable, images: npt.NDArray[np.int64]
) -> dict[str, Any]:
    """Figures of a zone: people at a time, occupancy, entries, exits and dwell times.

    An entry or exit is counted if the track is also seen outside. A visit goes on while the track
    is outside for at most `MAX_ABSENCE`.

    Args:
        region: zone.
        table: people.
        images: numbers of all images or frames, also of those without people.
    """
    within = inside(region, region.positions(table))
    counts = np.array([within[table.images == image].sum() for image in images], int)
    figures: dict[str, Any] = {
        'zone': region.name, 'kind': region.kind, 'unit': region.unit,
        'mean_people': _mean(counts), 'max_people': int(counts.max(initial=0)),
        'occupied_fraction': _mean(counts > 0),
    }  # fmt: skip
    tracked = (table.track_ids > 0) & np.isfinite(table.seconds)
    if not tracked.any():
        return figures
    entries = exits = 0
    dwell = []
    known = tracked & np.isfinite(region.positions(table)).all(1)
    for track in np.unique(table.track_ids[known]).tolist():
        rows = np.flatnonzero(known & (table.track_ids == track))
        rows = rows[np.argsort(table.seconds[rows])]
        seconds, flags = table.seconds[rows], within[rows]
        for first, last in _visits(seconds, flags):
            entries += first > 0
            exits += last < len(rows) - 1
            dwell.append(seconds[last] - seconds[first])
    return figures | {
        'visitors': len(np.unique(table.track_ids[tracked & within])), 'visits': len(dwell),
        'entries': entries, 'exits': exits, 'mean_dwell_s': _mean(dwell),
        'max_dwell_s': float(max(dwell, default=np.nan)),
        'total_person_s': float(sum(dwell)),
    }  # fmt: skip


def _visits(seconds: Doubles, flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last row of each visit."""
    visits: list[tuple[int, int]] = []
    for i in np.flatnonzero(flags).tolist():
        if visits and seconds[i] - seconds[visits[-1][1]] <= max(MAX_ABSENCE, 0):
            visits[-1] = (visits[-1][0], i)
        elif visits and visits[-1][1] == i - 1:
            visits[-1] = (visits[-1][0], i)
        else:
            visits.append((i, i))
    return visits


def measure_queue(region: Region, points: Doubles) -> tuple[int, float]:
    """People in a queue, and its length along its main direction, in the unit of the zone.

    Args:
        region: zone of the queue.
        points: (N, 2) positions of the people of one image.
    """
    inner = points[inside(region, points)]
    if len(inner) < 2:
        return len(inner), 0.0
    centered = inner - inner.mean(0)
    along = centered @ np.linalg.svd(centered, full_matrices=False)[2][0]
    return len(inner), float(np.ptp(along))


def find_crossings(line: Region, table: PersonTable) -> list[tuple[int, float, int]]:
    """Track, time and direction of each crossing of a line, in the order of time.

    Direction 1 is from the left to the right of the line as its points are listed, -1 the other
    way; left and right are those of a plane with y up (m), or y down (px).
    """
    start, end = line.points
    along = end - start
    found = []
    points = line.positions(table)
    known = np.isfinite(points).all(1) & np.isfinite(table.seconds) & (table.track_ids > 0)
    sign = 1 if line.unit == 'm' else -1
    for track in np.unique(table.track_ids[known]).tolist():
        rows = np.flatnonzero(known & (table.track_ids == track))
        rows = rows[np.argsort(table.seconds[rows])]
        path = points[rows] - start
        side = along[0] * path[:, 1] - along[1] * path[:, 0]  # above 0: left, with y up
        for i in np.flatnonzero((side[:-1] > 0) != (side[1:] > 0)).tolist():
            part = side[i] / (side[i] - side[i + 1])
            place = path[i] + part * (path[i + 1] - path[i])
            if 0 <= place @ along <= along @ along:
                seconds = table.seconds[rows[i]] * (1 - part) + table.seconds[rows[i + 1]] * part
                found.append((track, float(seconds), sign if side[i] > 0 else -sign))
    return sorted(found, key=lambda row: row[1])


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else float('nan')
