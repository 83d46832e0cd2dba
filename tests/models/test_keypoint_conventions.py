"""The keypoint conventions as data, and as MMPose reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mmpose', reason='conventions are MMPose metainfo')

from mmpose.datasets.datasets.utils import parse_pose_metainfo

from pipeline.keypoints import (
    COCO_FLIP,
    COCO_NAMES,
    COCO_SIGMAS,
    MODEL_SETS,
    KeypointSet,
    sigmas_of,
)
from pipeline.openmmlab import scope_of

FILES = Path(__file__).parents[2] / 'configs' / 'keypoints'
pytestmark = pytest.mark.filterwarnings('ignore')


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
