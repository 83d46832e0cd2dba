"""Cameras: pixels to metres and back, readers, warnings and cameras from people."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.crowd.camera import (
    Camera,
    CameraError,
    _upright_camera,
    camera_from_people,
    check_camera,
    load_camera,
    load_points,
)

SHAPE = (480, 640)
# Focal length 700 px, 0.25 rad down, 5 m above the ground.
VIEW = _upright_camera(np.array([np.log(700), 0.25, np.log(5), 0]), SHAPE)
GRID = np.stack(np.meshgrid(np.linspace(-4, 4, 5), np.linspace(9, 25, 5)), axis=-1).reshape(-1, 2)
TSAI = """<Camera><Geometry dpx="5.127e-03" dpy="4.65e-03"/>
<Intrinsic focal="5.555" kappa1="5.111e-03" cx="324.2" cy="282.6" sx="1.0938"/>
<Extrinsic tx="829" ty="-3175" tz="35469" rx="2.0405" ry="-0.8934" rz="-0.4306"/></Camera>"""


def heads_over(camera: Camera, metres: np.ndarray, height: float) -> np.ndarray:
    return camera.to_pixels(np.column_stack([metres, np.full(len(metres), height)]))


def write(path: Path, **content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_pixels_to_metres_and_back(tmp_path: Path) -> None:
    distorted = Camera.from_projection(
        VIEW.intrinsics, np.linalg.inv(VIEW.intrinsics) @ VIEW.projection[:, :3],
        np.linalg.inv(VIEW.intrinsics) @ VIEW.projection[:, 3], distortion=(-0.1, 0.01, 0, 0),
    )  # fmt: skip
    path = tmp_path / 'tsai.xml'
    path.write_text(TSAI)
    for camera in (VIEW, Camera(VIEW.homography), distorted, load_camera(path)):
        pixels = camera.to_pixels(GRID)
        assert camera.to_metres(pixels) == pytest.approx(GRID, abs=0.01)
        assert not camera.mirrored
        if camera.projection is not None:
            heads = heads_over(camera, GRID, 1.7)
            assert camera.measure_heights(pixels, heads) == pytest.approx(1.7, abs=0.01)
            assert camera.ground_below(heads, 1.7) == pytest.approx(GRID, abs=0.01)
    assert np.isnan(VIEW.to_metres(np.array([(320, 5)]))).all(), 'above the horizon'


def test_files_state_direction_axis_order_and_unit(tmp_path: Path) -> None:
    pixels = VIEW.to_pixels(GRID)
    plain = VIEW.homography
    swapped = plain[:, [1, 0, 2]]
    to_cm = np.diag([100, 100, 1]) @ plain
    files = {
        'plain': (plain, 'image_to_ground', 'xy', 'm'),
        'rows': (swapped, 'image_to_ground', 'row_column', 'm'),
        'inverse': (np.linalg.inv(swapped), 'ground_to_image', 'row_column', 'm'),
        'cm': (to_cm, 'image_to_ground', 'xy', 'cm'),
    }
    for name, (matrix, direction, order, unit) in files.items():
        path = write(tmp_path / f'{name}.json', homography=matrix.tolist(), direction=direction,
                     axis_order=order, unit=unit)  # fmt: skip
        assert load_camera(path).to_metres(pixels) == pytest.approx(GRID, abs=1e-6), name
    k = VIEW.intrinsics
    pose = np.linalg.inv(k) @ VIEW.projection * 1000
    path = write(tmp_path / 'mm.json', intrinsics=k.tolist(), unit='mm',
                 rotation=(pose[:, :3] / 1000).tolist(),
                 translation=pose[:, 3].tolist())  # fmt: skip
    assert load_camera(path).to_metres(pixels) == pytest.approx(GRID, abs=1e-6)


GOOD = {'homography': np.eye(3).tolist(), 'direction': 'image_to_ground', 'axis_order': 'xy',
        'unit': 'm'}  # fmt: skip
WRONG = {
    'singular': ({**GOOD, 'homography': np.ones((3, 3)).tolist()}, 'is singular'),
    'zeros': ({**GOOD, 'homography': np.zeros((3, 3)).tolist()}, 'is singular'),
    'singular inverse': (
        {**GOOD, 'homography': np.ones((3, 3)).tolist(), 'direction': 'ground_to_image'},
        'is singular',
    ),
    'NaN': ({**GOOD, 'homography': [[float('nan')] * 3] * 3}, 'is singular'),
    'shape': ({**GOOD, 'homography': [1, 2]}, '3 x 3'),
    'text': ({**GOOD, 'homography': 'H.txt'}, 'not a camera'),
    'direction': ({**GOOD, 'direction': 'left'}, 'direction must be image_to_ground or'),
    'axis order': ({**GOOD, 'axis_order': None}, 'axis_order must be xy or row_column'),
    'unit': ({**GOOD, 'unit': 'feet'}, "unit must be one of m, cm, mm, got 'feet'"),
    'rotation': (
        {'intrinsics': np.eye(3).tolist(), 'rotation': np.ones((3, 3)).tolist(),
         'translation': [0, 0, 1], 'unit': 'm'},
        'orthonormal',
    ),
    'camera in the ground': (
        {'intrinsics': np.eye(3).tolist(), 'rotation': [0, 0, 0], 'translation': [0, 0, 0],
         'unit': 'm'},
        'is singular',
    ),
    'no keys': ({'unit': 'm'}, "KeyError('translation')"),
    'list': ([1], 'JSON object'),
}  # fmt: skip


@pytest.mark.parametrize('name', WRONG)
def test_wrong_cameras_are_named(name: str, tmp_path: Path) -> None:
    content, message = WRONG[name]
    path = tmp_path / 'camera.json'
    path.write_text(json.dumps(content))
    with pytest.raises(CameraError) as error:
        load_camera(path)
    assert message in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('H.txt', '1 0 0\n0 1 0\n0 0 1\n', 'a bare matrix does not say its direction'),
        ('camera.xml', '<Camera/>', "KeyError('dpx')"),
        ('camera.xml', 'no', 'not a camera'),
        ('camera.json', '{', 'not a JSON file'),
    ],
)
def test_files_that_are_no_camera(name: str, text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        load_camera(path)
    assert message in str(error.value)


def test_point_pairs_print_residuals_and_leave_out_a_wrong_one(tmp_path: Path) -> None:
    pixels, metres = VIEW.to_pixels(GRID), GRID.copy()
    metres[3] += 5
    rows = [f'{x},{y},{a},{b}' for (x, y), (a, b) in zip(pixels, metres, strict=True)]
    path = tmp_path / 'pairs.csv'
    path.write_text('\n'.join(['x_px,y_px,x_m,y_m', *rows]))
    camera = load_points(path)
    assert camera.to_metres(pixels) == pytest.approx(GRID, abs=0.01)
    assert '24 of 25 pairs used' in camera.notes[0] and 'left out: rows 4' in camera.notes[0]
    path.write_text('\n'.join(['x_px,y_px,x_m,y_m', *rows[:3]]))
    with pytest.raises(CameraError, match='4 or more pairs'):
        load_points(path)
    path.write_text('x,y\n1,2\n')
    with pytest.raises(CameraError, match='the columns are x_px, y_px, x_m, y_m'):
        load_points(path)
    path.write_text('\n'.join(['x_px,y_px,x_m,y_m', *(f'{i},{i},{i},{i}' for i in range(6))]))
    with pytest.raises(CameraError, match=r'singular|one line'):
        load_points(path)


def test_a_homography_of_an_upright_image_also_knows_heights() -> None:
    camera = Camera(VIEW.homography)
    assert np.isnan(camera.measure_heights(GRID, GRID)).all()
    full = camera.complete(SHAPE)
    heights = full.measure_heights(VIEW.to_pixels(GRID), heads_over(VIEW, GRID, 1.7))
    assert heights == pytest.approx(1.7, abs=0.02)


def test_metres_that_cannot_be_right_are_named() -> None:
    pixels, faces = VIEW.to_pixels(GRID), heads_over(VIEW, GRID, 1.7 * 0.93)
    walking, none = np.full(20, 1.3), np.zeros(0)
    assert check_camera(VIEW, pixels, faces, walking, SHAPE) == []
    assert check_camera(Camera(VIEW.homography), pixels, faces, none, SHAPE) == []
    feet = Camera(np.diag([3.28, 3.28, 1]) @ VIEW.homography)
    (text,) = check_camera(feet, pixels, faces, walking, SHAPE)
    assert 'people are 5.58 m tall' in text and 'unit' in text
    (text,) = check_camera(VIEW, pixels, faces, walking * 5, SHAPE)
    assert '6.5 m/s' in text and 'frame rate' in text
    swapped = Camera(VIEW.homography[:, [1, 0, 2]])
    assert 'mirrored' in check_camera(swapped, pixels, faces, walking, SHAPE)[0]
    texts = check_camera(VIEW, np.array([(320.0, 5.0)]), np.array([(320.0, 1.0)]), none, SHAPE)
    assert 'above the horizon' in texts[0]


def test_a_camera_from_people_says_how_wrong_it_may_be() -> None:
    rng = np.random.default_rng(0)
    metres = rng.uniform((-5, 8), (5, 30), (40, 2))
    ground = VIEW.to_pixels(metres)
    heights = rng.normal(1.7, 0.07, (40, 1))
    faces = VIEW.to_pixels(np.hstack([metres, 0.93 * heights]))
    camera = camera_from_people(ground, faces, SHAPE)
    first, second = rng.integers(40, size=(2, 200))
    true = np.linalg.norm(metres[first] - metres[second], axis=1)
    found = camera.to_metres(ground)
    ratio = np.median(
        np.linalg.norm(found[first] - found[second], axis=1)[true > 1] / true[true > 1]
    )
    assert camera.approximate and 0.03 < camera.spread < 0.6
    assert abs(np.median(ratio) - 1) < 2 * camera.spread
    assert f'{camera.spread:.0%}' in camera.notes[0]
    with pytest.raises(CameraError, match=r'needs 5 people .* got 4'):
        camera_from_people(ground[:4], faces[:4], SHAPE)
