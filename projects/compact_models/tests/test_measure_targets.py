"""The table of targets: verdicts, changes, rows."""

from __future__ import annotations

import pytest

from projects.compact_models.tools.measure_targets import (
    RUNS,
    TARGETS,
    TASKS,
    judge,
    main,
    make_table,
)


@pytest.mark.parametrize(
    ('value', 'expected'),
    [(0.5, 'goal reached'), (0.46, 'goal reached'), (0.4, 'above the floor'),
     (0.38, 'above the floor'), (0.379, 'below the floor')],
)  # fmt: skip
def test_verdicts(value: float, expected: str) -> None:
    assert judge(value, 0.38, 0.46) == expected


def test_every_target_and_every_change_has_a_row() -> None:
    found = {name: dict.fromkeys(TASKS, 0.4) for name in RUNS}
    found['two rounds, refined'] |= {'segm': 0.3, 'keypoints': 0.5}
    found['one round']['bbox'] = 0.41
    text = make_table(found, TARGETS['development'])
    assert len(text.splitlines()) == 2 + 4 + 6
    assert '| mask, two rounds | 0.210 | 0.280 | 0.400 | goal reached |' in text
    assert '| box, one round to two rounds | no loss | a gain | -0.010 | a loss |' in text
    refined = 'two rounds to two rounds, refined | no loss |'
    assert f'| box, {refined}  | +0.000 | no loss |' in text
    assert f'| mask, {refined}  | -0.100 | a loss |' in text
    assert f'| keypoint, {refined} a gain | +0.100 | a gain |' in text


def test_images_with_few_masks_have_no_row_of_masks() -> None:
    found = {name: dict.fromkeys(TASKS, 0.4) for name in RUNS}
    assert 'mask' not in make_table(found, TARGETS['held-out'])


def test_absent_annotations_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['no-such-file.json']) == 2
    assert 'no-such-file.json' in capsys.readouterr().err
