from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from pipeline.cli import make_synthetic_crowd
from pipeline.synthetic.figure import draw_figure
from pipeline.synthetic.layout import Layout
from pipeline.synthetic.look import sample_look
from pipeline.synthetic.rig import Body, Pose, build_rig
from pipeline.synthetic.scene import Scene, SceneConfig, make_demo_scene, make_scene
from tests.commands import exit_code

ROOT = Path(__file__).resolve().parents[2]
BODY = Body(head=0.073, shoulders=0.1, hips=0.055, legs=0.5, bulk=1.0, child=False)
FIELDS = (
    'image', 'instance_map', 'boxes', 'amodal_boxes', 'keypoints', 'visibility', 'depth_order',
)  # fmt: skip
DIGEST = """
import hashlib
from pipeline.synthetic.scene import SceneConfig, make_scene
scene = make_scene(SceneConfig(width=320, height=240, seed=11))
digest = hashlib.sha256()
for name in ({fields!r}):
    digest.update(getattr(scene, name).tobytes())
print(digest.hexdigest(), len(scene))
"""


@pytest.fixture(scope='module')
def scenes() -> list[Scene]:
    """Spread and dense, small and large, with and without camera noise."""
    sizes = ((640, 480), (320, 240), (200, 400))
    return [
        make_scene(
            SceneConfig(
                width=w, height=h, overlap=(0.0, 0.5, 1.0)[seed % 3], truncation=0.3,
                noise=seed % 2, seed=seed,
            )
        )
        for seed in range(4)
        for w, h in sizes
    ]  # fmt: skip


def stand(yaw: float, *, arms_forward: float = 0.0) -> Pose:
    arm = ((25.0, arms_forward), (25.0, arms_forward + 5.0))
    leg = ((4.0, 0.0), (3.0, 0.0))
    return Pose(yaw, (0.0, 0.0), (0.0, 0.0, 0.0), (arm, arm), (leg, leg), seated=False)


def test_two_processes_draw_the_same_bytes() -> None:
    command = [sys.executable, '-c', DIGEST.format(fields=FIELDS)]
    first, second = (subprocess.check_output(command, cwd=ROOT, text=True) for _ in range(2))
    assert first == second and int(first.split()[1]) > 0


def test_camera_noise_changes_the_image_only_and_the_seed_the_scene() -> None:
    clean, noisy = (make_scene(SceneConfig(seed=3, noise=n)) for n in (0, 2.0))
    for name in FIELDS:
        same = np.array_equal(getattr(clean, name), getattr(noisy, name))
        assert same == (name != 'image'), name
    other = make_scene(SceneConfig(seed=4, noise=0))
    assert not np.array_equal(clean.image, other.image)


def test_shapes_and_dtypes(scenes: list[Scene]) -> None:
    for scene in scenes:
        n, (height, width) = len(scene), scene.instance_map.shape
        shapes = ((height, width, 3), (height, width), (n, 4), (n, 4), (n, 17, 2), (n, 17), (n,))
        assert [getattr(scene, k).shape for k in FIELDS] == [*shapes]
        dtypes = 'uint8 int16 float32 float32 float32 int8 int32'.split()
        assert [getattr(scene, k).dtype.name for k in FIELDS] == dtypes
        assert sorted(scene.depth_order.tolist()) == list(range(n))


def test_masks_are_not_empty_and_disjoint(scenes: list[Scene]) -> None:
    for scene in scenes:
        dense = [scene.mask(i) for i in range(len(scene))]
        assert all(mask.any() for mask in dense)
        assert np.sum(dense, axis=0).max() == 1
        assert np.array_equal(np.any(dense, axis=0), scene.instance_map > 0)
        for i, mask in enumerate(dense):
            assert np.array_equal(scene.masks.dense(i), mask)


