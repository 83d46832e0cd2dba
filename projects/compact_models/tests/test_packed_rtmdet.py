"""RTMDet-Ins on whole batches: the same assignment and losses as MMDetection's, image by image."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmdet.models.dense_heads.rtmdet_head import RTMDetHead
from mmdet.models.dense_heads.rtmdet_ins_head import RTMDetInsHead
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.structures import InstanceData

from pipeline.openmmlab import building_from
from projects.compact_models.detector.packed import (
    Assignment,
    PackedRTMDet,
    assign_points,
    box_losses,
    mask_logits,
)
from projects.compact_models.packed.crops import PackedTargets

SIDE, M = 128, 5

CONFIG = Path(__file__).parents[1] / 'configs/rtmdet-ins_compact_gpu.py'


@pytest.fixture(scope='module')
def detector() -> Any:
    config = Config.fromfile(CONFIG)
    torch.manual_seed(0)
    with building_from('mmdet'):
        model = MODELS.build(config.model)
    model.init_weights()
    return model.train()


def crowd() -> PackedTargets:
    """Three crops: three people and an ignored region, one person, no people."""
    boxes = torch.zeros(3, M, 4)
    boxes[0, :4] = torch.tensor(
        [[4.0, 8, 40, 120], [28, 20, 80, 100], [60, 60, 124, 124], [80, 0, 128, 56]]
    )
    boxes[1, 2] = torch.tensor([16.0, 16, 112, 120])
    is_person = torch.zeros(3, M, dtype=torch.bool)
    is_person[0, :3] = is_person[1, 2] = True
    is_ignored = torch.zeros_like(is_person)
    is_ignored[0, 3] = True
    has_mask = torch.zeros_like(is_person)
    has_mask[0, 1] = has_mask[0, 2] = has_mask[1, 2] = True
    masks = torch.zeros(3, SIDE // 4, SIDE // 4)
    for mask, box in zip(masks, boxes[has_mask].long() // 4, strict=True):
        x1, y1, x2, y2 = box.tolist()
        mask[y1:y2, x1 : (x1 + x2) // 2] = 1  # the left half of the box
    return PackedTargets(
        boxes, is_person, is_ignored, has_mask, masks, torch.zeros(3, dtype=torch.bool)
    )


def outputs_of(model: Any) -> tuple[Any, ...]:
    torch.manual_seed(1)
    return tuple(model.bbox_head(model.extract_feat(torch.randn(3, 3, SIDE, SIDE))))


def flat(levels: Any) -> torch.Tensor:
    return torch.cat([level.permute(0, 2, 3, 1).flatten(1, 2) for level in levels], 1)


def geometry(model: Any, outputs: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (B, N), boxes (B, N, 4), points (N, 3)."""
    sizes = [level.shape[-2:] for level in outputs[0]]
    priors = model.bbox_head.prior_generator.grid_priors(sizes, device='cpu', with_stride=True)
    points = torch.cat(priors)[:, :3]
    sides = flat(outputs[1])
    places = points[None, :, :2]
    return (
        flat(outputs[0])[..., 0],
        torch.cat([places - sides[..., :2], places + sides[..., 2:]], -1),
        points,
    )


def stock_instances(targets: PackedTargets, chosen: torch.Tensor) -> list[InstanceData]:
    return [
        InstanceData(bboxes=boxes[rows], labels=torch.zeros(int(rows.sum()), dtype=torch.long))
        for boxes, rows in zip(targets.boxes, chosen, strict=True)
    ]


def test_class_and_box_loss_equal_those_of_mmdetection(detector: Any) -> None:
    targets = crowd()
    outputs = outputs_of(detector)
    logits, boxes, points = geometry(detector, outputs)
    found = assign_points(logits, boxes, points, targets.boxes, targets.is_person)
    ours = box_losses(logits, boxes, points, targets, found)
    metas = [{'img_shape': (SIDE, SIDE), 'pad_shape': (SIDE, SIDE)}] * 3
    stock = RTMDetHead.loss_by_feat(
        detector.bbox_head, *outputs[:2], stock_instances(targets, targets.is_person), metas,
        stock_instances(targets, targets.is_ignored),
    )  # fmt: skip
    assert int((found.person >= 0).sum()) > 3
    assert set(found.person[0].tolist()) == {-1, 0, 1, 2}
    assert set(found.person[1].tolist()) == {-1, 2} and (found.person[2] == -1).all()
    assert ours[0].item() == pytest.approx(sum(stock['loss_cls']).item(), rel=1e-5)
    assert 2 * ours[1].item() == pytest.approx(sum(stock['loss_bbox']).item(), rel=1e-5)


