"""Cameras: pixels of the upright image to metres on the ground, and back.

World axes: x and y on the ground, z up, metres. A camera is a homography, which knows the ground
alone, or a projection, which also knows heights. Nothing here guesses a metre.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import numpy.typing as npt

from ..io.coco_checks import DAMAGE, read_json
from ..io.images import InputError
from ..values import in_line, shorten

Doubles = npt.NDArray[np.float64]
UNITS = {'m': 1.0, 'cm': 0.01, 'mm': 0.001}
DIRECTIONS = ('image_to_ground', 'ground_to_image')
AXIS_ORDERS = ('xy', 'row_column')
FACE_HEIGHT = 0.93  # of the face's keypoints, relative to the height; Drillis and Contini 1966
HEIGHTS_M = (1.2, 2.3)
MAX_SPEED = 4.0  # m/s


class CameraError(ValueError):
    """A camera or point pairs that cannot be used."""


@dataclass(frozen=True, eq=False)
class Camera:
    """Map between the image and the ground.

    Attributes:
        homography: (3, 3) from undistorted px (x, y, 1) to ground m.
        projection: (3, 4) from world m to undistorted px; None for a homography alone.
        intrinsics: (3, 3) of the distortion.
        distortion: OpenCV coefficients.
        kappa: radial distortion of Tsai, per squared px of each axis; 0: none.
        description: where the camera comes from.
        spread: relative standard deviation of distances; None for a calibrated camera.
        notes: remarks on the quality, such as residuals.
    """

    homography: Doubles
    projection: Doubles | None = None
    intrinsics: Doubles | None = None
    distortion: tuple[float, ...] = ()
    kappa: tuple[float, float] = (0.0, 0.0)
    description: str = 'homography'
    spread: float | None = None
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        matrix = np.asarray(self.homography, np.float64)
        corners = np.array([(0, 0), (1000, 0), (0, 1000), (900, 1100)], np.float64)
        with np.errstate(all='ignore'):
            good = matrix.shape == (3, 3) and bool(np.isfinite(matrix).all())
            good = good and abs(np.linalg.det(matrix / np.abs(matrix).max())) > 1e-15
            if good:
                there = _transform(matrix, corners)[0]
                back = _transform(_invert(matrix), there)[0]
                good = bool((np.abs(back - corners) < 1).all())
        if not good:
            raise CameraError(
                f'the homography {matrix.tolist()} is singular: it maps the image to a line or a '
                'point; check its numbers, or measure it again from 4 or more points that are not '
                'on one line'
            )

    @property
    def approximate(self) -> bool:
        """Whether metres rest on an assumption."""
        return self.spread is not None

    @classmethod
    def from_projection(
        cls,
        intrinsics: npt.ArrayLike,
        rotation: npt.ArrayLike,
        translation: npt.ArrayLike,
        **options: Any,
    ) -> Camera:
        """Camera of OpenCV: world to camera by ``rotation`` (3, 3) or (3,), ``translation`` m."""
        k = np.asarray(intrinsics, np.float64)
        r = np.asarray(rotation, np.float64)
        r = np.asarray(cv2.Rodrigues(r)[0] if r.size == 3 else r, np.float64)
        if k.shape != (3, 3) or r.shape != (3, 3) or np.abs(r @ r.T - np.eye(3)).max() > 1e-3:
            raise CameraError(
                'intrinsics must be 3 x 3, and rotation 3 x 3 and orthonormal, or 3 numbers '
                f'(Rodrigues); got {k.tolist()} and {r.tolist()}'
            )
        t = np.asarray(translation, np.float64).reshape(3, 1)
        projection = k @ np.hstack([r, t])
        with np.errstate(all='ignore'):
            ground = projection[:, [0, 1, 3]]
            good = abs(np.linalg.det(ground / np.abs(ground).max())) > 1e-15
        homography = _invert(ground) if good else np.zeros((3, 3))
        return cls(homography, projection, k, **options)

    @classmethod
    def from_points(
        cls, pixels: npt.ArrayLike, metres: npt.ArrayLike, max_residual_m: float | None = 0.5
    ) -> Camera:
        """Homography of point pairs (N, 2) px and (N, 2) m, N >= 4.

        Args:
            pixels: points in the image.
            metres: the same points on the ground.
            max_residual_m: RANSAC leaves out pairs that are farther off; None uses all pairs.
        """
        px, m = (np.asarray(p, np.float64).reshape(-1, 2) for p in (pixels, metres))
        if len(px) != len(m) or len(px) < 4 or not np.isfinite([px, m]).all():
            raise CameraError(
                f'a homography needs 4 or more pairs of finite points; got {len(px)} and {len(m)}'
            )
        cv2.setRNGSeed(0)
        method, limit = (0, 0.0) if max_residual_m is None else (cv2.RANSAC, max_residual_m)
        matrix, used = cv2.findHomography(px, m, method, limit)
        if matrix is None:
            raise CameraError('no homography fits the point pairs; are they on one line?')
        camera = cls(np.asarray(matrix, np.float64), description=f'{len(px)} point pairs')
        kept = np.asarray(used).ravel() > 0
        errors = np.linalg.norm(camera.to_metres(px) - m, axis=1)
        back = np.linalg.norm(camera.to_pixels(m) - px, axis=1)
        left_out = np.flatnonzero(~kept) + 1
        note = (
            f'{kept.sum()} of {len(px)} pairs used; residuals of these: median '
            f'{np.median(errors[kept]):.3f} m, largest {errors[kept].max():.3f} m, median '
            f'{np.median(back[kept]):.2f} px'
        )
        if len(left_out):
            note += f'; left out: rows {", ".join(map(str, left_out.tolist()))}'
        return replace(camera, notes=(note,))

    def to_metres(self, pixels: npt.ArrayLike) -> Doubles:
        """Points (N, 2) m on the ground; NaN for points above the horizon."""
        points = self._undistort(np.asarray(pixels, np.float64).reshape(-1, 2))
        metres, weights = _transform(self.homography, points)
        return np.where((weights * self._side > 0)[:, None], metres, np.nan)

    def to_pixels(self, metres: npt.ArrayLike) -> Doubles:
        """Pixels (N, 2) of points (N, 2) or (N, 3) m; NaN for points behind the camera."""
        points = np.asarray(metres, np.float64)
        if points.shape[-1] == 3:
            if self.projection is None:
                raise CameraError('a homography knows the ground alone; give a projection')
            ideal, weights = _transform(self.projection, points.reshape(-1, 3))
            front = weights * np.sign(np.linalg.det(self.projection[:, :3])) > 0
            ideal = np.where(front[:, None], ideal, np.nan)
        else:
            inverse = _invert(self.homography)
            ideal, _ = _transform(inverse, points.reshape(-1, 2))
            _, weights = _transform(self.homography, ideal)
            ideal = np.where((weights * self._side > 0)[:, None], ideal, np.nan)
        return self._distort(ideal)

    def measure_heights(self, ground_px: Doubles, top_px: Doubles) -> Doubles:
        """Heights (N,) m of points above ground points; NaN for a homography alone."""
        if self.projection is None:
            return np.full(len(ground_px), np.nan)
        ground = np.hstack([self.to_metres(ground_px), np.tile([0.0, 1.0], (len(ground_px), 1))])
        top = self._undistort(np.asarray(top_px, np.float64))
        base, up = ground @ self.projection.T, self.projection[:, 2]
        # (base + z * up) is parallel to (x, y, 1): two equations, one unknown.
        a = up[None, :2] - top * up[2]
        b = top * base[:, 2:] - base[:, :2]
        return np.asarray((a * b).sum(1) / (a * a).sum(1))

    def ground_below(self, points_px: Doubles, height_m: float) -> Doubles:
        """Ground points (N, 2) m below points at ``height_m``; NaN for a homography alone."""
        if self.projection is None:
            return np.full((len(points_px), 2), np.nan)
        plane = self.projection[:, [0, 1, 3]].copy()
        plane[:, 2] += height_m * self.projection[:, 2]
        metres, _ = _transform(_invert(plane), self._undistort(points_px))
        return metres

    def complete(self, shape: tuple[int, int]) -> Camera:
        """The same camera with a projection, if it can be found.

        A homography of square pixels with the principal point in the middle of the image (H, W)
        determines the focal length, unless the camera looks straight down.
        """
        if self.projection is not None:
            return self
        height, width = shape
        shift = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
        g = shift @ np.linalg.inv(self.homography)
        x, y = g[:, 0], g[:, 1]
        options = [-(x[0] * y[0] + x[1] * y[1]) / (x[2] * y[2] or np.nan)]
        options.append(
            ((y[:2] ** 2).sum() - (x[:2] ** 2).sum()) / ((x[2] ** 2 - y[2] ** 2) or np.nan)
        )
        longest = max(shape)
        for squared in options:
            if (0.3 * longest) ** 2 < squared < (10 * longest) ** 2:
                inverse = np.diag([1 / np.sqrt(squared), 1 / np.sqrt(squared), 1])
                r1, r2, t = (inverse @ g).T
                scale = np.sqrt(np.linalg.norm(r1) * np.linalg.norm(r2))
                scale *= np.sign(t[2] or 1)
                up = np.cross(r1 / scale, r2 / scale)
                matrix = np.stack([r1 / scale, r2 / scale, up, t / scale], axis=1)
                projection = np.linalg.inv(shift) @ np.linalg.inv(inverse) @ matrix
                return replace(self, projection=projection)
        return self

    @property
    def mirrored(self) -> bool:
        """Whether the plan shows the ground as in a mirror, so that left and right are swapped."""
        if self.projection is not None and self.intrinsics is not None:
            return bool(np.linalg.det(self.projection[:, :3]) < 0)
        # Seen from above, y of the image grows down and y of the ground away from the viewer.
        x, y = _transform(_invert(self.homography), np.zeros((1, 2)))[0][0]
        a, b, c = _transform(self.homography, np.array([(x, y), (x + 1, y), (x, y + 1)]))[0]
        return bool(np.linalg.det([b - a, c - a]) > 0)

    @property
    def _side(self) -> float:
        """Sign of the homogeneous weight of pixels below the horizon."""
        return float(np.sign(self.homography[2] @ (0, 1e5, 1)) or 1)

    def _undistort(self, points: Doubles) -> Doubles:
        if any(self.kappa):
            center = self._center
            return center + (points - center) * (1 + self._radius(points))[:, None]
        if any(self.distortion) and len(points) and self.intrinsics is not None:
            k = self.intrinsics
            ideal = cv2.undistortPoints(points[:, None], k, np.array(self.distortion), P=k)
            return np.asarray(ideal, np.float64).reshape(-1, 2)
        return points

    def _distort(self, points: Doubles) -> Doubles:
        if any(self.kappa):
            center, real = self._center, points.copy()
            for _ in range(30):
                real = center + (points - center) / (1 + self._radius(real))[:, None]
            return real
        if any(self.distortion) and len(points) and self.intrinsics is not None:
            k = self.intrinsics
            rays = np.hstack([points, np.ones((len(points), 1))]) @ np.linalg.inv(k).T
            none = np.zeros(3)
            pixels, _ = cv2.projectPoints(rays, none, none, k, np.array(self.distortion))
            return np.asarray(pixels, np.float64).reshape(-1, 2)
        return points

    @property
    def _center(self) -> Doubles:
        assert self.intrinsics is not None
        return self.intrinsics[:2, 2]

    def _radius(self, points: Doubles) -> Doubles:
        return np.asarray(((points - self._center) ** 2 * self.kappa).sum(1))


def load_camera(path: Path) -> Camera:
    """Read a camera from JSON, or from the XML of a Tsai calibration as of PETS 2009.

    JSON with a homography states its direction and axis order::

        {"homography": [[...], [...], [...]], "direction": "image_to_ground",
         "axis_order": "xy", "unit": "m"}

    JSON with a projection is that of OpenCV, world to camera::

        {"intrinsics": [[...], [...], [...]], "rotation": [...], "translation": [...],
         "distortion": [], "unit": "m"}

    Raises:
        CameraError: The file is no camera.
    """
    try:
        if path.suffix.lower() == '.xml':
            return _tsai_camera(ElementTree.fromstring(path.read_bytes()), str(path))
        if path.suffix.lower() != '.json':
            raise CameraError(
                'a bare matrix does not say its direction and axis order; write JSON with '
                f'homography, direction ({" or ".join(DIRECTIONS)}), axis_order '
                f'({" or ".join(AXIS_ORDERS)}) and unit'
            )
        content = read_json(path)
        if not isinstance(content, dict):
            raise CameraError('a camera is a JSON object')
        return _json_camera(content, str(path))
    except CameraError as error:
        raise CameraError(f'{path}: {error}') from error
    except InputError:
        raise
    except (ElementTree.ParseError, cv2.error, *DAMAGE) as error:
        raise CameraError(
            f'{path}: not a camera: {in_line(repr(error))}; see docs/user_guide/crowd.md'
        ) from error


def _json_camera(content: Mapping[str, Any], name: str) -> Camera:
    unit = content.get('unit')
    if unit not in UNITS:
        raise CameraError(f'unit must be one of {", ".join(UNITS)}, got {shorten(unit)}')
    scale = UNITS[unit]
    if 'homography' not in content:
        translation = np.asarray(content['translation'], np.float64) * scale
        return Camera.from_projection(
            content['intrinsics'], content['rotation'], translation,
            distortion=tuple(content.get('distortion', ())), description=name,
        )  # fmt: skip
    for key, allowed in (('direction', DIRECTIONS), ('axis_order', AXIS_ORDERS)):
        if content.get(key) not in allowed:
            raise CameraError(
                f'{key} must be {" or ".join(allowed)}, got {shorten(content.get(key))}'
            )
    matrix = np.asarray(content['homography'], np.float64)
    if matrix.shape != (3, 3):
        raise CameraError(f'a homography has 3 x 3 numbers, got shape {matrix.shape}')
    if content['direction'] == 'ground_to_image':
        with np.errstate(all='ignore'):
            regular = abs(np.linalg.det(matrix)) > 0
        matrix = _invert(matrix) if regular else np.zeros((3, 3))
    if content['axis_order'] == 'row_column':
        matrix = matrix[:, [1, 0, 2]]
    return Camera(np.diag([scale, scale, 1.0]) @ matrix, description=name)


def _tsai_camera(root: ElementTree.Element, name: str) -> Camera:
    """Camera of Tsai's model; lengths of the file are mm."""
    rows = {part: root.find(part) for part in ('Geometry', 'Intrinsic', 'Extrinsic')}
    values = {
        key: float(text)
        for row in rows.values() if row is not None for key, text in row.items()
    }  # fmt: skip
    dx, dy = values['dpx'] / values['sx'], values['dpy']
    k = np.array([
        [values['focal'] / dx, 0, values['cx']], [0, values['focal'] / dy, values['cy']], [0, 0, 1],
    ])  # fmt: skip
    turns = [
        np.asarray(cv2.Rodrigues(np.eye(3)[axis] * values[f'r{"xyz"[axis]}'])[0])
        for axis in (2, 1, 0)
    ]
    translation = np.array([values['tx'], values['ty'], values['tz']]) * UNITS['mm']
    kappa = values['kappa1'] * dx**2, values['kappa1'] * dy**2
    rotation = turns[0] @ turns[1] @ turns[2]
    return Camera.from_projection(k, rotation, translation, kappa=kappa, description=name)


