"""RTMDet checkpoints with 80 classes or one load; others are refused by count and names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch

from pipeline.config import CONFIG_FOLDER, load_config
from pipeline.detectors.class_count import class_names
from pipeline.detectors.mmdet_detector import build_mmdet_detector
from pipeline.openmmlab import build_model, read_model_config
from pipeline.weights.checkpoints import find_weights
from pipeline.weights.manifest import CheckpointError

TINY_INS = 'mmdet::rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py'
TINY_BOX = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'
PERSON_ONLY = str(CONFIG_FOLDER / 'compact' / 'rtmdet-ins_compact.py')


def save_random(path: Path, config: str, num_classes: int, names: Any = None) -> Path:
    """A checkpoint of that many classes, in the layout of MMEngine."""
    torch.manual_seed(0)
    loaded = read_model_config(config, 'mmdet')
    loaded.model.bbox_head.num_classes = num_classes
    model, _ = build_model(loaded, None, 'mmdet')
    meta = {'dataset_meta': {'classes': names}} if names else {}
    torch.save({'meta': meta, 'state_dict': model.state_dict()}, path)
    return path


COCO_LIKE = ('person', *(f'thing {i}' for i in range(1, 80)))


@pytest.mark.parametrize(
    ('config', 'num_classes', 'names'),
    [
        pytest.param(TINY_INS, 80, COCO_LIKE, id='80 classes'),
        pytest.param(TINY_INS, 1, ('person',), id='person only'),
        pytest.param(TINY_INS, 1, None, id='person only, unnamed'),
        pytest.param(TINY_INS, 80, ('person',), id='80 outputs trained with one class'),
        pytest.param(TINY_BOX, 1, ('person',), id='boxes only, person only'),
        pytest.param(PERSON_ONLY, 80, COCO_LIKE, id='80 classes for a config of one'),
    ],
)
def test_coco_and_person_checkpoints_load_strictly(
    tmp_path: Path, config: str, num_classes: int, names: Any
) -> None:
    path = save_random(tmp_path / 'w.pth', config, num_classes, names)
    saved = torch.load(path, weights_only=True)['state_dict']
    detector = build_mmdet_detector(config, path, score_threshold=0.001, max_people=5)
    loaded = detector.model.state_dict()
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[key], saved[key]) for key in saved)
    assert detector.model.bbox_head.num_classes == num_classes
    detector(np.zeros((60, 80, 3), np.uint8))  # the head reads its maps with the new count


def test_weights_of_one_class_find_people_under_a_config_of_eighty(tmp_path: Path) -> None:
    config = tmp_path / 'eighty.py'
    config.write_text(f"_base_ = '{PERSON_ONLY}'\nmodel = dict(bbox_head=dict(num_classes=80))\n")
    detector = build_mmdet_detector(str(config), find_weights('rtmdet-ins_compact').path)
    found = detector(skimage.data.astronaut())
    assert found.box_scores[0] > 0.6
    sides = found.boxes[0, 2:] - found.boxes[0, :2]
    assert sides.prod() > 0.3 * 512 * 512  # she fills the photo


def test_a_config_that_has_the_count_of_the_checkpoint_is_enough(tmp_path: Path) -> None:
    config = tmp_path / 'three.py'
    config.write_text(f"_base_ = '{TINY_INS}'\nmodel = dict(bbox_head=dict(num_classes=3))\n")
    path = save_random(tmp_path / 'w.pth', str(config), 3, ('person', 'horse', 'cart'))
    assert build_mmdet_detector(str(config), path).model.bbox_head.num_classes == 3


@pytest.mark.parametrize(
    ('num_classes', 'names', 'message'),
    [
        (2, ('person', 'ball'), r'has 2 classes \(person, ball\), its config 80'),
        (3, None, r'has 3 classes \(the file does not name them\)'),
        (81, None, r'has 81 classes.*Only 80 \(COCO\) and 1 \(person\).*bbox_head.num_classes'),
        (1, ('cat',), "class 0 of this detector is 'cat'"),
        (80, ('cat',), "class 0 of this detector is 'cat'"),
    ],
)
def test_other_classes_are_refused_by_count_and_name(
    tmp_path: Path, num_classes: int, names: Any, message: str
) -> None:
    path = save_random(tmp_path / 'w.pth', TINY_INS, num_classes, names)
    with pytest.raises(CheckpointError, match=message):
        build_mmdet_detector(TINY_INS, path)


def test_layers_that_disagree_or_are_absent_are_refused(tmp_path: Path) -> None:
    path = save_random(tmp_path / 'w.pth', TINY_INS, 80)
    state = torch.load(path, weights_only=True)['state_dict']
    state['bbox_head.rtm_cls.1.weight'] = torch.zeros(1, 96, 1, 1)
    for weights, message in [
        (state, 'has 1 and 80 classes'),
        ({'backbone.stem': torch.zeros(1)}, r'missing: .*bbox_head\.rtm_cls\.0\.bias'),
    ]:
        torch.save({'state_dict': weights}, path)
        with pytest.raises(CheckpointError, match=message):
            build_mmdet_detector(TINY_INS, path)


@pytest.mark.parametrize(
    ('meta', 'names'),
    [
        ({}, ()),
        ({'dataset_meta': None}, ()),
        ({'dataset_meta': {'classes': ['person', 'dog']}}, ('person', 'dog')),
        ({'dataset_meta': {'CLASSES': ('person',)}}, ('person',)),
        ({'CLASSES': ('person',)}, ('person',)),
        ({'dataset_meta': {'classes': 'person'}}, ('person',)),
    ],
)
def test_names_of_all_generations_of_checkpoints(meta: Any, names: tuple[str, ...]) -> None:
    assert class_names(meta) == names


def test_the_released_detector_finds_forty_people_at_most() -> None:
    part = load_config('bmp_v2').settings.detector
    assert part.max_people is None
    detector = build_mmdet_detector(str(CONFIG_FOLDER / part.config), None)
    assert detector.model.test_cfg.max_per_img == 40
