"""Training of the compact detector: partial masks, painted-out people, data preparation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('mmdet')

from mmdet.registry import MODELS  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402
from mmdet.utils import register_all_modules  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

from pipeline.detectors.rtmdet_ins_partial import fill_unknown_masks  # noqa: E402
from pipeline.openmmlab import scope_of  # noqa: E402
from tools import prepare_compact_data, train  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
SIZE = 64


@pytest.fixture(scope='module', autouse=True)
def own_scope() -> Iterator[None]:
    """MMEngine's default scope is global: these tests put the old one back."""
    with scope_of('mmdet'):
        yield


@pytest.fixture(scope='module')
def head() -> Any:
    """The training head of the compact config, random weights."""
    register_all_modules(init_default_scope=True)
    config = Config.fromfile(ROOT / 'configs/compact/rtmdet-ins_compact_train.py')
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


def losses_of(head: Any, has_mask: list[bool]) -> dict[str, Any]:
    """Scalar losses of one photo on fixed features; parameter gradients are cleared."""
    torch.manual_seed(1)
    head.zero_grad()
    features = tuple(torch.randn(2, 64, SIZE // stride, SIZE // stride) for stride in (8, 16, 32))
    metas = [{'img_shape': (SIZE, SIZE), 'pad_shape': (SIZE, SIZE)} for _ in range(2)]
    people = [box_people(has_mask), box_people([])]
    losses = head.loss_by_feat(*head(features), people, metas)
    return {name: sum(v) if isinstance(v, list) else v for name, v in losses.items()}


def gradient_norm(module: Any) -> float:
    """L2 norm of the gradients of a module; zero if it has none."""
    return float(sum(p.grad.norm() for p in module.parameters() if p.grad is not None))


def test_person_without_mask_trains_box_and_class_only(head: Any) -> None:
    losses = losses_of(head, [False])
    assert losses['loss_mask'] == 0
    assert losses['loss_bbox'] > 0
    sum(losses.values()).backward()
    assert gradient_norm(head.mask_head) == 0
    assert gradient_norm(head.kernel_convs) == 0
    assert gradient_norm(head.rtm_reg) > 0
    assert gradient_norm(head.cls_convs) > 0


def test_person_with_mask_trains_masks(head: Any) -> None:
    losses = losses_of(head, [True])
    assert losses['loss_mask'] > 0
    losses['loss_mask'].backward()
    assert gradient_norm(head.mask_head) > 0
    assert gradient_norm(head.rtm_kernel) > 0


def test_all_masks_known_equals_stock_head(head: Any) -> None:
    config = Config.fromfile(ROOT / 'configs/compact/rtmdet-ins_compact.py').model.bbox_head
    stock = MODELS.build({**config, 'train_cfg': head.train_cfg})
    stock.load_state_dict(head.state_dict(), strict=True)
    ours, theirs = losses_of(head, [True, True]), losses_of(stock.train(), [True, True])
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


def test_fill_unknown_masks_without_people() -> None:
    filled, is_known = fill_unknown_masks(BitmapMasks([], SIZE, SIZE), torch.zeros(0, 4))
    assert len(filled) == 0
    assert is_known.shape == (0,)


def test_training_and_inference_config_have_the_same_weights() -> None:
    register_all_modules(init_default_scope=True)
    names = ('rtmdet-ins_compact.py', 'rtmdet-ins_compact_train.py')
    models = [MODELS.build(Config.fromfile(ROOT / 'configs/compact' / n).model) for n in names]
    shapes = [{k: v.shape for k, v in model.state_dict().items()} for model in models]
    assert shapes[0] == shapes[1]
    num_bytes_fp16 = 2 * sum(p.numel() for p in models[0].parameters())
    assert num_bytes_fp16 < 16 * 2**20


def write_photo_set(folder: Path) -> None:
    """A photo set of one full, one partial, one val and one person-free photo."""
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


def test_prepare_compact_data_selects_photos(tmp_path: Path) -> None:
    source, out = tmp_path / 'photos', tmp_path / 'out'
    source.mkdir()
    write_photo_set(source)
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


def test_train_parses_overrides() -> None:
    pairs = ['a.b=1', 'c=text', "d=('x', 2)"]
    assert train.parse_overrides(pairs) == {'a.b': 1, 'c': 'text', 'd': ('x', 2)}


def test_train_refuses_an_unknown_scope(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / 'other.py'
    config.write_text("default_scope = 'mmseg'\n")
    assert train.main([str(config)]) == 2
    assert "default_scope = 'mmseg'; allowed: mmdet, mmpose, mmengine" in capsys.readouterr().err
