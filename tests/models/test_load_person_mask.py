"""LoadPersonMask: masks of a results file, found by image and box."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.poses.load_person_mask import LoadPersonMask
from tests.toy_people import write

ROWS = [
    {'image_id': 3, 'bbox': [10, 20, 30, 40], 'score': 0.9, 'segmentation': [[1, 2, 4, 2, 9, 9]]},
    {'image_id': 3, 'bbox': [10, 20, 30, 40], 'score': 0.5, 'segmentation': {'size': [9, 9]}},
    {'image_id': 3, 'bbox': [50.04, 20, 30, 40], 'score': 0.4},
    {'image_id': 'a/4.jpg', 'bbox': [0, 0, 5, 5], 'segmentation': [[0, 0, 5, 0, 5, 5]]},
]  # fmt: skip


def person_at(image_id: Any, box: list[float], score: float) -> dict[str, Any]:
    return {
        'img_id': image_id, 'bbox': np.array([box], np.float32),
        'bbox_score': np.array([score], np.float32),
    }  # fmt: skip


@pytest.mark.parametrize(
    ('person', 'row'),
    [
        pytest.param(person_at(3, [10, 20, 40, 60], 0.9), 0, id='box'),
        pytest.param(person_at(3, [10, 20, 40, 60], 0.51), 1, id='equal boxes: by score'),
        pytest.param(person_at(3, [50, 20, 80, 60], 0.4), 2, id='no mask'),
        pytest.param(person_at('a/4.jpg', [0, 0, 5, 5], 1.0), 3, id='id that is a name'),
    ],
)
def test_masks_are_found_by_image_and_box(tmp_path: Path, person: Any, row: int) -> None:
    transform = LoadPersonMask(str(write(tmp_path / 'masks.json', ROWS)))
    assert transform(person)['segmentation'] == ROWS[row].get('segmentation')


@pytest.mark.parametrize(
    ('person', 'message'),
    [
        pytest.param(
            person_at(3, [11, 20, 41, 60], 1), 'image 3 .*3 rows .*nearest is 1.0 px', id='box'
        ),
        pytest.param(person_at(5, [1, 2, 3, 4], 1), '0 rows for this image. Give', id='image'),
    ],
)
def test_a_box_of_another_file_is_an_error(tmp_path: Path, person: Any, message: str) -> None:
    transform = LoadPersonMask(str(write(tmp_path / 'masks.json', ROWS)))
    with pytest.raises(ValueError, match=message):
        transform(person)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        pytest.param({'annotations': []}, 'no list of COCO results', id='annotation file'),
        pytest.param([{'image_id': 3}], 'no list of COCO results', id='no box'),
        pytest.param([{'image_id': 3, 'bbox': [1, 2, 3, 4]}], 'no `segmentation`', id='no mask'),
        pytest.param([{**ROWS[0], 'bbox': [1, 2]}], 'bad box', id='short box'),
        pytest.param([{**ROWS[0], 'bbox': 7}], 'bad box', id='box that is a number'),
    ],
)
def test_a_file_without_masks_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoadPersonMask(str(write(tmp_path / 'masks.json', content)))


def test_a_file_that_is_not_there_or_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / 'text.json').write_text('no json')
    for name in ('nowhere.json', 'text.json'):
        with pytest.raises(ValueError, match=name):
            LoadPersonMask(str(tmp_path / name))
