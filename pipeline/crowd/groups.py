"""Groups: people who walk together, people who talk, and the distances between people; metres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas

Doubles = npt.NDArray[np.float64]
Groups = list[tuple[int, ...]]
# Hall's distances: upper ends in m; the rest is public.
DISTANCES = (('intimate', 0.45), ('personal', 1.2), ('social', 3.6), ('public', np.inf))


@dataclass(frozen=True)
class GroupConfig:
    """When two people walk together (ours).

    Attributes:
        max_distance_m: mean distance of the two.
        max_speed_difference: mean length of the difference of velocities, m/s.
        min_seconds: time that both are seen.
        min_fraction: part of the shorter track that both are seen.
    """

    max_distance_m: float = 1.5
    max_speed_difference: float = 0.35
    min_seconds: float = 2.0
    min_fraction: float = 0.5


def find_walking_groups(
    speeds: pandas.DataFrame, frame_rate: float, config: GroupConfig | None = None
) -> Groups:
    """Groups of ids of people who stay near each other with like velocities.

    Args:
        speeds: columns id, frame, x, y (m), v_x, v_y (m/s); rows without a velocity are left out.
        frame_rate: frames a second, of the numbers of the frames.
        config: thresholds.
    """
    import networkx as nx

    config = config or GroupConfig()
    rows = speeds.dropna(subset=['v_x', 'v_y'])
    lengths = rows.groupby('id').frame.agg(lambda f: f.max() - f.min())
    pairs = rows.merge(rows, on='frame', suffixes=('', '_b'))
    pairs = pairs[pairs.id < pairs.id_b]
    pairs = pairs.assign(
        apart=np.hypot(pairs.x - pairs.x_b, pairs.y - pairs.y_b),
        unlike=np.hypot(pairs.v_x - pairs.v_x_b, pairs.v_y - pairs.v_y_b),
    )
    table = pairs.groupby(['id', 'id_b']).agg(
        apart=('apart', 'mean'), unlike=('unlike', 'mean'),
        first=('frame', 'min'), last=('frame', 'max'),
    ).reset_index()  # fmt: skip
    shared = table['last'] - table['first']
    shorter = np.minimum(
        lengths.reindex(table.id).to_numpy(), lengths.reindex(table.id_b).to_numpy()
    )
    together = table[
        (table.apart <= config.max_distance_m)
        & (table.unlike <= config.max_speed_difference)
        & (shared / frame_rate >= config.min_seconds)
        & (shared >= config.min_fraction * shorter)
    ]
    graph: nx.Graph[int] = nx.Graph(together[['id', 'id_b']].astype(int).to_numpy().tolist())
    return sorted(tuple(sorted(part)) for part in nx.connected_components(graph))


def find_formations(
    points_m: Doubles, directions: Doubles, reach_m: float = 0.75, radius_m: float = 0.6
) -> Groups:
    """F-formations: rows of people whose transactional segments share a centre.

    Everybody looks at a point ``reach_m`` ahead. People whose points lie within ``radius_m`` of
    their mean form a group; nobody else may stand nearer to that mean than its members (ours,
    after the definition of Setti et al. 2015).

    Args:
        points_m: (N, 2) positions.
        directions: (N, 2) unit vectors that people face, NaN where unknown.
        reach_m: distance of the shared centre.
        radius_m: tolerance.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    rows = np.flatnonzero(np.isfinite(points_m).all(1) & np.isfinite(directions).all(1))
    if len(rows) < 2:
        return []
    centers = points_m[rows] + reach_m * directions[rows]
    labels = fcluster(linkage(centers, 'average'), 2 * radius_m, 'distance')
    found = []
    for label in np.unique(labels):
        members = rows[labels == label]
        middle = centers[labels == label].mean(0)
        if len(members) < 2:
            continue
        near = np.linalg.norm(points_m[members] - middle, axis=1).max()
        others = np.setdiff1d(rows, members)
        if not (np.linalg.norm(points_m[others] - middle, axis=1) < 0.5 * near).any():
            found.append(tuple(members.tolist()))
    return sorted(found)


def measure_nearest(points_m: Doubles) -> Doubles:
    """Distance (N,) m to the nearest other person; NaN without one."""
    from scipy.spatial import KDTree

    known = np.isfinite(points_m).all(1)
    result = np.full(len(points_m), np.nan)
    if known.sum() > 1:
        result[known] = KDTree(points_m[known]).query(points_m[known], k=2)[0][:, 1]
    return result


def name_distances(nearest_m: Doubles) -> dict[str, int]:
    """Number of people whose nearest neighbour is at each of Hall's distances."""
    known = nearest_m[np.isfinite(nearest_m)]
    ends = [0.0, *(end for _, end in DISTANCES)]
    counts = np.histogram(known, ends)[0]
    return {name: int(n) for (name, _), n in zip(DISTANCES, counts, strict=True)}
