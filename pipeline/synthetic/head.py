"""Draw the head of a synthetic person: an ellipsoid with hair, face and hat."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas, Material, Plane
from .look import Look
from .parts import Part
from .rig import Vectors, drop

# Positions on the unit head (left, down, front): COCO keypoints 0 to 4, then the mouth.
NOSE, EYE, EAR = (0, 0.2, 1.04), (0.36, -0.06, 0.93), (1.06, 0.08, -0.14)
FACE = np.array([NOSE, EYE, (-EYE[0], *EYE[1:]), EAR, (-EAR[0], *EAR[1:])])
MOUTH = np.array([0, 0.56, 0.83])
COVERS_EARS = ('long', 'afro')


class HeadPainter:
    """Draws one head and computes its keypoints.

    Args:
        canvas: canvas of the person.
        look: hair, hat, skin.
        center: (2,) px of the image.
        axes: (3, 3) columns are the head's left, down and front in the view frame.
        half_height: px.
        roll: rotation in the image in degrees, clockwise.
    """

    def __init__(
        self,
        canvas: Canvas,
        look: Look,
        center: Vectors,
        axes: Vectors,
        half_height: float,
        roll: float,
    ) -> None:
        self.canvas, self.look, self.center, self.axes, self.roll = canvas, look, center, axes, roll
        # The head is longer than wide.
        width = half_height * float(np.hypot(0.78 * axes[0, 0], 0.88 * axes[0, 2]))
        self.half = (width, half_height)
        turn = np.radians(roll)
        self._turn = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        self.keypoints = np.stack([self.place(p) for p in FACE])  # (5, 2) px
        self.facing = (FACE @ axes.T)[:, 2] > -0.1  # (5,) on the side of the viewer

    def place(self, point: Vectors) -> Vectors:
        """Project a position on the unit head to px (2,) of the image."""
        flat = (self.axes @ point)[:2] * self.half
        return np.asarray(self.center + self._turn @ flat)

    def paint(self) -> None:
        """Paint far ear, hair, skin, near ear, face and hat, in this order."""
        toward = self.axes[2, :]  # components of left, down and front towards the viewer
        covered = self.look.hair_style in COVERS_EARS
        ears = () if covered else (0, 1)
        ears_first = [s for s in ears if (FACE[3 + s] @ toward) <= 0]
        for side in ears_first:
            self._ear(side)
        self._skull()
        for side in ears:
            if side not in ears_first:
                self._ear(side)
        self._face(toward)
        if self.look.hat != 'none':
            self._hat(toward)

    def paint_back_hair(self, shoulders_y: float) -> None:
        """Paint long hair behind the neck, down to a row in px."""
        x, y = self.place(np.array([0, -0.1, -0.45])).tolist()
        width = self.half[0]
        end = (x + 0.1 * (x - self.center[0]), shoulders_y + 0.5 * self.half[1])
        radii = (0.95 * width, 1.12 * width, 1.1 * width, 0.9 * width)
        self.canvas.tube(((x, y), end), radii, Part.HAIR, self.look.hair, cap=1.5)

    def _ear(self, side: int) -> None:
        size = 0.2 * self.half[1]
        ball = self.canvas.ball(self.place(FACE[3 + side]), (0.7 * size, size), self.roll)
        part = (Part.EAR_LEFT, Part.EAR_RIGHT)[side]
        self.canvas.paint_ball(*ball, part, self.look.skin)

    def _skull(self) -> None:
        style, hair = self.look.hair_style, self.look.hair
        volume = 1.32 if style == 'afro' else 1.1
        larger = self.half[0] * volume, self.half[1] * volume
        if style in COVERS_EARS:
            # Below the face, so that there is no gap between cheeks and hair.
            window, normals, inside = self.canvas.ball(self.center, larger, self.roll)
            forward = np.float32(self.axes[0, 2]) * normals[0]
            inside *= self._soft(np.minimum(0.75 - forward, 0.5 - normals[1]))
            self.canvas.paint_ball(window, normals, inside, Part.HAIR, hair)
        if style == 'bun' and self.look.hat == 'none':
            size = 0.42 * self.half[1]
            ball = self.canvas.ball(self.place(np.array([0, -1.05, -0.45])), (size, size), 0)
            self.canvas.paint_ball(*ball, Part.HAIR, hair)
        window, normals, inside = self.canvas.ball(self.center, self.half, self.roll)
        self.canvas.paint_ball(window, normals, inside, Part.HEAD, self.look.skin)
        if self.look.beard:
            left, down, front = self._on_head(normals)
            chin = self._soft(np.minimum(front + 0.1, down - 0.42 + 0.3 * np.abs(left)))
            self.canvas.paint_ball(window, normals, chin * inside, Part.HEAD, hair)
        if style != 'bald':
            window, normals, inside = self.canvas.ball(self.center, larger, self.roll)
            inside *= self._soft(self._hair_margin(normals))
            self.canvas.paint_ball(window, normals, inside, Part.HAIR, hair)

    def _on_head(self, normals: Plane) -> tuple[Plane, Plane, Plane]:
        """Convert normals (3, h, w) of the view to left, down and front of the head."""
        nx, ny, nz = normals
        left, down, front = (a * nx + b * ny + c * nz for a, b, c in self.axes.T.tolist())
        return left, down, front

    def _soft(self, margin: Plane) -> Plane:
        """Coverage in [0, 1] of the area where a function on the unit head is positive."""
        return np.asarray(np.clip(margin * self.half[1] + 0.5, 0, 1), np.float32)

    def _hair_margin(self, normals: Plane) -> Plane:
        """Function (h, w) on the unit head, positive at hair."""
        left, down, front = self._on_head(normals)
        margin = -0.3 - np.where(front > 0, 0.38, 0.85) * front - down
        if self.look.hair_style in COVERS_EARS:
            sides = np.minimum(np.minimum(np.abs(left) - 0.8, 0.5 - front), 0.75 - down)
            margin = np.maximum(margin, np.maximum(sides, -0.15 - front))
        return np.asarray(margin, np.float32)

    def _face(self, toward: Vectors) -> None:
        if toward[2] < -0.15:
            return
        canvas, unit = self.canvas, self.half[1]
        dark = (46.0, 34.0, 32.0)
        narrow = max(float(toward[2]), 0.25)
        for eye in FACE[1:3][(FACE[1:3] @ toward) > 0.05]:
            place = self.place(eye)
            canvas.spot(place, (0.19 * unit * narrow, 0.13 * unit), self.roll, (246, 246, 246))
            canvas.spot(place, (0.085 * unit, 0.11 * unit), self.roll, dark)
            brow = self.place(eye - drop(0.24))
            canvas.spot(brow, (0.17 * unit * narrow, 0.035 * unit), self.roll, self.look.hair.color)
            if self.look.glasses:
                bar = self.place(eye - drop(0.14))
                canvas.spot(bar, (0.24 * unit * narrow, 0.04 * unit), self.roll, (30, 30, 34))
        r, g, b = self.look.skin.color
        ball = canvas.ball(self.place(FACE[0]), (0.11 * unit, 0.13 * unit), self.roll)
        canvas.paint_ball(*ball, Part.HEAD, Material((r * 0.93, g * 0.86, b * 0.84)))
        if MOUTH @ toward > 0.1:
            mouth = (min(r * 0.75 + 25, 220), g * 0.45, b * 0.45)
            canvas.spot(self.place(MOUTH), (0.21 * unit * narrow, 0.055 * unit), self.roll, mouth)

    def _hat(self, toward: Vectors) -> None:
        brim_first = self.look.hat == 'sunhat' or toward[2] < 0
        if brim_first:
            self._brim()
        volume = 1.36 if self.look.hair_style == 'afro' else 1.14
        half = self.half[0] * volume, self.half[1] * volume
        window, normals, inside = self.canvas.ball(self.center, half, self.roll)
        _, down, front = self._on_head(normals)
        edge = -0.28 if self.look.hat == 'beanie' else -0.36
        crown = inside * self._soft(edge - 0.08 * front - down)
        self.canvas.paint_ball(window, normals, crown, Part.HAT, self.look.hat_material)
        if not brim_first:
            self._brim()

    def _brim(self) -> None:
        if self.look.hat == 'beanie':
            return
        wide = self.look.hat == 'sunhat'
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        radius, forward = (1.75, 0.0) if wide else (0.82, 0.75)
        left, front = radius * np.cos(angles), forward + radius * np.sin(angles)
        flat = np.stack([left, np.full(24, -0.42), front], axis=1)
        corners = np.stack([self.place(p) for p in flat])
        r, g, b = self.look.hat_material.color
        self.canvas.polygon(corners, Part.HAT, (0.8 * r, 0.8 * g, 0.8 * b))