def load_points(path: Path, max_residual_m: float | None = 0.5) -> Camera:
    """Camera from a CSV file with the columns x_px, y_px, x_m, y_m; see `Camera.from_points`."""
    try:
        with path.open(encoding='utf-8-sig', errors='replace', newline='') as stream:
            rows = list(csv.DictReader(stream))
        table = np.array(
            [[float(row[c]) for c in ('x_px', 'y_px', 'x_m', 'y_m')] for row in rows]
        ).reshape(-1, 4)
        return Camera.from_points(table[:, :2], table[:, 2:], max_residual_m)
    except (cv2.error, csv.Error, *DAMAGE) as error:
        known = isinstance(error, CameraError)
        reason = error if known else f'a column or number is wrong: {in_line(error)}'
        raise CameraError(f'{path}: {reason}; the columns are x_px, y_px, x_m, y_m') from error


def check_camera(
    camera: Camera,
    ground_px: Doubles,
    top_px: Doubles,
    speeds: Doubles,
    shape: tuple[int, int] | None,
    part: float = FACE_HEIGHT,
) -> list[str]:
    """Warnings about metres that cannot be right.

    Args:
        camera: camera.
        ground_px: (N, 2) ground points.
        top_px: (N, 2) points above them, at the fraction ``part`` of the height.
        speeds: (M,) m/s.
        shape: (H, W) of the images; None: unknown.
        part: height of ``top_px`` relative to the person.
    """
    found = []
    if camera.mirrored:
        found.append(
            'the plan is mirrored: seen from above, its axes are left-handed. Check axis_order and '
            'direction of the homography; a plan with y down is mirrored on purpose'
        )
    known = np.isfinite(ground_px).all(1)
    beyond = int((known & ~np.isfinite(camera.to_metres(ground_px)).all(1)).sum())
    if beyond:
        found.append(
            f'{beyond} of {known.sum()} ground points lie above the horizon of the camera and get '
            'no metres: is it the camera of these images?'
        )
    if shape is not None and not camera.approximate:
        heights = camera.complete(shape).measure_heights(ground_px, top_px) / part
        heights = heights[np.isfinite(heights)]
        if len(heights) and not HEIGHTS_M[0] <= np.median(heights) <= HEIGHTS_M[1]:
            found.append(
                f'people are {np.median(heights):.2f} m tall (median of {len(heights)}), not '
                f'{HEIGHTS_M[0]} to {HEIGHTS_M[1]} m: unit, axis order or direction is wrong, or '
                'the camera is that of other images'
            )
    speeds = speeds[np.isfinite(speeds)]
    if len(speeds) and np.quantile(speeds, 0.95) > MAX_SPEED:
        found.append(
            f'5 % of the speeds are above {np.quantile(speeds, 0.95):.1f} m/s (people walk below '
            f'{MAX_SPEED:g}): frame rate, unit or camera is wrong, or tracks jump'
        )
    return found


