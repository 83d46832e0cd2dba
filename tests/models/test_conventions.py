"""Keypoint conventions: conversion between them, and their metainfo in MMPose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mmpose
import numpy as np
import pytest
from mmengine.config import Config
from mmpose.datasets.datasets.utils import parse_pose_metainfo

from pipeline.keypoint_sets import (
    AIC_TO_COCO,
    COCO_TO_CROWDPOSE,
    CROWDPOSE_NAMES,
    KEYPOINT_SETS,
    MODEL_SETS,
    MPII_TO_COCO,
    KeypointSet,
    convention_of_names,
    sigmas_of,
    to_convention,
)
from pipeline.keypoints import COCO_FLIP, COCO_NAMES, COCO_SIGMAS
from pipeline.openmmlab import scope_of

FILES = Path(__file__).parents[2] / 'configs' / 'keypoints'
pytestmark = pytest.mark.filterwarnings('ignore')

# A standing person, 100 px tall, seen from the front.
STANDING = {
    'nose': (50, 8.6), 'left_eye': (52, 6.4), 'right_eye': (48, 6.4),
    'left_ear': (55, 7), 'right_ear': (45, 7),
    'left_shoulder': (62, 20), 'right_shoulder': (38, 20),
}  # fmt: skip


def standing(points: int = 17) -> tuple[np.ndarray, np.ndarray]:
    """One person (1, K, 2) and scores (1, K): 0.5, 0.51, ..."""
    keypoints = np.arange(points * 2, dtype=np.float32).reshape(1, points, 2) + 100
    for name, place in STANDING.items():
        keypoints[0, COCO_NAMES.index(name)] = place
    return keypoints, np.linspace(0.5, 0.5 + 0.01 * (points - 1), points, dtype=np.float32)[None]


def test_limbs_are_taken_over_by_name() -> None:
    keypoints, scores = standing()
    mapped, mapped_scores = to_convention(keypoints, scores, 'crowdpose14')
    assert mapped.shape == (1, 14, 2) and mapped_scores.shape == (1, 14)
    assert mapped.dtype == mapped_scores.dtype == np.float32
    for i, name in enumerate(CROWDPOSE_NAMES[:12]):
        k = COCO_NAMES.index(name)
        np.testing.assert_array_equal(mapped[0, i], keypoints[0, k])
        assert mapped_scores[0, i] == scores[0, k]


@pytest.mark.parametrize(
    ('changed', 'score'),
    [
        pytest.param({}, 0.54, id='best of the face'),
        pytest.param({0: (500, 500)}, 0.54, id='a nose of score 0 does not count'),
    ],
)
def test_head_top_and_neck_of_a_standing_person(changed: Any, score: float) -> None:
    keypoints, scores = standing()
    for index, place in changed.items():
        keypoints[0, index], scores[0, index] = place, 0
    mapped, mapped_scores = to_convention(keypoints, scores, 'crowdpose14')
    np.testing.assert_allclose(mapped[0, 12], [50, 0], atol=0.6)
    np.testing.assert_allclose(mapped[0, 13], [50, 16], atol=0.2)
    np.testing.assert_allclose(mapped_scores[0, 12:], [score, 0.55])  # neck: lower shoulder


@pytest.mark.parametrize('turn', [1, 2, 3])
def test_the_estimate_turns_and_grows_with_the_person(turn: int) -> None:
    keypoints, scores = standing()
    upright, _ = to_convention(keypoints, scores, 'crowdpose14')
    matrix = np.linalg.matrix_power(np.array([[0, -3], [3, 0]]), turn).astype(np.float32)
    turned, _ = to_convention(keypoints @ matrix, scores, 'crowdpose14')
    np.testing.assert_allclose(turned, upright @ matrix, rtol=1e-4, atol=1e-2)


def test_a_face_of_score_0_has_score_0_and_a_finite_place() -> None:
    keypoints, scores = standing()
    scores[0, :5] = 0
    mapped, mapped_scores = to_convention(keypoints, scores, 'crowdpose14')
    assert np.isfinite(mapped).all()
    np.testing.assert_allclose(mapped_scores[0, 12:], [0, 0.55])


@pytest.mark.parametrize(
    ('points', 'name', 'targets', 'sources'),
    [
        pytest.param(21, 'crowdpose14', [12, 13], [19, 17], id='21 points have top and neck'),
        pytest.param(23, 'crowdpose14', [12, 13], [22, 21], id='23 points have top and neck'),
        pytest.param(23, 'coco17', range(17), range(17), id='COCO is the first 17'),
    ],
)
def test_keypoints_of_the_model_are_kept(
    points: int, name: Any, targets: list[int], sources: list[int]
) -> None:
    keypoints, scores = standing(points)
    mapped, mapped_scores = to_convention(keypoints, scores, name)
    np.testing.assert_array_equal(mapped[0, targets], keypoints[0, sources])
    np.testing.assert_array_equal(mapped_scores[0, targets], scores[0, sources])


def test_nobody_stays_nobody() -> None:
    mapped, scores = to_convention(np.zeros((0, 17, 2)), np.zeros((0, 17)), 'crowdpose14')
    assert mapped.shape == (0, 14, 2) and scores.shape == (0, 14)


WRONG: list[tuple[str, Any, Any, Any, str]] = [
    ('few points', np.zeros((1, 14, 2)), np.zeros((1, 14)), 'crowdpose14', 'K >= 17'),
    ('flat', np.zeros((17, 2)), np.zeros(17), 'coco17', r'got \(17, 2\)'),
    ('scores', np.zeros((1, 17, 2)), np.zeros((1, 16)), 'coco17', r'must be \(1, 17\)'),
    ('name', np.zeros((1, 17, 2)), np.zeros((1, 17)), 'crowdpose', 'one of coco17, crowdpose14'),
]


@pytest.mark.parametrize(
    ('keypoints', 'scores', 'name', 'reason'), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG]
)
def test_wrong_input_is_named(keypoints: Any, scores: Any, name: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        to_convention(keypoints, scores, name)


NAMES: list[tuple[str, list[str], str | None]] = [
    ('coco', list(COCO_NAMES), 'coco17'),
    ('more than coco', [*COCO_NAMES, 'left_finger'], 'coco17'),
    ('crowdpose', list(CROWDPOSE_NAMES), 'crowdpose14'),
    ('crowdpose as in its file', [*CROWDPOSE_NAMES[:12], 'head', 'neck'], 'crowdpose14'),
    ('written otherwise', [n.replace('_', ' ').title() for n in CROWDPOSE_NAMES], 'crowdpose14'),
    ('neck before head', [*CROWDPOSE_NAMES[:12], 'neck', 'head'], None),
    ('posetrack', ['nose', 'head_bottom', 'head_top', *COCO_NAMES[3:]], None),
    ('too few', list(COCO_NAMES[:16]), None),
]


@pytest.mark.parametrize(('names', 'convention'), [n[1:] for n in NAMES], ids=[n[0] for n in NAMES])
def test_names_tell_the_convention(names: list[str], convention: str | None) -> None:
    assert convention_of_names(names) == convention


def mmpose_config(name: str) -> Any:
    return Config.fromfile(Path(mmpose.__file__).parent / '.mim' / 'configs' / name)


def test_crowdpose_is_that_of_mmpose() -> None:
    info = mmpose_config('_base_/datasets/crowdpose.py').dataset_info
    crowdpose = KEYPOINT_SETS['crowdpose14']
    assert tuple(info.keypoint_info[i]['name'] for i in range(14)) == crowdpose.names
    np.testing.assert_allclose(info.sigmas, crowdpose.sigmas)


def test_maps_are_those_of_mmpose() -> None:
    body = mmpose_config('body_2d_keypoint/rtmpose/body8/rtmpose-m_8xb256-420e_body8-256x192.py')
    assert set(body.aic_coco) == set(AIC_TO_COCO)
    assert set(body.mpii_coco) == set(MPII_TO_COCO)
    assert {coco: crowd for crowd, coco in body.crowdpose_coco} == COCO_TO_CROWDPOSE


def test_the_neck_lies_where_it_is_estimated(samples: Path) -> None:
    path = samples / 'test_samples' / 'crowdpose' / 'test_crowdpose.json'
    shares = []
    for row in json.loads(path.read_text())['annotations']:
        points = np.reshape(row['keypoints'], (14, 3))
        if (points[[0, 1, 12, 13], 2] > 0).all():
            middle, top, neck = points[:2, :2].mean(0), points[12, :2], points[13, :2]
            shares.append((neck - middle) @ (top - middle) / ((top - middle) @ (top - middle)))
    assert len(shares) >= 3
    np.testing.assert_allclose(shares, 0.2, atol=0.05)


def parsed(metainfo: dict) -> dict:
    with scope_of('mmpose'):
        return parse_pose_metainfo(metainfo)


@pytest.fixture(params=MODEL_SETS)
def convention(request: pytest.FixtureRequest) -> KeypointSet:
    return MODEL_SETS[request.param]


def test_swaps_are_involutions_between_left_and_right(convention: KeypointSet) -> None:
    flip = convention.flip_indices
    assert [flip[i] for i in flip] == list(range(len(convention.names)))
    for name, mirrored in zip(convention.names, flip, strict=True):
        left, right = name, convention.names[mirrored]
        assert left.replace('left', 'x').replace('right', 'x') == right.replace(
            'left', 'x'
        ).replace('right', 'x')
        assert (left == right) == (not left.startswith(('left_', 'right_')))


def test_the_first_17_are_those_of_coco(convention: KeypointSet) -> None:
    assert convention.names[:17] == COCO_NAMES
    assert convention.flip_indices[:17] == COCO_FLIP
    np.testing.assert_array_equal(convention.sigmas[:17], COCO_SIGMAS)
    assert convention.coco == tuple((i, i) for i in range(17))


def test_the_file_of_a_convention_is_mmpose_metainfo(convention: KeypointSet) -> None:
    meta = parsed({'from_file': str(FILES / f'{convention.name}.py')})
    k = len(convention.names)
    assert meta['num_keypoints'] == k
    assert [meta['keypoint_id2name'][i] for i in range(k)] == list(convention.names)
    assert meta['flip_indices'] == list(convention.flip_indices)
    np.testing.assert_allclose(meta['sigmas'], convention.sigmas, rtol=1e-6)
    assert len(meta['dataset_keypoint_weights']) == k
    assert meta['num_skeleton_links'] == len(meta['skeleton_link_colors']) >= 19
    assert sorted(meta['upper_body_ids'] + meta['lower_body_ids']) == list(range(k))


def test_the_coco_convention_is_that_of_mmpose() -> None:
    ours = parsed({'from_file': str(FILES / 'coco_17.py')})
    theirs = parsed({'from_file': 'configs/_base_/datasets/coco.py'})
    for key in set(theirs) - {'dataset_name'}:
        if key in ('skeleton_links', 'flip_pairs'):
            assert {frozenset(p) for p in ours[key]} == {frozenset(p) for p in theirs[key]}, key
        else:
            np.testing.assert_equal(ours[key], theirs[key], err_msg=key)
    np.testing.assert_array_equal(ours['keypoint_colors'], theirs['keypoint_colors'])


@pytest.mark.parametrize('source', ['mpii', 'aic'])
@pytest.mark.parametrize('k', [21, 23])
def test_mappings_join_points_of_the_same_name(source: str, k: int) -> None:
    convention = MODEL_SETS[k]
    mapping = getattr(convention, source)
    names = parsed({'from_file': f'configs/_base_/datasets/{source}.py'})['keypoint_id2name']
    assert sorted(a for a, _ in mapping) == sorted(names)  # every point of the source is used
    assert len({b for _, b in mapping}) == len(mapping)
    for a, b in mapping:
        ours = convention.names[b].removesuffix(f'_{source}')
        if (source, names[a], ours) == ('aic', 'neck', 'thorax'):
            assert k == 21  # one point there
        else:
            assert ours in (names[a], names[a].removeprefix('upper_')), (names[a], ours)


def test_unknown_numbers_of_keypoints_are_refused() -> None:
    with pytest.raises(ValueError, match='known: 17, 21, 23'):
        sigmas_of(19)
