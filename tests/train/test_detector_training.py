"""Training of the detector with masks of some people only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData

from pipeline.cli import train
from pipeline.detectors.rtmdet_ins_partial import (
    fill_unknown_masks,
    in_any_box,
)

pytestmark = pytest.mark.usefixtures('mmdet_scope')

ROOT = Path(__file__).resolve().parents[2]
SIZE = 64


@pytest.fixture(scope='module')
def head() -> Any:
    """The training head of the compact config, random weights."""
    register_all_modules(init_default_scope=True)
    config = Config.fromfile(ROOT / 'configs/detector/rtmdet-ins_compact_practice.py')
    torch.manual_seed(0)
    head = MODELS.build({**config.model.bbox_head, 'train_cfg': config.model.train_cfg})
    head.init_weights()
    return head.train()


def box_people(has_mask: list[bool]) -> InstanceData:
    """People with the boxes (8, 8, 40, 56) and (24, 16, 60, 60); a mask fills its box."""
    boxes = torch.tensor([[8.0, 8.0, 40.0, 56.0], [24.0, 16.0, 60.0, 60.0]])[: len(has_mask)]
    bitmaps = np.zeros((len(has_mask), SIZE, SIZE), np.uint8)
    for index, (x1, y1, x2, y2) in enumerate(boxes.int().tolist()):
        bitmaps[index, y1:y2, x1:x2] = has_mask[index]
    labels = torch.zeros(len(has_mask), dtype=torch.long)
    return InstanceData(bboxes=boxes, labels=labels, masks=BitmapMasks(bitmaps, SIZE, SIZE))


def losses_of(head: Any, *images: list[bool], ignored: Any = None) -> dict[str, Any]:
    """Scalar losses on fixed features; parameter gradients are cleared."""
    torch.manual_seed(1)
    head.zero_grad()
    features = tuple(torch.randn(len(images), 64, SIZE // s, SIZE // s) for s in (8, 16, 32))
    metas = [{'img_shape': (SIZE, SIZE), 'pad_shape': (SIZE, SIZE)} for _ in images]
    people = [box_people(has_mask) for has_mask in images]
    losses = head.loss_by_feat(*head(features), people, metas, ignored)
    return {name: sum(v) if isinstance(v, list) else v for name, v in losses.items()}


def gradient_norm(module: Any) -> float:
    """L2 norm of the gradients of a module; zero if it has none."""
    return float(sum(p.grad.norm() for p in module.parameters() if p.grad is not None))


def test_person_without_mask_trains_box_and_class_only(head: Any) -> None:
    losses = losses_of(head, [False], [])
    assert losses['loss_mask'] == 0
    assert losses['loss_bbox'] > 0
    sum(losses.values()).backward()
    assert gradient_norm(head.mask_head) == 0
    assert gradient_norm(head.kernel_convs) == 0
    assert gradient_norm(head.rtm_reg) > 0
    assert gradient_norm(head.cls_convs) > 0


def test_person_with_mask_trains_masks(head: Any) -> None:
    losses = losses_of(head, [True], [])
    assert losses['loss_mask'] > 0
    losses['loss_mask'].backward()
    assert gradient_norm(head.mask_head) > 0
    assert gradient_norm(head.rtm_kernel) > 0


def test_all_masks_known_equals_stock_head(head: Any) -> None:
    config = Config.fromfile(ROOT / 'configs/compact/rtmdet-ins_compact.py').model.bbox_head
    stock = MODELS.build({**config, 'train_cfg': head.train_cfg})
    stock.load_state_dict(head.state_dict(), strict=True)
    ours, theirs = (losses_of(each, [True, True], []) for each in (head, stock.train()))
    assert {n: v.item() for n, v in ours.items()} == pytest.approx(
        {n: v.item() for n, v in theirs.items()}, rel=1e-5
    )


def test_fill_unknown_masks_keeps_known_and_uses_box() -> None:
    people = box_people([True, False])
    filled, is_known = fill_unknown_masks(people.masks, people.bboxes)
    assert is_known.tolist() == [True, False]
    assert (filled.masks[0] == people.masks.masks[0]).all()
    assert filled.masks[1].sum() == 36 * 44
    assert filled.masks[1][16:60, 24:60].all()
    assert not people.masks.masks[1].any(), 'the input is not changed'
    filled, is_known = fill_unknown_masks(BitmapMasks([], SIZE, SIZE), torch.zeros(0, 4))
    assert len(filled) == 0 and is_known.shape == (0,)


def test_ignored_regions_are_not_negatives(head: Any) -> None:
    def class_loss(ignored: list[list[float]]) -> float:
        places = [InstanceData(bboxes=torch.tensor(ignored).reshape(-1, 4))]
        return float(losses_of(head, [], ignored=places)['loss_cls'].detach())

    assert class_loss([[0.0, 0.0, SIZE, SIZE]]) == 0
    assert 0 < class_loss([[0.0, 0.0, SIZE / 2, SIZE]]) < class_loss([])


def test_in_any_box() -> None:
    points = torch.tensor([[5.0, 5.0], [25.0, 5.0], [12.0, 5.0]])
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
    assert in_any_box(points, boxes).tolist() == [True, True, False]
    assert in_any_box(points, boxes[:0]).tolist() == [False] * 3


def test_train_refuses_an_unknown_scope(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / 'other.py'
    config.write_text("default_scope = 'mmseg'\n")
    assert train.main([str(config)]) == 2
    assert "default_scope = 'mmseg'; allowed: mmdet, mmpose, mmengine" in capsys.readouterr().err