def camera_from_people(
    ground_px: Doubles,
    top_px: Doubles,
    shape: tuple[int, int],
    height_m: float = 1.7,
    part: float = FACE_HEIGHT,
    resamples: int = 20,
) -> Camera:
    """Approximate camera from upright people of about one height on one ground plane.

    The camera has no roll, square pixels and its principal point in the middle; focal length, tilt
    and height are fitted. Its spread is that of resampled people and of the heights of adults.

    Args:
        ground_px: (N, 2) ground points, NaN where unknown.
        top_px: (N, 2) points at the fraction ``part`` of the height.
        shape: (H, W) of the image.
        height_m: assumed mean height.
        part: height of ``top_px`` relative to the person.
        resamples: of the bootstrap.

    Raises:
        CameraError: There are fewer than 5 people with both points.
    """
    known = np.isfinite(ground_px).all(1) & np.isfinite(top_px).all(1)
    known &= top_px[:, 1] < ground_px[:, 1]
    if known.sum() < 5:
        raise CameraError(
            f'a camera from people needs 5 people with visible head and ground point, got '
            f'{known.sum()}; give --camera or --points'
        )
    ground, top = ground_px[known], top_px[known]
    fit = _fit_people(ground, top, shape, part * height_m)
    rng = np.random.default_rng(0)
    middle = np.median(ground, axis=0)
    step = 0.1 * np.array([shape[1], shape[0]])
    ends = middle + np.array([(0, 0), (step[0], 0), (0, step[1])])
    ratios = []
    for _ in range(resamples):
        rows = rng.integers(len(ground), size=len(ground))
        up = part * (height_m + 0.07 * rng.normal())
        focal = FOCAL_SPREAD * rng.normal()
        other = _fit_people(ground[rows], top[rows], shape, up, focal)
        ratios.append([
            np.linalg.norm(np.diff(c.to_metres(ends[[0, k]]), axis=0))
            for k in (1, 2) for c in (other, fit)
        ])  # fmt: skip
    table = np.array(ratios)
    spread = float(np.nanstd(table[:, ::2] / table[:, 1::2], axis=0).max())
    spread = max(spread, MIN_SPREAD)
    note = (
        f'approximate: {known.sum()} people of {height_m:g} m; distances within {spread:.0%} (1 SD)'
    )
    return replace(fit, spread=spread, notes=(note,), description=f'assumed height {height_m:g} m')


