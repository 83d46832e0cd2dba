"""The table of targets: which people count, verdicts, rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from projects.compact_models.tools.measure_targets import (
    AP_TARGETS,
    IOU_TARGET,
    TASKS,
    change_verdict,
    main,
    mean_iou_of_large_people,
    table,
    verdict,
)


def rle(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    mask = np.zeros((100, 100), np.uint8)
    mask[y : y + height, x : x + width] = 1
    packed = coco_mask.encode(np.asfortranarray(mask))
    return {'size': packed['size'], 'counts': packed['counts'].decode()}


def person(key: int, box: tuple[int, int, int, int], flag: int) -> dict[str, Any]:
    return {
        'id': key, 'image_id': 1, 'category_id': 1, 'bbox': list(box), 'iscrowd': 0,
        'segmentation': rle(*box), 'keypoints': [50, 50, flag] + [0] * 48,
    }  # fmt: skip


def test_only_people_who_are_large_and_have_a_visible_keypoint_count(tmp_path: Path) -> None:
    people = [
        person(1, (0, 0, 40, 40), 2),
        person(2, (40, 40, 60, 60), 2),
        person(3, (0, 60, 20, 20), 2),
        person(4, (60, 0, 40, 40), 1),
    ]
    ground_truth = tmp_path / 'ground_truth.json'
    image = {'id': 1, 'width': 100, 'height': 100}
    ground_truth.write_text(json.dumps({'images': [image], 'annotations': people}))
    rows = [{'annotation_id': 1, 'image_id': 1, 'segmentation': rle(0, 0, 20, 40)}]
    (tmp_path / 'results.json').write_text(json.dumps(rows))
    # Person 1 half found, person 2 not at all; 3 is small, 4 hidden.
    assert mean_iou_of_large_people(tmp_path, ground_truth) == (0.25, 2)


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        ((0.5, 0.8), 'goal reached'),
        ((0.6, 0.79), 'above the floor'),
        ((0.35, 0.62), 'above the floor'),
        ((0.9, 0.61), 'below the floor'),
    ],
)
def test_verdicts(values: tuple[float, float], expected: str) -> None:
    assert verdict(values, AP_TARGETS['bbox']) == expected


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        (0.001, 'goal reached'),
        (0.0003, 'above the floor'),
        (0.0, 'above the floor'),
        (-0.0003, 'a loss'),
    ],
)
def test_verdicts_of_changes(change: float, expected: str) -> None:
    assert change_verdict(change) == expected


def test_every_target_has_a_row_and_a_loss_is_called_one() -> None:
    runs = {
        'one round': dict.fromkeys(TASKS, (0.4, 0.7)),
        'two rounds': dict.fromkeys(TASKS, (0.4, 0.7)),
        'two rounds, refined': {'bbox': (0.4, 0.7), 'segm': (0.3, 0.7), 'keypoints': (0.5, 0.7)},
    }
    text = table(runs, (0.7, 12))
    for target in (*AP_TARGETS.values(), IOU_TARGET):
        assert target.name in text
    assert '0.400 to 0.300 (-0.100) | a loss' in text
    assert '0.400 to 0.400 (+0.000) | above the floor' in text
    assert '0.400 to 0.500 (+0.100) | goal reached' in text


def test_absent_annotations_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['no-such-file.json']) == 2
    assert 'no-such-file.json' in capsys.readouterr().err
