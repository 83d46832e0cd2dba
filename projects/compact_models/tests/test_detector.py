"""Training of the compact detector: a teacher, fast convolutions, data preparation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData

from projects.compact_models.detector.depthwise_conv import CpuDepthwiseConv2d
from projects.compact_models.detector.distilled import teacher_losses, unexplained_fraction
from projects.compact_models.detector.interval_head import MaskIntervalHead
from projects.compact_models.tools import find_pseudo_boxes, prepare_compact_data
from tests.train.test_detector_training import SIZE, box_people, gradient_norm, losses_of

pytestmark = pytest.mark.usefixtures('mmdet_scope')

ROOT = Path(__file__).resolve().parents[3]


def test_teacher_losses_equal_hand_computed_values() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0]]])
    teacher_boxes = torch.tensor([[[0.0, 0.0, 10.0, 5.0], [50.0, 50.0, 60.0, 60.0]]])
    scores = torch.tensor([[0.5, 0.05]])
    losses = teacher_losses(torch.zeros(1, 2), boxes, scores, teacher_boxes, min_score=0.1)
    # Student 0.5 everywhere: |0.5 - 0.5|^2 ln 2 + |0.5 - 0.05|^2 ln 2, over max(0.5, 1).
    assert losses['loss_teacher_cls'].item() == pytest.approx(0.45**2 * np.log(2), rel=1e-5)
    # IoU 0.5, no gap in the hull: (1 - 0.5) * 0.5; the second point is below min_score.
    assert losses['loss_teacher_bbox'].item() == pytest.approx(0.25, rel=1e-4)


def test_teacher_without_people_gives_finite_losses() -> None:
    boxes = torch.zeros(1, 2, 4)
    losses = teacher_losses(torch.zeros(1, 2), boxes, torch.zeros(1, 2), boxes, min_score=0.1)
    assert losses['loss_teacher_bbox'] == 0
    assert torch.isfinite(losses['loss_teacher_cls'])


SIGNAL = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))


MIX = torch.tensor([[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, -3.0, 0.5], [1.0, 1.0, 1.0, 1.0]])


@pytest.mark.parametrize(
    ('features', 'targets', 'expected'),
    [
        pytest.param(SIGNAL, SIGNAL, 0.0, id='equal'),
        pytest.param(SIGNAL, 100 * SIGNAL.flip(1) + 7, 0.0, id='other order, scale and offset'),
        pytest.param(SIGNAL, torch.einsum('oc,bchw->bohw', MIX, SIGNAL), 0.0, id='linear map'),
        pytest.param(SIGNAL[:, :2], SIGNAL, 0.5, id='half of the channels'),
        pytest.param(torch.ones(2, 4, 6, 6), SIGNAL, 1.0, id='constant features'),
    ],
)
def test_unexplained_fraction_of_features(features: Any, targets: Any, expected: float) -> None:
    assert unexplained_fraction(features, targets).item() == pytest.approx(expected, abs=0.05)


def test_unexplained_fraction_falls_along_its_gradient() -> None:
    features = SIGNAL[:, :2].clone().requires_grad_()
    before = unexplained_fraction(features, SIGNAL)
    before.backward()
    assert unexplained_fraction(features - 10 * features.grad, SIGNAL) < before


@pytest.fixture
def distilled(tmp_path: Path) -> Any:
    """The training model of the compact config, with a stock model as its teacher."""
    register_all_modules(init_default_scope=True)
    stock = Config.fromfile(ROOT / 'configs/compact/rtmdet-ins_compact.py')
    torch.manual_seed(1)
    teacher = MODELS.build(stock.model)
    teacher.init_weights()
    torch.save({'state_dict': teacher.state_dict()}, tmp_path / 'teacher.pth')
    config = Config.fromfile(
        ROOT / 'projects/compact_models/configs/rtmdet-ins_compact_train.py'
    ).model
    files = {
        'config': str(ROOT / 'configs/compact/rtmdet-ins_compact.py'),
        'checkpoint': str(tmp_path / 'teacher.pth'),
    }
    return MODELS.build({**config, 'teacher': files}).train()


def samples_of(painted: list[bool]) -> list[Any]:
    """One person with a mask per image."""
    samples = []
    for is_painted in painted:
        sample = DetDataSample(metainfo={'img_shape': (SIZE, SIZE), 'pad_shape': (SIZE, SIZE)})
        sample.set_metainfo({'painted': is_painted})
        sample.gt_instances = box_people([True])
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
        samples.append(sample)
    return samples


def test_the_teacher_labels_images_and_stays_out_of_the_weights(distilled: Any) -> None:
    assert not any('teacher' in name for name in distilled.state_dict())
    inputs = torch.randn(2, 3, SIZE, SIZE)
    losses = distilled.loss(inputs, samples_of([False, True]))
    assert losses['loss_teacher_cls'] > 0
    total = sum(sum(v) if isinstance(v, list) else v for v in losses.values())
    total.backward()
    assert gradient_norm(distilled.backbone) > 0
    assert gradient_norm(distilled._teacher[0]) == 0
    assert 'loss_teacher_cls' not in distilled.loss(inputs, samples_of([True, True]))


@pytest.mark.parametrize('weight', [0.0, 2.0])
def test_features_of_the_teacher_are_a_setting(distilled: Any, weight: float) -> None:
    distilled.teacher_feature_weight = weight
    losses = distilled.loss(torch.randn(2, 3, SIZE, SIZE), samples_of([False, True]))
    assert ('loss_teacher_feature' in losses) == (weight > 0)
    if weight:
        losses['loss_teacher_feature'].backward()
        assert 0 < losses['loss_teacher_feature'] <= weight
        assert gradient_norm(distilled.backbone) > 0
        assert gradient_norm(distilled._teacher[0]) == 0


@pytest.mark.parametrize(
    'setting',
    [
        pytest.param({'kernel_size': 5, 'padding': 2, 'groups': 6}, id='depthwise'),
        pytest.param({'kernel_size': (3, 5), 'padding': (1, 2), 'groups': 6}, id='not square'),
        pytest.param({'kernel_size': 3, 'padding': 1, 'groups': 6, 'stride': 2}, id='stride'),
        pytest.param({'kernel_size': 3, 'padding': 1}, id='dense'),
    ],
)
def test_fast_convolution_equals_the_stock_one(setting: dict[str, Any]) -> None:
    torch.manual_seed(0)
    stock = torch.nn.Conv2d(6, 6, bias=False, **setting)
    fast = CpuDepthwiseConv2d(6, 6, bias=False, **setting)
    fast.load_state_dict(stock.state_dict())
    x = torch.randn(2, 6, 11, 13)
    gradients = []
    for conv in (stock, fast):
        leaf = x.clone().requires_grad_()
        (conv(leaf) ** 2).sum().backward()
        gradients.append((leaf.grad, conv.weight.grad))
    assert torch.equal(fast(x), stock(x))
    for ours, stock in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(ours, stock, rtol=1e-4, atol=1e-4)


def test_fast_convolution_in_bfloat16_gives_float32_weight_gradients() -> None:
    torch.manual_seed(0)
    fast = CpuDepthwiseConv2d(4, 4, 5, padding=2, groups=4, bias=False)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = fast(torch.randn(1, 4, 9, 9))
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert fast.weight.grad is not None
    assert fast.weight.grad.dtype == torch.float32


def test_training_and_inference_config_have_the_same_weights() -> None:
    register_all_modules(init_default_scope=True)
    names = ('rtmdet-ins_compact.py', 'rtmdet-ins_compact_train.py')
    folders = ('configs/compact', 'projects/compact_models/configs')
    files = [ROOT / folder / name for folder, name in zip(folders, names, strict=True)]
    models = [MODELS.build(Config.fromfile(file).model) for file in files]
    shapes = [{k: v.shape for k, v in model.state_dict().items()} for model in models]
    assert shapes[0] == shapes[1]
    num_bytes_fp16 = 2 * sum(p.numel() for p in models[0].parameters())
    assert num_bytes_fp16 < 16 * 2**20


def write_image_set(folder: Path) -> None:
    """An image set of one full, one partial, one val and one person-free image."""
    from PIL import Image

    images = []
    flags = [('a', True, 'train'), ('b', False, 'train'), ('c', True, 'val')]
    for index, (name, is_full, subset) in enumerate(flags, start=1):
        images.append(
            {'id': index, 'file_name': f'{name}.webp', 'width': 40, 'height': 30}
            | {'source': name, 'fully_annotated': is_full, 'subset': subset}
        )
    people = [{'image_id': i, 'bbox': [2, 2, 10, 20], 'area': 200, 'iscrowd': 0} for i in (1, 2, 3)]
    people[2] |= {'has_mask': True, 'segmentation': {'size': [30, 40], 'counts': '05d000'}}
    for name in ('a', 'b', 'c', 'street'):
        Image.new('RGB', (40, 30)).save(folder / f'{name}.webp')
    (folder / 'annotations.json').write_text(json.dumps({'images': images, 'annotations': people}))
    street = [{'file_name': 'street.webp', 'width': 40, 'height': 30, 'source': 'x'}]
    (folder / 'backgrounds.json').write_text(json.dumps(street))


def test_prepare_compact_data_selects_images(tmp_path: Path) -> None:
    source, out = tmp_path / 'images', tmp_path / 'out'
    source.mkdir()
    write_image_set(source)
    pseudo = [{'image_id': 2, 'bbox': [25, 2, 10, 20], 'score': 0.9, 'category_id': 1}]
    (tmp_path / 'found.json').write_text(json.dumps(pseudo))
    arguments = [str(source), str(out), '--extra-sources', 'b']
    prepare_compact_data.main([*arguments, '--pseudo-boxes', str(tmp_path / 'found.json')])
    splits = {n: json.loads((out / f'{n}.json').read_text()) for n in ('train', 'val', 'val_masks')}
    names = {n: [i['file_name'] for i in split['images']] for n, split in splits.items()}
    assert names == {
        'train': ['images/a.jpg', 'images/b.jpg', 'images/street.jpg'],
        'val': ['images/c.jpg'],
        'val_masks': ['images/c.jpg'],
    }
    assert [a['image_id'] for a in splits['train']['annotations']] == [1, 2, 2]
    assert splits['train']['annotations'][0]['segmentation']['counts'] == [30 * 40]
    assert all((out / name).exists() for name in names['train'] + names['val'])
    prepare_compact_data.main([str(source), str(out), '--all-sources'])
    every = {i['file_name'] for i in json.loads((out / 'train.json').read_text())['images']}
    assert every == set(names['train'])


def test_missing_people_are_added_by_score() -> None:
    def found(x: float, score: float) -> dict[str, Any]:
        return {'bbox': [x, 0.0, 10.0, 10.0], 'score': score}

    detections = [found(0, 0.9), found(20, 0.5), found(40, 0.3), found(60, 0.2), found(21, 0.45)]
    people = prepare_compact_data.missing_people([{'bbox': [0.0, 0.0, 10.0, 10.0]}], detections)
    assert [(p['bbox'][0], p['iscrowd']) for p in people] == [(20, 0), (40, 1)]


def test_teacher_detections_become_coco_results() -> None:
    found = InstanceData(
        bboxes=torch.tensor([[1.0, 2.0, 11.0, 22.0], [0.0, 0.0, 5.0, 5.0], [0.0, 0.0, 5.0, 5.0]]),
        scores=torch.tensor([0.75, 0.9, 0.05]),
        labels=torch.tensor([0, 3, 0]),
    )
    assert find_pseudo_boxes.as_results(7, found, label=0, min_score=0.1) == [
        {'image_id': 7, 'category_id': 1, 'bbox': [1.0, 2.0, 10.0, 20.0], 'score': 0.75}
    ]


@pytest.mark.parametrize(
    ('boxes', 'expected'),
    [
        pytest.param(([0, 0, 10, 10], [20, 0, 5, 5]), 0.0, id='apart'),
        pytest.param(([0, 0, 10, 10], [0, 0, 10, 10]), 1.0, id='identical'),
        pytest.param(([0, 0, 10, 10], [2, 2, 4, 4]), 1.0, id='inside'),
        pytest.param(([0, 0, 10, 10], [10, 0, 5, 5]), 0.0, id='touching'),
        pytest.param(([0, 0, 10, 10], [5, 0, 10, 10]), 0.5, id='half'),
    ],
)
def test_overlap_of_smaller(boxes: tuple[list[float], list[float]], expected: float) -> None:
    assert prepare_compact_data.overlap_of_smaller(*boxes) == pytest.approx(expected)


def test_mask_interval_skips_masks_without_changing_boxes() -> None:
    register_all_modules(init_default_scope=True)
    config = Config.fromfile(ROOT / 'projects/compact_models/configs/rtmdet-ins_compact_train.py')
    torch.manual_seed(0)
    settings = {'mask_interval': 3, 'train_cfg': config.model.train_cfg}
    head = MODELS.build({**config.model.bbox_head, **settings})
    head.init_weights()
    losses = [losses_of(head.train(), [False], []) for _ in range(4)]
    assert ['loss_mask' in step for step in losses] == [True, False, False, True]
    # Equal up to the centre of the person, which comes from the mask in steps with masks.
    for name in ('loss_cls', 'loss_bbox'):
        assert losses[1][name].item() == pytest.approx(losses[0][name].item(), rel=1e-4)


def test_mask_interval_must_be_positive() -> None:
    with pytest.raises(ValueError, match='mask_interval'):
        MaskIntervalHead(1, 64, mask_interval=0)