# Prior of the focal length: 1.15 of the longer side of the image, with this deviation of the log.
FOCAL, FOCAL_SPREAD = 1.15, 0.3
ROLL_SPREAD = 0.03  # rad
# Resampling misses systematic errors: on PETS, distances were 14 % and 32 % too short.
MIN_SPREAD = 0.3
MAX_EVIDENCE = 20  # people; the errors of more of them are not independent
PERSON_ERROR = 0.05  # of the position of a head, relative to the height of the person


def _fit_people(
    ground: Doubles, top: Doubles, shape: tuple[int, int], up: float, focal: float = 0.0
) -> Camera:
    """Camera for which the tops are ``up`` m above the ground; ``focal`` moves the prior."""
    from scipy.optimize import least_squares

    expected = np.log(FOCAL * max(shape)) + focal
    weight = np.sqrt(min(1, MAX_EVIDENCE / len(ground))) / PERSON_ERROR
    size = ground[:, 1] - top[:, 1]

    def errors(values: Doubles) -> Doubles:
        camera = _upright_camera(values, shape)
        points = np.nan_to_num(camera.to_metres(ground))
        heads = camera.to_pixels(np.hstack([points, np.full((len(ground), 1), up)]))
        # Rows only: the columns of a box or of a leaning person say nothing about the camera.
        apart = np.nan_to_num((heads[:, 1] - top[:, 1]) / size, nan=3.0)
        prior = (values[0] - expected) / FOCAL_SPREAD, values[3] / ROLL_SPREAD
        return np.concatenate([weight * apart, prior])

    low, high = [expected - 1.5, -0.3, -1.2, -0.3], [expected + 1.5, 1.5, 4.6, 0.3]
    fits = [
        least_squares(
            errors, (expected, tilt, 1.2, 0), loss='soft_l1', max_nfev=40, bounds=(low, high)
        )
        for tilt in (0.1, 0.6)
    ]
    return _upright_camera(min(fits, key=lambda f: float(f.cost)).x, shape)


