"""Every recorded number of the reference is met; see ../__main__.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mmpose.datasets.datasets.utils import parse_pose_metainfo

from pipeline.keypoint_sets import MODEL_SETS, dataset_info
from pipeline.openmmlab import scope_of
from projects.reference_parity import __main__ as parity
from projects.reference_parity import recordings
from projects.reference_parity.rows import Comparison, max_difference


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', parity.comparisons())
def test_numbers_of_the_reference(name: str) -> None:
    c = parity.comparisons()[name]()
    assert c.rows
    wrong = [f'{r.what}: {r.difference:.3g} > {r.tolerance:.3g}' for r in c.rows if not r.ok]
    assert not wrong, '\n'.join(wrong)
    assert not parity.unnamed(c), 'recorded but not compared'


@pytest.mark.parametrize(
    ('ours', 'recorded', 'expected'),
    [
        pytest.param([1.0, 2.5], [1.0, 2.0], 0.5, id='values'),
        pytest.param([1.0], [1.0, 2.0], np.inf, id='another shape'),
        pytest.param([np.nan, 1.0], [np.nan, 1.0], 0.0, id='both undefined'),
        pytest.param([np.nan, 1.0], [1.0, 1.0], np.inf, id='one undefined'),
        pytest.param([np.inf], [1.0], np.inf, id='infinite'),
        pytest.param([True, False], [1, 1], 1.0, id='bools'),
        pytest.param([], [], 0.0, id='nothing'),
    ],
)
def test_differences_are_found(ours: list[Any], recorded: list[Any], expected: float) -> None:
    assert max_difference(np.array(ours), np.array(recorded)) == expected


def test_the_worst_of_several_comparisons_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        'projects.reference_parity.recordings.load', lambda name: ({'a': np.ones(3)}, None)
    )
    c = Comparison('made up')
    c.add('numbers', [1, 1, 3], c.arrays['a'], 1.0)
    c.add('numbers', [1, 1, 1], c.arrays['a'], 1.0)
    (row,) = c.rows
    assert row.difference == 2 and not row.ok
    assert list(c.unread()) == []


def test_23_points_are_those_of_the_reference() -> None:
    meta = recordings.facts('pmpose_full')['dataset_meta']
    ours = MODEL_SETS[23]
    with scope_of('mmpose'):
        info = parse_pose_metainfo(dataset_info(23))
    assert [meta['keypoint_id2name'][str(i)] for i in range(23)] == list(ours.names)
    assert meta['flip_indices'] == list(ours.flip_indices)
    assert meta['lower_body_ids'] == info['lower_body_ids']
    np.testing.assert_allclose(meta['sigmas'], ours.sigmas, atol=1e-7)
    weights = dataset_info(23)['joint_weights']
    np.testing.assert_allclose(meta['dataset_keypoint_weights'], weights, rtol=1e-6)
