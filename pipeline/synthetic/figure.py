"""Draw one synthetic person: a dressed rig, painted part by part from far to near.

A keypoint is *open* if the person's own body does not hide it: the part drawn at the keypoint is
one of `KEYPOINT_PARTS`, the keypoint is not on the far side of a turned trunk and, on the head, it
faces the viewer. The scene decides whether other people or the border hide it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .canvas import Canvas, Layer, Material
from .head import HeadPainter
from .look import Look
from .parts import KEYPOINT_PARTS, TRUNK, Part
from .rig import Rig, Vectors, drop

# Half widths of the trunk from neck to crotch in front view (relative to the shoulders) and in side
# view (relative to the height).
TRUNK_FRONT = np.array([0.5, 0.99, 1.0, 0.94, 0.87, 0.83, 0.87, 0.95, 0.99])
TRUNK_SIDE = np.array([0.034, 0.054, 0.064, 0.066, 0.063, 0.06, 0.06, 0.063, 0.062])
# Maximum depth of an open trunk joint, relative to its distance from the centre: 45 degrees.
FAR_SIDE = 0.7
LEGS = (Part.THIGH_LEFT, Part.THIGH_RIGHT)
SHADOW = 0.15  # half width of the shadow, relative to the height
MARGIN = 0.13  # of the height around the joints: hats, hair, hands, bags

Item = tuple[float, Callable[[], None]]


@dataclass(frozen=True)
class Figure:
    """A drawn person without occlusion."""

    layer: Layer
    keypoints: npt.NDArray[np.float32]  # (17, 2) px of the image
    open: npt.NDArray[np.bool_]  # (17,) not hidden by the person's own body

    @property
    def area(self) -> int:
        """Pixels of the whole person, including those outside of the image."""
        return int(self.layer.person.sum())

    @property
    def box(self) -> npt.NDArray[np.float32]:
        """Tight box (4,) xyxy px of the whole person; may exceed the image."""
        rows = np.flatnonzero(self.layer.person.any(1))
        cols = np.flatnonzero(self.layer.person.any(0))
        corners = [cols[0], rows[0], cols[-1] + 1, rows[-1] + 1]
        return np.array(corners, np.float32) + np.array(
            [self.layer.x, self.layer.y] * 2, np.float32
        )


def compute_extent(rig: Rig) -> npt.NDArray[np.float64]:
    """Compute the box (4,) xyxy of a rig relative to its ground point, in units of its height."""
    points = np.concatenate([rig.joints[:, :2], rig.toes[:, :2], rig.head[None, :2]])
    low, high = points.min(0), points.max(0)
    return np.concatenate([low - MARGIN, high + np.array([MARGIN, 0.05])])


def draw_figure(rig: Rig, look: Look, x: float, ground: float, unit: float) -> Figure:
    """Draw a person.

    Args:
        rig: joints.
        look: clothes.
        x: column in px of the pelvis.
        ground: row in px of the ground under the person.
        unit: standing height in px.
    """
    return _FigurePainter(rig, look, x, ground, unit).figure()


class _FigurePainter:
    def __init__(self, rig: Rig, look: Look, x: float, ground: float, unit: float) -> None:
        self.rig, self.look, self.unit = rig, look, unit
        self.origin = np.array([x, ground])
        self.canvas = Canvas((compute_extent(rig) * unit + np.tile(self.origin, 2)).tolist(), unit)
        roll = (rig.pose.head[2] + rig.pose.lean[0]) * float(rig.left[0])
        self.head = HeadPainter(
            self.canvas, look, self._at(rig.head), rig.head_axes, rig.body.head * unit, roll
        )
        self.trunk_depth = float(rig.neck[2] + rig.pelvis[2]) / 2

    def figure(self) -> Figure:
        if self.rig.pose.seated:
            self._seat()
        items = [*self._legs(), *self._trunk(), *self._arms(), *self._bags()]
        for _, paint in sorted(items, key=lambda item: item[0]):
            paint()
        joints = np.stack([self._at(p) for p in self.rig.joints])
        # Multiples of 1/64 px are exact in float32 and in JSON, and stable under floor.
        keypoints = np.floor(np.concatenate([self.head.keypoints, joints]) * 64) / 64
        feet = self._at(np.concatenate([self.rig.ankles, self.rig.toes]).mean(0))
        layer = self.canvas.layer(float(self.origin[1]), (float(feet[0]), SHADOW * self.unit))
        return Figure(layer, keypoints.astype(np.float32), self._open(keypoints))

    def _at(self, point: Vectors) -> Vectors:
        """Convert a point of the view frame to px (2,) of the image."""
        return np.asarray(self.origin + point[:2] * self.unit)

    def _tube(
        self, start: Vectors, end: Vectors, radii: tuple[float, ...], part: Part,
        material: Material, *, cap: float = 1.0, joined: tuple[Part, ...] = (),
    ) -> None:  # fmt: skip
        """Draw `Canvas.tube` with ends in the view frame and radii in units of the height."""
        ends, thick = (self._at(start), self._at(end)), [r * self.unit for r in radii]
        self.canvas.tube(ends, thick, part, material, cap=cap, joined=joined)

    def _limb(
        self, start: Vectors, end: Vectors, radii: tuple[float, ...], part: Part,
        material: Material, *, cap: float = 1.0, joined: tuple[Part, ...] = (),
    ) -> None:  # fmt: skip
        """Draw `_tube` with the thickness of this person."""
        thick = tuple(r * self.rig.body.bulk for r in radii)
        self._tube(start, end, thick, part, material, cap=cap, joined=joined)

    def _open(self, keypoints: Vectors) -> npt.NDArray[np.bool_]:
        shown = [self.canvas.part_at(k) for k in keypoints]
        is_open = np.array([p in parts for p, parts in zip(shown, KEYPOINT_PARTS, strict=True)])
        is_open[:5] &= self.head.facing
        for first, pair in ((5, self.rig.shoulders), (11, self.rig.hips)):
            half = np.linalg.norm(pair[0] - pair[1]) / 2
            far = pair[:, 2] - pair[:, 2].mean() < -FAR_SIDE * half
            is_open[first : first + 2] &= ~(far & np.isin(shown[first : first + 2], TRUNK))
        return np.asarray(is_open)

    def _trunk_widths(self) -> tuple[float, ...]:
        """Half widths (9) of the trunk in this view, from neck to crotch."""
        body = self.rig.body
        front = TRUNK_FRONT * (body.shoulders + 0.004) * abs(self.rig.left[0])
        side = TRUNK_SIDE * abs(self.rig.left[2])
        return tuple((np.hypot(front, side) * (0.5 + 0.5 * body.bulk)).tolist())

    def _trunk(self) -> list[Item]:
        rig, look, depth = self.rig, self.look, self.trunk_depth
        widths, up = self._trunk_widths(), rig.neck - rig.pelvis
        skirt = look.bottom_style == 'skirt'
        tucked = look.tucked and not skirt

        def torso() -> None:
            hem = rig.pelvis + (0.14 * up if look.tucked else 0)
            wide = widths[:7] if look.tucked else widths
            self._tube(rig.neck, hem, wide, Part.TORSO, look.top, cap=3)

        def pelvis() -> None:
            waist, wide, hem = rig.pelvis + 0.25 * up, widths[5:], rig.pelvis + drop(0.024)
            if skirt and not rig.pose.seated:
                wide, hem = (*wide, *(f * wide[-1] for f in (1.15, 1.3, 1.42))), hem + drop(0.17)
            self._tube(waist, hem, wide, Part.PELVIS, look.bottom, cap=4, joined=LEGS)

        def neck() -> None:
            radii = 0.5 * rig.body.head, 0.47 * rig.body.head
            self._tube(rig.neck + 0.02 * up, rig.head, radii, Part.NECK, look.skin)

        items = [
            (depth - 0.02, pelvis),
            (depth - 0.025 if tucked else depth, torso),
            (depth + 0.004, neck),
            (max(float(rig.head[2]) + 0.02, depth + 0.006), self.head.paint),
        ]
        if look.hair_style == 'long':
            behind = -0.05 if rig.head_axes[2, 2] > 0 else 0.005
            row = float(self._at(rig.shoulders.mean(0))[1])
            items.append((depth + behind, lambda: self.head.paint_back_hair(row)))
        return items

    def _legs(self) -> list[Item]:
        return [item for side in (0, 1) for item in self._leg(side)]

    def _leg(self, side: int) -> list[Item]:
        rig, look, seated = self.rig, self.look, self.rig.pose.seated
        hip, knee, ankle, toe = (p[side] for p in (rig.hips, rig.knees, rig.ankles, rig.toes))
        thigh_part, shin_part = Part.THIGH_LEFT.of_side(side), Part.SHIN_LEFT.of_side(side)
        trousers = look.bottom_style == 'trousers'
        surface = look.bottom if trousers else look.skin

        def thigh() -> None:
            joined = Part.PELVIS, thigh_part, shin_part
            self._limb(hip, knee, (0.044, 0.05, 0.039), thigh_part, surface, joined=joined)
            if look.bottom_style == 'shorts' or (seated and not trousers):
                hem, radii = hip + 0.7 * (knee - hip), (0.046, 0.053)
                self._limb(hip, hem, radii, thigh_part, look.bottom, cap=4, joined=joined)

        def shin() -> None:
            radii = (0.04, 0.04, 0.036, 0.033) if trousers else (0.037, 0.04, 0.031, 0.023)
            self._limb(knee, ankle, radii, shin_part, surface, joined=(thigh_part,))

        def foot() -> None:
            part = Part.FOOT_LEFT.of_side(side)
            self._tube(ankle + drop(0.008), toe, (0.029, 0.027, 0.023), part, look.shoes)

        # Clothes cover a standing leg; the leg of a seated person can cover the clothes.
        bias = 0.0 if seated else -0.06
        limit = self.trunk_depth + (1 if seated else -0.035)
        thigh_depth = min((hip[2] + knee[2]) / 2 + bias, limit)
        shin_depth = min((knee[2] + ankle[2]) / 2 + bias, limit + 0.001)
        return [(thigh_depth, thigh), (shin_depth, shin), (shin_depth - 0.001, foot)]

    def _arms(self) -> list[Item]:
        return [item for side in (0, 1) for item in self._arm(side)]

    def _arm(self, side: int) -> list[Item]:
        rig, look = self.rig, self.look
        shoulder, elbow, wrist = (p[side] for p in (rig.shoulders, rig.elbows, rig.wrists))
        tips = wrist + (wrist - elbow) * 0.31
        upper_part, fore_part, hand_part = (
            part.of_side(side) for part in (Part.UPPER_ARM_LEFT, Part.FOREARM_LEFT, Part.HAND_LEFT)
        )
        long = look.sleeves == 'long'
        surface = look.top if long else look.skin

        def upper() -> None:
            radii, joined = (0.034, 0.03, 0.025), (fore_part,)
            self._limb(shoulder, elbow, radii, upper_part, surface, joined=joined)
            if look.sleeves == 'short':
                hem, radii = shoulder + 0.55 * (elbow - shoulder), (0.037, 0.036, 0.035)
                self._limb(shoulder, hem, radii, upper_part, look.top, cap=1.4, joined=joined)

        def fore() -> None:
            radii = (0.026, 0.025, 0.021) if long else (0.025, 0.024, 0.017)
            self._limb(elbow, wrist, radii, fore_part, surface, joined=(upper_part, hand_part))

        def hand() -> None:
            radii, joined = (0.018, 0.023, 0.016), (fore_part,)
            self._tube(wrist, tips, radii, hand_part, look.skin, joined=joined)

        near = 0.025
        upper_depth = float(shoulder[2] + elbow[2]) / 2 + near
        fore_depth = float(elbow[2] + wrist[2]) / 2 + near
        return [(upper_depth, upper), (fore_depth, fore), (fore_depth - 0.001, hand)]

    def _bags(self) -> list[Item]:
        rig, look = self.rig, self.look
        side, cloth = look.bag_side, look.bag_material
        strap = replace(cloth, color=tuple(0.7 * c for c in cloth.color))  # type: ignore[arg-type]
        if look.bag == 'backpack':
            return self._backpack(strap)
        if look.bag == 'handbag':
            grip = rig.wrists[side] + drop(0.05)

            def handbag() -> None:
                self._tube(rig.wrists[side], grip, (0.008, 0.008), Part.BAG, strap)
                self._tube(grip, grip + drop(0.085), (0.05, 0.06, 0.064), Part.BAG, cloth, cap=3)

            hangs = rig.wrists[side, 1] > rig.elbows[side, 1] + 0.08
            return [(float(grip[2]) + 0.02, handbag)] if hangs else []
        if look.bag == 'satchel':
            place = rig.hips[side] + (rig.hips[side] - rig.pelvis) * 0.9
            across = rig.shoulders[1 - side]

            def satchel() -> None:
                self._tube(across + rig.front * 0.03, place, (0.007, 0.007), Part.BAG, strap)
                self._tube(place, place + drop(0.08), (0.05, 0.054), Part.BAG, cloth, cap=3)

            near = place[2] >= rig.pelvis[2] - 0.03
            return [(self.trunk_depth + (0.01 if near else -0.04), satchel)]
        return []

    def _backpack(self, strap: Material) -> list[Item]:
        rig, cloth = self.rig, self.look.bag_material
        top = rig.neck + drop(0.035) - rig.front * 0.085
        width = float(np.hypot(0.085 * rig.left[0], 0.055 * rig.left[2]))
        depth = self.trunk_depth + (0.035 if rig.front[2] < 0 else -0.04)

        def pack() -> None:
            self._tube(
                top, top + drop(0.22), (0.85 * width, width, width), Part.BAG, cloth, cap=2.5
            )

        def straps() -> None:
            for shoulder in rig.shoulders:
                start = rig.neck + 0.62 * (shoulder - rig.neck) + rig.front * 0.03
                self._tube(start, start + drop(0.16), (0.011, 0.01), Part.BAG, strap)

        worn: list[Item] = [(depth, pack)]
        if rig.front[2] > 0.5:
            worn.append((self.trunk_depth + 0.003, straps))
        return worn

    def _seat(self) -> None:
        seat = self._at(self.rig.pelvis + drop(0.05))
        half, rim = 0.13 * self.unit, 0.035 * self.unit
        floor = float(self.origin[1]) - 0.02 * self.unit
        x, y = seat.tolist()
        wood = Material((150, 112, 74), (120, 84, 52), 'lines', 0.03)
        legs = [(x - 0.8 * half, y), (x + 0.8 * half, y)]
        for column, row in legs:
            self.canvas.tube(
                ((column, row), (column, floor)), (0.02 * self.unit,) * 2, Part.PROP, wood, cap=4
            )
        self.canvas.tube(((x - half, y), (x + half, y)), (rim, rim), Part.PROP, wood, cap=3)