def _upright_camera(values: Doubles, shape: tuple[int, int]) -> Camera:
    """Camera of log focal length px, tilt rad (down), log height m above the origin, roll rad."""
    focal, tilt, height, roll = np.exp(values[0]), values[1], np.exp(values[2]), values[3]
    k = np.array([[focal, 0, shape[1] / 2], [0, focal, shape[0] / 2], [0, 0, 1]])
    s, c = np.sin(tilt), np.cos(tilt)
    # Rows: the axes of the camera (x right, y down, z forward) in the world, y forward and z up.
    rotation = np.array([[1, 0, 0], [0, -s, -c], [0, c, -s]])
    rotation = np.asarray(cv2.Rodrigues(np.array([0, 0, roll]))[0]) @ rotation
    return Camera.from_projection(k, rotation, rotation @ (0, 0, -height))


def _invert(matrix: Doubles) -> Doubles:
    return np.asarray(np.linalg.inv(matrix), np.float64)


def _transform(matrix: Doubles, points: Doubles) -> tuple[Doubles, Doubles]:
    """Points and homogeneous weights after a projective map."""
    homogeneous = np.hstack([points, np.ones((len(points), 1))]) @ matrix.T
    with np.errstate(all='ignore'):
        return homogeneous[:, :-1] / homogeneous[:, -1:], homogeneous[:, -1]
