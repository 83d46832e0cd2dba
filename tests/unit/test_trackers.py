"""Trackers by name: the same protocol, and clear errors."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from pipeline.tracking.association import AssociationConfig, AssociationTracker
from pipeline.tracking.libraries import TRACKERS, make_tracker
from tests.unit.test_tracking import BLUE, RED, box, make_people, paint


@pytest.mark.parametrize('name', TRACKERS)
def test_two_people_keep_their_ids(name: str) -> None:
    """Rows change their order and their scores; a row of low score has no track."""
    tracker = make_tracker(name, fps=10)
    owners: list[dict[str, int]] = []
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        for i in range(20):
            rows = {'red': (box(40 + 4 * i), 0.9), 'blue': (box(300 - 4 * i, 24), 0.7)}
            names = sorted(rows, reverse=bool(i % 3))
            places = [rows[n][0] for n in names]
            image = paint(places, [RED if n == 'red' else BLUE for n in names])
            scores = [*(rows[n][1] for n in names), 0.1]
            ids = tracker.update(make_people([*places, box(180)], scores), image, i / 10)
            assert ids.shape == (3,) and ids.dtype == np.int64
            assert ids[2] == -1
            owners.append(dict(zip(names, ids.tolist(), strict=False)))
    assert {(o['red'], o['blue']) for o in owners[5:]} in ({(1, 2)}, {(2, 1)})
    expected = tracker.predict_boxes(2.0)
    boxes = expected.boxes
    assert sorted(expected.box_scores) == pytest.approx([0.7, 0.9])
    assert boxes.shape == (2, 4) and boxes.dtype == np.float32
    assert sorted(boxes[:, 0]) == pytest.approx([116, 224], abs=6)


@pytest.mark.parametrize('name', TRACKERS)
def test_frames_without_people(name: str) -> None:
    tracker = make_tracker(name)
    assert len(tracker.predict_boxes(0.0)) == 0
    for i in range(3):
        assert tracker.update(make_people([]), paint([], []), i / 10).shape == (0,)
    assert len(tracker.predict_boxes(0.3)) == 0


def test_settings_reach_the_tracker() -> None:
    """A track starts only above the given score."""
    tracker = make_tracker('sort', {'track_activation_threshold': 0.8})
    for i in range(6):
        ids = tracker.update(make_people([box(100)], [0.7]), paint([], []), i / 30)
    assert ids.tolist() == [-1]
    own = make_tracker('association', {'min_hits': 7})
    assert isinstance(own, AssociationTracker) and own.config.min_hits == 7


WRONG: dict[str, tuple[str, Any, str]] = {
    'name': ('deepsort', None, "no tracker 'deepsort'; choose one of association, sort, bytetrack"),
    'setting': ('sort', {'min_hits': 3}, "'sort' has no setting 'min_hits'; it has lost_track"),
    'own setting': ('association', {'a': 3}, "'association' has no setting 'a'; it has high_score"),
    'config': ('sort', AssociationConfig(), "pass a dict for 'sort'"),
}


@pytest.mark.parametrize(('name', 'config', 'message'), WRONG.values(), ids=WRONG)
def test_wrong_arguments(name: str, config: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_tracker(name, config)


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__('sys').modules, 'trackers', None)
    with pytest.raises(ModuleNotFoundError, match=r'bbox-mask-pose\[tracking\]'):
        make_tracker('sort')