def test_boxes_are_tight_and_amodal_boxes_contain_them(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert np.array_equal(scene.boxes, scene.masks.boxes)
        assert (scene.amodal_boxes[:, :2] <= scene.boxes[:, :2]).all()
        assert (scene.amodal_boxes[:, 2:] >= scene.boxes[:, 2:]).all()


def test_visibility_of_keypoints(scenes: list[Scene]) -> None:
    for scene in scenes:
        height, width = scene.instance_map.shape
        x, y = np.floor(scene.keypoints).astype(int).transpose(2, 0, 1)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        assert np.array_equal(scene.visibility == 0, ~inside)
        seen = scene.visibility == 2
        assert np.array_equal(scene.instance_map[y[seen], x[seen]], np.nonzero(seen)[0] + 1)
    assert {0, 1, 2} == {int(v) for scene in scenes for v in scene.visibility.flat}


@pytest.mark.parametrize(
    ('yaw', 'from_front'), [(0.0, True), (30.0, True), (180.0, False), (-150.0, False)]
)
def test_left_and_right_of_the_person(yaw: float, from_front: bool) -> None:
    look = replace(sample_look(np.random.default_rng(5)), hat='none')
    figure = draw_figure(build_rig(BODY, stand(yaw)), look, 100, 300, 280)
    x = figure.keypoints[:, 0]
    assert ((x[5:17:2] > x[6:17:2]) == from_front).all()
    assert (figure.open[:3] == from_front).all()  # nose and eyes


def test_far_side_in_profile_is_hidden() -> None:
    look = replace(sample_look(np.random.default_rng(5)), bag='none', hair_style='short')
    # The person looks to the right of the image, so the right side is the near one.
    figure = draw_figure(build_rig(BODY, stand(90, arms_forward=60)), look, 100, 300, 280)
    assert figure.keypoints[0, 0] > figure.keypoints[4, 0]
    assert figure.open[6] and not figure.open[5]
    assert figure.open[12] and not figure.open[11]


def test_nearer_people_cover_farther_ones() -> None:
    dense = SceneConfig(min_people=8, max_people=8, overlap=1, truncation=0, max_blockers=0, seed=2)
    scene = make_scene(dense)
    order = np.argsort(scene.depth_order)
    assert scene.depth_order[-1] == 0
    # Nothing hides the nearest person: its visible box is its whole box.
    assert np.array_equal(scene.boxes[order[0]], scene.amodal_boxes[order[0]])
    crossings = 0
    for front in range(len(scene)):
        for rear in range(front):
            assert scene.depth_order[front] < scene.depth_order[rear]
            x, y = np.floor(scene.keypoints[rear]).astype(int).T
            hidden = scene.instance_map[y, x] == front + 1
            assert (scene.visibility[rear, hidden] == 1).all()
            crossings += int(hidden.sum())
    assert crossings > 10


def test_overlap_belongs_to_the_nearer_person() -> None:
    config = SceneConfig(
        min_people=5, max_people=5, overlap=1, truncation=0, max_blockers=0, min_visible=0, seed=7
    )
    scene, layout = make_scene(config), Layout.sample(config)
    figures = sorted((layout.person(i) for i in range(5)), key=lambda f: f.layer.ground)
    assert len(scene) == 5
    expected = np.zeros_like(scene.instance_map)
    contested = 0
    for number, figure in enumerate(figures, start=1):
        target, inside = figure.layer.windows(config.height, config.width)
        contested += int((expected[target][figure.layer.person[inside]] > 0).sum())
        expected[target][figure.layer.person[inside]] = number
        # Seats hide what is behind them but belong to no person.
        expected[target][figure.layer.blocker[inside]] = 0
    assert np.array_equal(scene.instance_map, expected)
    assert contested > 1000


def test_truncated_people_have_keypoints_outside() -> None:
    truncated, whole = (
        [make_scene(SceneConfig(truncation=t, seed=s, max_blockers=0)) for s in range(3)]
        for t in (1.0, 0.0)
    )
    assert all((person == 0).any() for scene in truncated for person in scene.visibility)
    assert not any((scene.visibility == 0).any() for scene in whole)


@pytest.mark.parametrize(('low', 'high'), [(0, 0), (1, 1), (2, 5), (9, 9)])
@pytest.mark.parametrize('seed', range(3))
def test_number_of_people(low: int, high: int, seed: int) -> None:
    config = SceneConfig(width=320, height=240, min_people=low, max_people=high, seed=seed)
    assert low <= len(make_scene(config)) <= high


def test_hidden_people_are_removed() -> None:
    scene = make_scene(
        SceneConfig(min_people=12, max_people=12, overlap=1, min_visible=0.5, seed=1)
    )
    x1, y1, x2, y2 = scene.amodal_boxes.T
    assert (scene.masks.areas > 0.05 * (x2 - x1) * (y2 - y1)).all()


def test_scene_without_people() -> None:
    scene = make_scene(SceneConfig(width=64, height=64, min_people=0, max_people=0))
    assert len(scene) == 0 and not scene.instance_map.any()
    assert scene.boxes.shape == scene.amodal_boxes.shape == (0, 4)
    assert (scene.keypoints.shape, scene.visibility.shape) == ((0, 17, 2), (0, 17))
    assert scene.to_coco(3, 'empty.jpg')[1] == []
    with pytest.raises(IndexError, match='person 0 of a scene with 0 people'):
        scene.mask(0)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'width': 8}, 'width=8 is out of range; choose 32 to 8192'),
        ({'height': 1e3}, 'height=1000.0 must be an integer from 32 to 8192'),
        ({'min_people': -1}, 'min_people=-1 is out of range; choose 0 to max_people=12'),
        ({'min_people': 5, 'max_people': 4}, 'min_people=5 is out of range; choose 0 to max_p'),
        ({'max_people': 201}, 'max_people=201 is out of range; choose 0 to 200'),
        ({'max_person_height': 1.5}, 'max_person_height=1.5 is out of range; choose 0 to 1'),
        ({'min_person_height': 0.9}, 'min_person_height=0.9 is out of range; .*max_person_height'),
        ({'min_person_height': 0.01}, 'gives people of 4.8 px; raise one of them'),
        ({'overlap': float('nan')}, 'overlap=nan is out of range'),
        ({'truncation': True}, 'truncation=True must be a number from 0 to 1'),
        ({'max_blockers': 99}, 'max_blockers=99 is out of range'),
        ({'min_visible': 1.0}, 'min_visible=1.0 is out of range'),
        ({'noise': -0.1}, 'noise=-0.1 is out of range'),
        ({'seed': -1}, 'seed=-1 is out of range'),
    ],
)
def test_invalid_settings_are_rejected(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SceneConfig(**settings)  # type: ignore[arg-type]


def test_demo_scene_is_a_crowd_with_strong_overlap() -> None:
    scene = make_demo_scene()
    assert scene.image.shape == (640, 960, 3)
    assert len(scene) == 8
    low = np.maximum(scene.boxes[:, None, :2], scene.boxes[:, :2])
    high = np.minimum(scene.boxes[:, None, 2:], scene.boxes[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    fraction = shared / np.minimum.outer(*[np.diagonal(shared)] * 2)
    assert (fraction[np.triu_indices(8, 1)] > 0.5).sum() >= 4


def test_command_output_in_pycocotools(tmp_path: Path) -> None:
    arguments = ['--num-images', '2', '--size', '320', '240', '--truncation', '0.5', '--seed', '4']
    assert make_synthetic_crowd.main([str(tmp_path), *arguments]) == 0
    coco = COCO(str(tmp_path / 'annotations.json'))
    assert sorted(p.name for p in tmp_path.glob('*.jpg')) == ['000001.jpg', '000002.jpg']
    assert len(coco.getImgIds()) == 2
    seed = 4 * make_synthetic_crowd.SEEDS_PER_SET
    scene = make_scene(SceneConfig(width=320, height=240, truncation=0.5, seed=seed))
    first = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert len(first) == len(scene) > 0
    for i, row in enumerate(first):
        assert np.array_equal(coco.annToMask(row).astype(bool), scene.mask(i))
        assert row['area'] == scene.mask(i).sum()
    annotations = coco.loadAnns(coco.getAnnIds())
    for row in annotations:
        points = np.reshape(row['keypoints'], (17, 3))
        assert row['iscrowd'] == 0
        assert row['num_keypoints'] == (points[:, 2] > 0).sum()
        assert (points[points[:, 2] == 0] == 0).all()
    assert len({row['id'] for row in annotations}) == len(annotations)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--num-images', '0'], '--num-images 0 is out of range'),
        (['--people', '5', '2'], 'min_people=5'),
        (['--jpeg-quality', '101'], '--jpeg-quality 101'),
    ],
)
def test_command_rejects_invalid_arguments(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(make_synthetic_crowd.main, tmp_path / 'new', *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'new').exists()
