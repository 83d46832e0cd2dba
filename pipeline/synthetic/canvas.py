"""Draw shaded, textured, anti-aliased shapes on a small canvas with a map of body parts.

Coordinates are continuous px of the image: pixel (r, c) covers [c, c + 1) x [r, r + 1). The
coverage of a pixel follows from its signed distance to the outline, without supersampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from .parts import Part

Color = tuple[float, float, float]
Point = npt.NDArray[np.float64] | Sequence[float]
Plane = npt.NDArray[np.float32]
Window = tuple[slice, slice]  # rows and columns
Pattern = Literal['plain', 'stripes', 'lines', 'checks', 'gradient', 'noise', 'dots']

# Darkening of a person's parts around a nearer part: limbs stay visible in front of a torso.
HALO = 0.32


def _smooth_noise() -> Plane:
    # Blur a tiling of copies, so that the noise repeats without a seam.
    raw = np.tile(np.random.default_rng(7).random((128, 128), np.float32), (3, 3))
    tile = cv2.GaussianBlur(raw, (0, 0), 4)[128:256, 128:256]
    return np.asarray((tile - tile.min()) / np.ptp(tile), np.float32)


_NOISE = _smooth_noise()
_STEPS = np.linspace(0, 1, 65)  # positions along a limb with tabulated thickness


@dataclass(frozen=True)
class Material:
    """Two RGB colours in [0, 255] and how they mix."""

    color: Color
    second: Color = (0, 0, 0)
    pattern: Pattern = 'plain'
    period: float = 0.03  # in units of the person's height

    def mix(self, along: Plane, across: Plane) -> Plane:
        """Compute the fraction of the second colour in [0, 1] at (h, w) positions.

        Positions are in units of the person's height.
        """
        u, v = along / self.period, across / self.period
        if self.pattern == 'gradient':
            return np.asarray(np.clip(u * (self.period * 4), 0, 1), np.float32)
        if self.pattern == 'noise':
            rows, cols = (np.floor(x * 12).astype(np.int32) & 127 for x in (u, v))
            return np.asarray(_NOISE[rows, cols], np.float32)
        if self.pattern == 'dots':
            square = (u - np.rint(u)) ** 2 + (v - np.rint(v)) ** 2
            return np.asarray(np.clip((0.1 - square) * 12 + 0.5, 0, 1), np.float32)
        if self.pattern == 'checks':
            return np.asarray((_bands(u) + _bands(v)) / 2, np.float32)
        return _bands(u if self.pattern == 'stripes' else v)


def _bands(x: Plane) -> Plane:
    """Alternate between 0 and 1 with period 2 and soft edges against aliasing."""
    return np.asarray(np.clip(np.abs(x - 2 * np.rint(x / 2)) * 6 - 2.5, 0, 1), np.float32)


@dataclass(frozen=True)
class Layer:
    """A crop to blend over an image; (x, y) is its first pixel there."""

    x: int
    y: int
    premultiplied: npt.NDArray[np.uint8]  # (h, w, 3) RGB times alpha
    alpha: npt.NDArray[np.uint8]  # (h, w) coverage in [0, 255]
    person: npt.NDArray[np.bool_]  # (h, w) pixels of the person
    blocker: npt.NDArray[np.bool_]  # (h, w) pixels of occluding objects
    ground: float  # row of the foot in px: larger is nearer
    shadow: tuple[float, float]  # centre column and half width of the shadow on the ground, in px

    def windows(self, height: int, width: int) -> tuple[Window, Window]:
        """Return the rows and columns of the visible part, in the image and in the layer."""
        h, w = self.alpha.shape
        top, left = min(max(self.y, 0), height), min(max(self.x, 0), width)
        bottom, right = max(min(self.y + h, height), top), max(min(self.x + w, width), left)
        inside = slice(top - self.y, bottom - self.y), slice(left - self.x, right - self.x)
        return (slice(top, bottom), slice(left, right)), inside

    def put_on(self, image: npt.NDArray[np.uint8]) -> None:
        """Blend over ``image`` (H, W, 3) in place."""
        target, inside = self.windows(*image.shape[:2])
        alpha, above = self.alpha[inside], self.premultiplied[inside]
        if alpha.size == 0:
            return
        rest = cv2.merge([cv2.bitwise_not(np.ascontiguousarray(alpha))] * 3)
        below = cv2.multiply(np.ascontiguousarray(image[target]), rest, scale=1 / 255)
        image[target] = cv2.add(below, np.ascontiguousarray(above))


class Canvas:
    """Canvas of one figure: premultiplied ``colors`` (3, h, w) RGB, ``alpha``, ``parts`` (h, w).

    Args:
        box: xyxy px of the image that the canvas covers; rounded outwards.
        unit: height of the person in px, the unit of textures.
    """

    def __init__(self, box: Sequence[float], unit: float) -> None:
        self.x, self.y = int(np.floor(box[0])), int(np.floor(box[1]))
        width, height = int(np.ceil(box[2])) - self.x, int(np.ceil(box[3])) - self.y
        self.unit = unit
        # Channels first: NumPy is several times faster over rows than over triples.
        self.colors = np.zeros((3, height, width), np.float32)
        self.alpha = np.zeros((height, width), np.float32)
        self.parts = np.zeros((height, width), np.uint8)

    def tube(
        self, ends: tuple[Point, Point], radii: Sequence[float], part: int, material: Material,
        *, cap: float = 1.0, joined: Sequence[int] = (),
    ) -> None:  # fmt: skip
        """Draw a limb: an axis with variable thickness.

        Args:
            ends: two points (2,) in px.
            radii: thickness in px at evenly spaced positions from the first to the second end.
            part: value to write to ``parts``.
            material: surface.
            cap: 1 rounds the ends; larger values flatten them.
            joined: connected parts; all other parts are darkened around the limb.
        """
        a, b = (self._local(p) for p in ends)
        halo = max(0.006 * self.unit, 0.6)
        window, xs, ys = self._window(np.stack([a, b]), max(radii) + halo + 1)
        length = max(float(np.hypot(*(b - a))), 1e-3)
        ex, ey = ((b - a) / length).tolist()
        dx, dy = xs - np.float32(a[0]), ys - np.float32(a[1])
        s, p = dx * ex + dy * ey, dy * ex - dx * ey
        inner = np.clip(s, 0, length)
        table = np.interp(_STEPS * (len(radii) - 1), np.arange(len(radii)), radii).astype(
            np.float32
        )
        radius = table[(inner * (64 / length)).astype(np.int32)]
        over = (s - inner) * cap
        depth = radius - np.sqrt(p * p + over * over)
        # Light comes from the upper left of the image.
        side = p / radius
        lit = 0.72 + 0.28 * np.sqrt(np.clip(1 - side * side, 0, 1)) - (0.12 * (ex - ey)) * side
        ring = np.clip(depth + (halo + 0.5), 0, 1)
        for other in joined:
            ring *= self.parts[window] != other
        self.colors[:, window[0], window[1]] *= 1 - HALO * ring
        mix = None
        if material.pattern != 'plain':
            mix = material.mix(s / np.float32(self.unit), p / np.float32(self.unit))
        self.fill(
            window, np.clip(depth + 0.5, 0, 1), part, (material.color, material.second), lit, mix
        )

    def ball(
        self, center: Point, half: tuple[float, float], roll: float
    ) -> tuple[Window, Plane, Plane]:
        """Compute window, unit normals (3, h, w) in the view frame and coverage of an ellipsoid.

        Args:
            center: (2,) px.
            half: half width and half height in px.
            roll: rotation in the image in degrees, clockwise.
        """
        c = self._local(center)
        window, xs, ys = self._window(c[None], max(half) + 2)
        sine, cosine = float(np.sin(np.radians(roll))), float(np.cos(np.radians(roll)))
        dx, dy = xs - np.float32(c[0]), ys - np.float32(c[1])
        nx, ny = (dx * cosine + dy * sine) / half[0], (dy * cosine - dx * sine) / half[1]
        square = nx * nx + ny * ny
        normals = np.stack([nx, ny, np.sqrt(np.clip(1 - square, 0, 1))])
        return window, normals, np.clip((1 - np.sqrt(square)) * min(half) + 0.5, 0, 1)

    def paint_ball(
        self, window: Window, normals: Plane, coverage: Plane, part: int, material: Material
    ) -> None:
        """Paint an ellipsoid of `ball`, or a part of its coverage, lit from the upper left."""
        lit = np.clip(0.74 - 0.12 * normals[0] - 0.14 * normals[1] + 0.24 * normals[2], 0.5, 1.1)
        mix = None
        if material.pattern != 'plain':
            mix = material.mix(normals[1] * 0.1, normals[0] * 0.1)
        self.fill(window, coverage, part, (material.color, material.second), lit, mix)

    def spot(self, center: Point, half: tuple[float, float], roll: float, color: Color) -> None:
        """Recolour an ellipse without changing the outline: eyes, mouths, glasses."""
        window, _, coverage = self.ball(center, (max(half[0], 0.5), max(half[1], 0.5)), roll)
        self.fill(window, coverage, 0, (color, color), self.alpha[window], None)

    def polygon(self, corners: npt.NDArray[np.float64], part: int, color: Color) -> None:
        """Fill a polygon with corners (n, 2) px."""
        points = np.stack([self._local(p) for p in corners])
        window, _, _ = self._window(points, 2)
        mask = np.zeros(self.parts[window].shape, np.uint8)
        offset = np.array([window[1].start, window[0].start])
        cv2.fillPoly(mask, [np.rint((points - offset) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        coverage = np.divide(mask, 255, dtype=np.float32)
        self.fill(window, coverage, part, (color, color), np.ones_like(coverage), None)

    def fill(
        self, window: Window, coverage: Plane, part: int, pair: tuple[Color, Color], lit: Plane,
        mix: Plane | None,
    ) -> None:  # fmt: skip
        """Blend over the canvas; ``part`` 0 does not change outline and part map.

        Args:
            window: rows and columns of the canvas.
            coverage: (h, w) in [0, 1].
            part: value to write to ``parts`` where the coverage is at least 0.5.
            pair: two RGB colours.
            lit: (h, w) brightness.
            mix: (h, w) fraction of the second colour; ``None`` is 0.
        """
        rest, bright = 1 - coverage, lit * coverage
        for plane, first, second in zip(self.colors, *pair, strict=True):
            below = plane[window]
            below *= rest
            below += bright * first if mix is None else bright * (mix * (second - first) + first)
        if part:
            self.alpha[window] = self.alpha[window] * rest + coverage
            self.parts[window][coverage >= 0.5] = part

    def part_at(self, point: Point) -> int:
        """Return the part at a point (2,) in px; 0 if empty."""
        x, y = int(np.floor(point[0])) - self.x, int(np.floor(point[1])) - self.y
        height, width = self.parts.shape
        return int(self.parts[y, x]) if 0 <= x < width and 0 <= y < height else 0

    def layer(self, ground: float, shadow: tuple[float, float]) -> Layer:
        """Convert the canvas to a layer; see `Layer` for ``ground`` and ``shadow``."""
        solid = self.alpha >= 0.5
        person = solid & (self.parts != Part.PROP)
        planes = [np.rint(np.minimum(p, 255)).astype(np.uint8) for p in self.colors]
        alpha = np.rint(self.alpha * 255).astype(np.uint8)
        merged = np.asarray(cv2.merge(planes), np.uint8)
        return Layer(self.x, self.y, merged, alpha, person, solid & ~person, ground, shadow)

    def _local(self, point: Point) -> npt.NDArray[np.float64]:
        """Convert to canvas coordinates with pixel centres at integers."""
        return np.asarray(point[:2], np.float64) - (self.x + 0.5, self.y + 0.5)

    def _window(
        self, points: npt.NDArray[np.float64], margin: float
    ) -> tuple[Window, Plane, Plane]:
        """Window of the canvas around points (n, 2), with its columns (1, w) and rows (h, 1)."""
        low, high = np.floor(points.min(0) - margin), np.ceil(points.max(0) + margin) + 1
        limit = self.parts.shape[::-1]
        x1, y1 = np.clip(low, 0, limit).astype(int).tolist()
        x2, y2 = np.clip(high, 0, limit).astype(int).tolist()
        xs, ys = (
            np.arange(x1, x2, dtype=np.float32)[None],
            np.arange(y1, y2, dtype=np.float32)[:, None],
        )
        return (slice(y1, y2), slice(x1, x2)), xs, ys