def test_a_point_goes_to_one_person_and_a_person_to_its_cheapest_points() -> None:
    points = torch.tensor([[x + 4.0, y + 4, 8] for y in range(0, 64, 8) for x in range(0, 64, 8)])
    people = torch.tensor([[[0.0, 0, 40, 40], [24, 24, 64, 64], [0, 0, 0, 0]]])
    is_person = torch.tensor([[True, True, False]])
    # Every point guesses the first person; those below the middle guess the second.
    boxes = people[:, :1].repeat(1, 64, 1)
    boxes[0, points[:, 1] > 36] = people[0, 1]
    found = assign_points(torch.zeros(1, 64), boxes, points, people, is_person)
    first, second = (found.person[0] == 0), (found.person[0] == 1)
    assert int(first.sum()) == int(second.sum()) == 13
    assert (points[first, 1] <= 36).all() and (points[second, 1] > 36).all()
    assert (found.overlap[0][first | second] == 1).all()
    assert (found.overlap[0][~(first | second)] == 0).all()
    unassigned = assign_points(torch.zeros(1, 64), boxes, points, people, ~is_person & False)
    assert (unassigned.person == -1).all() and unassigned.overlap.sum() == 0


def test_masks_equal_those_of_mmdetection(detector: Any) -> None:
    targets = crowd()
    outputs = outputs_of(detector)
    _, _, points = geometry(detector, outputs)
    kernels, prototypes = flat(outputs[2]), outputs[3]
    person = torch.full((3, len(points)), -1)
    person[0, [9, 40, 300]] = torch.tensor([1, 2, 0])  # 0 has no mask
    person[1, [200, 320]] = 2
    found = Assignment(person, (person >= 0).float())
    ours = detector._mask_loss(prototypes, kernels, points, targets, found)

    with_stride = torch.cat([points, points[:, 2:]], 1)
    samples, instances = [], []
    full = targets.masks.repeat_interleave(4, 1).repeat_interleave(4, 2).bool()
    rows = targets.has_mask.flatten().cumsum(0).reshape(3, M) - 1
    for image in range(3):
        at = (person[image] >= 0).nonzero()[:, 0]
        at = at[targets.has_mask[image, person[image, at]]]
        samples.append(
            SimpleNamespace(
                pos_inds=at, pos_priors=with_stride[at],
                pos_assigned_gt_inds=rows[image, person[image, at]],
            )
        )  # fmt: skip
        instances.append(InstanceData(masks=full))
    stock = RTMDetInsHead.loss_mask_by_feat(
        detector.bbox_head, prototypes, kernels, samples, instances
    )
    assert ours.item() == pytest.approx(stock.item(), rel=1e-5) and ours.item() > 0
    alone = mask_logits(detector.bbox_head, prototypes[1:2], kernels[1:2, 200], points[200:201])
    expected = detector.bbox_head._mask_predict_by_feat_single(
        prototypes[1], kernels[1, 200:201], with_stride[200:201]
    )
    torch.testing.assert_close(alone, expected)
    nothing = Assignment(torch.full_like(person, -1), torch.zeros(person.shape))
    assert detector._mask_loss(prototypes, kernels, points, targets, nothing).item() == 0


def test_a_step_trains_every_part(detector: Any) -> None:
    model: PackedRTMDet = copy.deepcopy(detector)
    data = {'inputs': torch.rand(3, 3, SIDE, SIDE) * 255, 'data_samples': crowd()}
    batch = model.data_preprocessor(data, training=True)
    assert abs(float(batch['inputs'].mean())) < 1.5
    losses = model(**batch, mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert {'loss_cls', 'loss_bbox', 'loss_mask'} <= set(losses)
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'max_masks': 0}, 'max_masks = 0'),
        ({'bbox_head': {'num_classes': 2}}, 'for one class, got 2'),
    ],
)
def test_wrong_settings_are_named(change: dict[str, Any], message: str) -> None:
    config = Config.fromfile(CONFIG)
    config.merge_from_dict({'model': change})
    with pytest.raises(ValueError, match=message), building_from('mmdet'):
        MODELS.build(config.model)
