"""Who hides whom in an image: occlusion graph, depth order and visible fraction of each person.

A body is drawn from its keypoints as thin limbs. Its pixels that belong to the mask of another
person are hidden by that person. Legend: N people; H x W image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from ..structures import People

if TYPE_CHECKING:
    import networkx

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
PRESENT = 0.5  # presence from which a keypoint counts as inside the image
MIN_HIDDEN = 0.01  # fraction of a body that another person must cover to hide it
# (first, second keypoint, length, thickness), relative to the height of an upright person: lengths
# by Drillis and Contini 1966; the thickness is narrow, so that drawn limbs stay inside a mask.
LIMBS = (
    (5, 7, 0.186, 0.04), (7, 9, 0.146, 0.032), (6, 8, 0.186, 0.04), (8, 10, 0.146, 0.032),
    (11, 13, 0.245, 0.075), (13, 15, 0.246, 0.05), (12, 14, 0.245, 0.075), (14, 16, 0.246, 0.05),
)  # fmt: skip
SHOULDERS, HIPS = [5, 6], [11, 12]
TRUNK_LENGTH, TRUNK_THICKNESS, HEAD_RADIUS = 0.288, 0.11, 0.055


@dataclass(frozen=True, eq=False)
class Bodies:
    """Skeletons of the people of an image, with COCO's 17 keypoints."""

    points: Doubles  # (N, 17, 2) px
    present: Flags  # (N, 17) inside the image
    visibility: Doubles  # (N, 17)
    heights: Doubles  # (N,) px of the upright body; NaN without a limb

    @classmethod
    def of(cls, people: People) -> Bodies:
        """Skeletons of people whose keypoints include COCO's."""
        view = people.keypoint_set.view
        points = view(people.keypoints).astype(np.float64)
        present = view(people.presence) >= PRESENT
        height, width = people.image_shape
        # A point on the edge is where models put those that lie outside.
        present &= ((points >= 0) & (points <= (width, height))).all(-1)
        heights = _body_heights(points, present)
        return cls(points, present, view(people.visibility).astype(np.float64), heights)

    def draw(self, i: int, shape: tuple[int, int]) -> tuple[tuple[slice, slice], Flags]:
        """Window (rows, columns) and pixels of body i in an image of ``shape``."""
        unit = self.heights[i]
        shown = self.points[i][self.present[i]]
        if not np.isfinite(unit) or not len(shown):
            return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool)
        margin = 0.15 * unit
        low = np.clip(np.floor(shown.min(0) - margin), 0, shape[::-1]).astype(int)
        high = np.clip(np.ceil(shown.max(0) + margin), 0, shape[::-1]).astype(int)
        canvas = np.zeros((high - low)[::-1], np.uint8)
        points, present = self.points[i] - low, self.present[i]
        for a, b, _, thickness in LIMBS:
            if present[a] and present[b]:
                _line(canvas, points[a], points[b], thickness * unit)
        if present[SHOULDERS].any() and present[HIPS].any():
            ends = [points[k][present[k]].mean(0) for k in (SHOULDERS, HIPS)]
            _line(canvas, ends[0], ends[1], TRUNK_THICKNESS * unit)
            corners = points[[5, 6, 12, 11]][present[[5, 6, 12, 11]]]
            if len(corners) > 2:
                cv2.fillPoly(canvas, [np.rint(corners).astype(np.int32)], 1)
        if present[:5].any():
            x, y = points[:5][present[:5]].mean(0)
            cv2.circle(canvas, (round(x), round(y)), max(round(HEAD_RADIUS * unit), 1), 1, -1)
        window = slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))
        return window, canvas.astype(bool)


@dataclass(frozen=True, eq=False)
class Occlusion:
    """Occlusion of the people of one image."""

    hidden: Doubles  # (N, N) fraction of the body of column j that person i covers
    hides: Flags  # (N, N) person i hides person j
    visible_fractions: Doubles  # (N,) of the body inside the image; NaN without skeleton or mask
    depth_order: npt.NDArray[np.int64]  # (N,) 0 is the nearest

    @cached_property
    def graph(self) -> networkx.DiGraph[int]:
        """Edges from the person in front to the hidden one; nodes are person ids, from 1."""
        return _graph(self.hides, self.hidden)

    @cached_property
    def cycles(self) -> list[list[int]]:
        """Groups of person ids that hide each other in a circle."""
        import networkx as nx

        parts = nx.strongly_connected_components(self.graph)
        return sorted(sorted(part) for part in parts if len(part) > 1)


