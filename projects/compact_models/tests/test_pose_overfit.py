"""The recipe of the compact pose model overfits one batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.test_train_overfit import assert_pose_is_learned

pytestmark = pytest.mark.usefixtures('one_thread')


def test_pose_model_learns_one_batch(tmp_path: Path) -> None:
    codec = {
        'type': 'UDPHeatmap', 'input_size': (144, 192), 'heatmap_size': (36, 48), 'sigma': 1.5,
    }  # fmt: skip
    config = 'projects/compact_models/configs/vitpose_compact_train.py'
    # In place of the schedule by the clock.
    schedule = {'default_hooks.param_scheduler': {'_delete_': True, 'type': 'ParamSchedulerHook'}}
    assert_pose_is_learned(config, tmp_path, [{'type': 'LoadImage'}], codec, **schedule)
