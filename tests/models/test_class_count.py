"""RTMDet checkpoints of any count load; the person is found by its name, or refused with names."""

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


VOC = ('aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow',
       'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant')  # fmt: skip


@pytest.mark.parametrize(
    ('num_classes', 'names', 'chosen', 'label'),
    [
        pytest.param(2, ('ball', 'Person'), None, 1, id='person second, without case'),
        pytest.param(16, VOC, None, 14, id='as in VOC'),
        pytest.param(2, ('car', 'pedestrian'), None, 1, id='pedestrian'),
        pytest.param(3, ('person', 'people', 'dog'), None, 0, id='person before people'),
        pytest.param(3, None, 2, 2, id='a number'),
        pytest.param(2, ('rider', 'walker'), 'Walker', 1, id='a name'),
        pytest.param(20, None, None, 14, id='names of the config'),
        pytest.param(1, ('head',), 0, 0, id='another class'),
    ],
)
def test_the_person_is_found_by_name(
    tmp_path: Path, num_classes: int, names: Any, chosen: Any, label: int
) -> None:
    config = TINY_BOX
    if (num_classes, names) == (20, None):
        config = str(tmp_path / 'voc.py')
        data = "test_dataloader = dict(dataset=dict(type='VOCDataset'))"
        Path(config).write_text(f"_base_ = '{TINY_BOX}'\n{data}\n")
    path = save_random(tmp_path / 'w.pth', TINY_BOX, num_classes, names)
    detector = build_mmdet_detector(config, path, score_threshold=0.0, person_class=chosen)
    assert detector.person == label
    for layer in detector.model.bbox_head.rtm_reg:
        layer.weight.data.zero_()
        layer.bias.data.fill_(1)
    for layer in detector.model.bbox_head.rtm_cls:
        layer.weight.data.zero_()
        layer.bias.data.fill_(-9).scatter_(0, torch.tensor([label]), 3.0)
    assert len(detector(np.zeros((60, 80, 3), np.uint8))) > 0
    detector.person = num_classes  # no such class
    assert len(detector(np.zeros((60, 80, 3), np.uint8))) == 0


@pytest.mark.parametrize(
    ('num_classes', 'names', 'chosen', 'message'),
    [
        (3, None, None, r'none of the 3 classes \(not named\).*detector.person_class'),
        (81, None, None, r'none of the 81 classes'),
        (1, ('cat',), None, r'1 classes \(cat\)'),
        (2, ('pedestrian', 'people'), None, r'2 of the 2 classes'),
        (3, ('person', 'horse', 'cart'), 'dog', "is 'dog'"),
        (3, ('person', 'horse', 'cart'), 3, 'is 3; set'),
        (3, None, -1, 'is -1; set'),
    ],
)
def test_no_class_of_people_is_refused_with_the_names(
    tmp_path: Path, num_classes: int, names: Any, chosen: Any, message: str
) -> None:
    path = save_random(tmp_path / 'w.pth', TINY_BOX, num_classes, names)
    with pytest.raises(CheckpointError, match=message):
        build_mmdet_detector(TINY_BOX, path, person_class=chosen)


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
