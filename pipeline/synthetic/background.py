"""Draw backgrounds without people, and objects that occlude people."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from .canvas import Canvas, Color, Layer, Material
from .parts import Part

Image = npt.NDArray[np.uint8]
Rng = np.random.Generator

SIGNS: tuple[Color, ...] = ((200, 50, 48), (40, 90, 170), (244, 196, 48))
WALLS: tuple[Color, ...] = ((176, 140, 118), (196, 184, 164), (142, 148, 158))


def draw_background(rng: Rng, width: int, height: int, horizon: float) -> Image:
    """Draw a random street, park or hall (H, W, 3) RGB; ``horizon`` is a row in px."""
    image = np.zeros((height, width, 3), np.uint8)
    row = int(np.clip(horizon, 0.12 * height, 0.75 * height))
    scenes: tuple[Callable[[Rng, Image, int], None], ...] = (_street, _park, _hall)
    scenes[int(rng.integers(len(scenes)))](rng, image, row)
    return _mottle(rng, image)


def draw_blocker(rng: Rng, x: float, ground: float, unit: float) -> Layer:
    """Draw a random post, sign or potted plant.

    Args:
        rng: random generator.
        x: column of its centre in px.
        ground: row of its foot in px.
        unit: height in px of a person at this position.
    """
    box = x - 0.25 * unit, ground - 1.25 * unit, x + 0.25 * unit, ground + 0.06 * unit
    canvas = Canvas(box, unit)
    kind = ('post', 'sign', 'plant')[int(rng.integers(3))]
    gray, striped = _shade(rng, (112, 116, 122), 25), rng.random() < 0.3
    metal = Material(gray, (230, 190, 60), 'stripes' if striped else 'plain', 0.08)
    if kind == 'plant':
        _pot_plant(rng, canvas, (x, ground), unit)
    else:
        top = ground - unit * float(rng.uniform(0.75, 1.15))
        thick = 0.018 * unit
        canvas.tube(((x, top), (x, ground)), (thick, thick), Part.PROP, metal, cap=2)
        if kind == 'sign':
            y = top + 0.1 * unit
            color = _shade(rng, SIGNS[int(rng.integers(3))], 10)
            window, normals, coverage = canvas.ball((x, y), (0.12 * unit, 0.12 * unit), 0)
            canvas.paint_ball(window, normals, coverage, Part.PROP, Material(color))
            turn = float(rng.choice([0, 45, 90]))
            canvas.spot((x, y), (0.085 * unit, 0.03 * unit), turn, (245, 245, 245))
    return canvas.layer(ground, (x, 0.06 * unit))


def _pot_plant(rng: Rng, canvas: Canvas, foot: tuple[float, float], unit: float) -> None:
    x, ground = foot
    pot = Material(_shade(rng, (168, 96, 66), 20))
    rim = ground - 0.2 * unit
    green = _shade(rng, (58, 120, 60), 18)
    for _ in range(16):
        place = x + unit * float(rng.normal(0, 0.06)), rim - unit * float(rng.uniform(0.0, 0.26))
        leaf = canvas.ball(place, (0.025 * unit, 0.065 * unit), float(rng.uniform(-70, 70)))
        canvas.paint_ball(*leaf, Part.PROP, Material(_shade(rng, green, 12)))
    canvas.tube(((x, rim), (x, ground)), (0.1 * unit, 0.075 * unit), Part.PROP, pot, cap=6)


def _street(rng: Rng, image: Image, horizon: int) -> None:
    sky = _shade(rng, (150, 190, 226), 18)
    _gradient(image[:horizon], sky, _lighter(sky, 0.6))
    _buildings(rng, image, horizon)
    ground = _shade(rng, (158, 154, 148), 14)
    _gradient(image[horizon:], _lighter(ground, -0.2), ground)
    _perspective_lines(rng, image, horizon, _lighter(ground, -0.16))
    if rng.random() < 0.6:
        _trees(rng, image, horizon, int(rng.integers(1, 5)))


def _park(rng: Rng, image: Image, horizon: int) -> None:
    sky = _shade(rng, (140, 196, 234), 16)
    _gradient(image[:horizon], sky, _lighter(sky, 0.7))
    height, width = image.shape[:2]
    for _ in range(4):
        place = rng.uniform((0, 0), (width, 0.6 * horizon + 1)).astype(int).tolist()
        axes = width // 9, max(height // 40, 2)
        cv2.ellipse(image, place, axes, 0, 0, 360, (246, 248, 250), -1, cv2.LINE_AA)
    grass = _shade(rng, (112, 160, 84), 14)
    _gradient(image[horizon:], _lighter(grass, -0.22), grass)
    _trees(rng, image, horizon, int(rng.integers(6, 13)))
    corners = np.array([(0.3, 1), (0.75, 1), (0.55, horizon / height), (0.5, horizon / height)])
    path = corners * (width, height) + (rng.uniform(-0.25, 0.25) * width, 0)
    color = _shade(rng, (206, 188, 152), 10)
    cv2.fillPoly(image, [np.rint(path).astype(np.int32)], color, cv2.LINE_AA)


def _hall(rng: Rng, image: Image, horizon: int) -> None:
    wall = _shade(rng, (206, 198, 184), 24)
    _gradient(image[:horizon], _lighter(wall, -0.1), wall)
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(4, 10))):
        w, h = rng.uniform((0.04, 0.08), (0.16, 0.4)) * (width, horizon)
        x, y = rng.uniform((0, 0.08 * horizon), (width, max(0.9 * horizon - h, 0.1 * horizon)))
        corners = (int(x), int(y)), (int(x + w), int(y + h))
        cv2.rectangle(image, *corners, _shade(rng, (150, 120, 110), 50), -1)
        frame = _shade(rng, (60, 52, 48), 12)
        cv2.rectangle(image, *corners, frame, max(height // 240, 1), cv2.LINE_AA)
        middle = int(x + w / 2), int(y + h / 2)
        axes = int(w / 4) + 1, int(h / 4) + 1
        motif = _shade(rng, (170, 150, 120), 60)
        cv2.ellipse(image, middle, axes, 0, 0, 360, motif, -1, cv2.LINE_AA)
    floor = _shade(rng, (158, 120, 84), 22)
    _gradient(image[horizon:], _lighter(floor, -0.25), _lighter(floor, 0.1))
    _perspective_lines(rng, image, horizon, _lighter(floor, -0.3))
    skirting = (0, horizon - max(height // 60, 1)), (width, horizon)
    cv2.rectangle(image, *skirting, _lighter(wall, -0.35), -1)


def _buildings(rng: Rng, image: Image, horizon: int) -> None:
    width, x = image.shape[1], -int(rng.integers(0, 40))
    while x < width:
        w = int(width * rng.uniform(0.1, 0.24)) + 4
        top = int(horizon * rng.uniform(0.0, 0.55))
        wall = _shade(rng, WALLS[int(rng.integers(3))], 20)
        image[top:horizon, max(x, 0) : max(x + w, 0)] = wall
        glass = _shade(rng, (92, 112, 130), 24)
        columns, rows = int(rng.integers(3, 7)), int(rng.integers(3, 8))
        dx, dy = w / columns, (horizon - top) / rows
        for i in range(columns):
            for j in range(rows):
                left, upper = x + (i + 0.25) * dx, top + (j + 0.22) * dy
                lit = (236, 214, 150) if rng.random() < 0.12 else glass
                corners = (int(left), int(upper)), (int(left + 0.5 * dx), int(upper + 0.5 * dy))
                cv2.rectangle(image, *corners, lit, -1)
        x += w + int(rng.integers(0, max(width // 40, 1) + 1))


def _trees(rng: Rng, image: Image, horizon: int, count: int) -> None:
    height, width = image.shape[:2]
    for _ in range(count):
        x, size = int(rng.uniform(0, width)), float(rng.uniform(0.12, 0.3)) * height
        foot = horizon + int(0.04 * height * rng.random())
        trunk = max(int(0.06 * size), 1)
        corners = (x - trunk, foot - int(0.6 * size)), (x + trunk, foot)
        cv2.rectangle(image, *corners, _shade(rng, (92, 70, 52), 10), -1)
        green = _shade(rng, (70, 122, 64), 20)
        offsets = rng.normal(0, (0.2, 0.16), (14, 2)) * size
        # The lower leaves first: the light comes from above.
        for dx, dy in offsets[np.argsort(-offsets[:, 1])].tolist():
            tone = _shade(rng, _lighter(green, -0.6 * dy / size), 6)
            center = int(x + dx), int(foot - 0.75 * size + dy)
            cv2.circle(image, center, max(int(0.16 * size), 1), tone, -1, cv2.LINE_AA)


def _perspective_lines(rng: Rng, image: Image, horizon: int, color: Color) -> None:
    """Draw joints of paving or boards that run to a vanishing point above the horizon."""
    height, width = image.shape[:2]
    aim = int(width * rng.uniform(0.3, 0.7)), int(horizon - 0.35 * height)
    for x in np.linspace(-1.5 * width, 2.5 * width, 25).astype(int).tolist():
        fraction = (horizon - aim[1]) / (height - aim[1])
        start = int(aim[0] + (x - aim[0]) * fraction), horizon
        cv2.line(image, start, (x, height), color, 1, cv2.LINE_AA)
    if rng.random() < 0.6:
        for fraction in np.geomspace(0.04, 1, 9).tolist():
            y = horizon + int((height - horizon) * fraction)
            cv2.line(image, (0, y), (width, y), color, 1, cv2.LINE_AA)


def _gradient(area: Image, top: Color, bottom: Color) -> None:
    fraction = np.linspace(0, 1, max(len(area), 1), dtype=np.float32)[: len(area), None, None]
    area[:] = (np.asarray(top) + (np.asarray(bottom) - np.asarray(top)) * fraction).astype(np.uint8)


def _mottle(rng: Rng, image: Image) -> Image:
    """Add soft stains to all surfaces."""
    height, width = image.shape[:2]
    coarse = rng.normal(128, 4, (height // 24 + 2, width // 24 + 2)).astype(np.float32)
    fine = rng.normal(0, 6, (height // 4 + 2, width // 4 + 2)).astype(np.float32)
    size = width, height
    stains = cv2.add(cv2.resize(coarse, size), cv2.resize(fine, size))
    gray = cv2.merge([np.clip(stains, 0, 255).astype(np.uint8)] * 3)
    return np.asarray(cv2.addWeighted(image, 1.0, gray, 1.0, -128), np.uint8)


def _shade(rng: Rng, color: Color, spread: float) -> Color:
    r, g, b = np.clip(np.asarray(color) + rng.normal(0, spread, 3), 0, 255).tolist()
    return r, g, b


def _lighter(color: Color, fraction: float) -> Color:
    """Mix a colour with white (positive fraction) or black (negative fraction)."""
    aim = 255.0 if fraction > 0 else 0.0
    r, g, b = (c + (aim - c) * min(abs(fraction), 1.0) for c in color)
    return r, g, b