def find_occlusion(people: People, bodies: Bodies, ground_y: Doubles) -> Occlusion:
    """Find who hides whom.

    Args:
        people: N people with masks.
        bodies: their skeletons.
        ground_y: (N,) row in px of their ground points, or NaN; of two people, the one lower in
            the image is the nearer one where no occlusion decides.
    """
    hidden, visible = _cover(people, bodies)
    # The thin body of the person in front also touches the mask behind; the larger part decides.
    mutual = (hidden > 0.1) & (hidden.T > 0.1)
    hides: Flags = np.logical_and(hidden >= MIN_HIDDEN, (hidden > hidden.T) | mutual)
    rows = np.where(np.isfinite(ground_y), ground_y, people.boxes[:, 3])
    return Occlusion(hidden, hides, visible, _order(hides, hidden, rows))


def _cover(people: People, bodies: Bodies) -> tuple[Doubles, Doubles]:
    """Fraction (N, N) of body j in mask i, and visible fraction (N,)."""
    number = len(people)
    owner = np.zeros(people.image_shape, np.int32)
    for i, crop in enumerate(people.masks.crops):
        owner[people.masks.window(i)][crop] = i + 1
    hidden, visible = np.zeros((number, number)), np.full(number, np.nan)
    for j in range(number):
        window, body = bodies.draw(j, people.image_shape)
        if not body.any():
            continue
        counts = np.bincount(owner[window][body], minlength=number + 1)[: number + 1]
        shares = counts / body.sum()
        shares[j + 1], own = 0, shares[j + 1]
        hidden[:, j] = shares[1:]
        if people.masks.crops[j].size:  # without a mask, nothing says what is visible
            visible[j] = own / max(own + shares[1:].sum(), 1e-9)
    return hidden, visible


def _order(hides: Flags, hidden: Doubles, rows: Doubles) -> npt.NDArray[np.int64]:
    """Rank (N,) from the nearest person: occlusion first, then the row of the ground point."""
    import networkx as nx

    graph = nx.condensation(_graph(hides, hidden))
    members = graph.nodes(data='members')
    lowest = {n: max((rows[p - 1] for p in part), default=0.0) for n, part in members}
    order = nx.lexicographical_topological_sort(graph, key=lambda n: -lowest[n])
    people = [
        p for n in order for p in sorted(graph.nodes[n]['members'], key=lambda p: -rows[p - 1])
    ]
    ranks = np.zeros(len(hides), np.int64)
    ranks[np.array(people, int) - 1] = np.arange(len(people))
    return ranks


def _graph(hides: Flags, hidden: Doubles) -> networkx.DiGraph[int]:
    import networkx as nx

    graph: networkx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(range(1, len(hides) + 1))
    for i, j in np.argwhere(hides).tolist():
        graph.add_edge(i + 1, j + 1, hidden_fraction=round(float(hidden[i, j]), 4))
    return graph


def _body_heights(points: Doubles, present: Flags) -> Doubles:
    """Height (N,) px of the upright body by the second-longest limb; NaN without a limb."""
    estimates = np.full((len(points), len(LIMBS) + 1), np.nan)
    for k, (a, b, length, _) in enumerate(LIMBS):
        found: Flags = present[:, a] & present[:, b]
        apart = np.linalg.norm(points[:, a] - points[:, b], axis=1)
        estimates[found, k] = apart[found] / length
    found = np.asarray(present[:, [*SHOULDERS, *HIPS]].all(1))
    trunk = points[:, SHOULDERS].mean(1) - points[:, HIPS].mean(1)
    estimates[found, -1] = np.linalg.norm(trunk, axis=1)[found] / TRUNK_LENGTH
    # Limbs look shorter than they are, never longer; the longest alone may be an error.
    ranked = -np.sort(-np.nan_to_num(estimates, nan=-1), axis=1)
    best = np.where(ranked[:, 1] > 0, ranked[:, 1], ranked[:, 0])
    return np.asarray(np.where(best > 0, best, np.nan))


def _line(canvas: Any, start: Doubles, end: Doubles, thickness: float) -> None:
    ends = [tuple(np.rint(p).astype(int).tolist()) for p in (start, end)]
    cv2.line(canvas, ends[0], ends[1], 1, max(round(thickness), 1))
