"""Cut-outs of people and the transforms that paste them, for detection and for poses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from numpy.typing import NDArray

from projects.compact_models.cutouts import CutoutFolder, Layer
from projects.compact_models.detector.copy_paste import (
    CopyPastePeople,
    boxes_of,
    covered_fraction,
    paste_people,
)
from projects.compact_models.pose.paste_people import PastePeople, hide_person
from projects.compact_models.tools import prepare_cutouts

HEIGHT, WIDTH = 60, 80


def block(left: int, top: int, width: int, height: int) -> Layer:
    """A white, fully opaque rectangle."""
    image = np.full((height, width, 3), 255, np.uint8)
    return Layer(image, np.ones((height, width), np.float32), left, top)


def make_image(*people: tuple[int, int, int, int, bool]) -> dict[str, Any]:
    """Black image; people as x1, y1, x2, y2, has mask (the mask fills the box)."""
    masks = np.zeros((len(people), HEIGHT, WIDTH), np.uint8)
    for mask, (x1, y1, x2, y2, has_mask) in zip(masks, people, strict=True):
        mask[y1:y2, x1:x2] = has_mask
    boxes = np.array([person[:4] for person in people], np.float32).reshape(-1, 4)
    return {
        'img': np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        'gt_masks': BitmapMasks(masks, HEIGHT, WIDTH),
        'gt_bboxes': HorizontalBoxes(boxes),
        'gt_bboxes_labels': np.zeros(len(people), np.int64),
        'gt_ignore_flags': np.zeros(len(people), np.bool_),
    }


def outcome(results: dict[str, Any]) -> list[tuple[list[float], int, bool]]:
    """Per person: box, mask pixels, ignored."""
    assert len(results['gt_masks']) == len(results['gt_bboxes_labels'])
    return [
        (box, int(mask.sum()), bool(flag))
        for box, mask, flag in zip(
            results['gt_bboxes'].tensor.tolist(),
            results['gt_masks'].masks,
            results['gt_ignore_flags'],
            strict=True,
        )
    ]


@pytest.mark.parametrize(
    ('people', 'layers', 'expected'),
    [
        pytest.param(
            [], [block(10, 20, 5, 10)], [([10, 20, 15, 30], 50, False)], id='into an empty image'
        ),
        pytest.param(
            [(0, 0, 20, 20, True)],
            [block(10, 0, 20, 20)],
            [([0, 0, 10, 20], 200, False), ([10, 0, 30, 20], 400, False)],
            id='mask and box shrink to what is seen',
        ),
        pytest.param(
            [(0, 0, 20, 20, True)],
            [block(0, 0, 20, 19)],
            [([0, 0, 20, 19], 380, False)],
            id='hardly visible: dropped',
        ),
        pytest.param(
            [(0, 0, 20, 20, False)],
            [block(10, 0, 20, 20)],
            [([0, 0, 20, 20], 0, False), ([10, 0, 30, 20], 400, False)],
            id='without mask the box stays',
        ),
        pytest.param(
            [(0, 0, 20, 20, False)],
            [block(0, 0, 20, 19)],
            [([0, 0, 20, 20], 0, True), ([0, 0, 20, 19], 380, False)],
            id='without mask and covered: ignored',
        ),
        pytest.param(
            [],
            [block(0, 0, 20, 20), block(10, 0, 20, 20)],
            [([0, 0, 10, 20], 200, False), ([10, 0, 30, 20], 400, False)],
            id='the last one is on top',
        ),
        pytest.param(
            [],
            [block(-10, 50, 20, 20), block(79, 59, 20, 20)],
            [([0, 50, 10, 60], 100, False)],
            id='cut at the edge of the image; a corner of a person is dropped',
        ),
    ],
)
def test_pasting_updates_boxes_masks_and_flags(
    people: list[Any], layers: list[Layer], expected: list[Any]
) -> None:
    before = make_image(*people)
    image = before['img']
    results = paste_people(before, layers, min_visible=0.2)
    assert outcome(results) == expected
    assert results['img'].any() and not image.any(), 'a copy is painted'


def test_boxes_of_and_covered_fraction() -> None:
    masks = np.zeros((1, 10, 10), np.bool_)
    masks[0, 2:5, 3] = True
    assert boxes_of(masks).tolist() == [[3, 2, 4, 5]]
    boxes = np.array([[0, 0, 10, 10], [3, 2, 4, 5], [4, 4, 4, 4]], np.float32)
    assert covered_fraction(boxes, masks[0]).tolist() == [0.03, 1.0, 0.0]


@pytest.fixture
def cutouts(tmp_path: Path) -> Path:
    """Two cut-outs written by the tool; a third person is of the validation part."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, subset in enumerate(('train', 'train', 'val'), start=1):
        image = np.full((100, 60, 3), 40 * index, np.uint8)
        cv2.imwrite(str(tmp_path / f'{index}.png'), image)
        images.append({'id': index, 'file_name': f'{index}.png', 'subset': subset})
        # Column-wise run lengths: columns 10 to 29, whole height.
        mask = {'size': [100, 60], 'counts': [1000, 2000, 3000]}
        segmentation = prepare_rle(mask)
        annotations.append(
            {'id': index, 'image_id': index, 'has_mask': True, 'segmentation': segmentation}
        )
    (tmp_path / 'annotations.json').write_text(
        json.dumps({'images': images, 'annotations': annotations})
    )
    prepare_cutouts.main([str(tmp_path), str(tmp_path / 'out')])
    return tmp_path / 'out'


def prepare_rle(mask: dict[str, Any]) -> dict[str, Any]:
    """Compressed RLE with text counts, as in the image set."""
    from pycocotools import mask as mask_utils

    rle = mask_utils.frPyObjects(mask, *mask['size'])
    return {'size': rle['size'], 'counts': rle['counts'].decode()}


def test_cutouts_hold_the_people_of_the_training_part(cutouts: Path) -> None:
    folder = CutoutFolder(cutouts)
    assert folder.names == ['1.png', '2.png']
    cutout = folder.read('2.png')
    assert cutout.shape == (100, 20, 4)
    assert (cutout[..., :3] == 80).all()
    assert (cutout[..., 3] == 255).all()


def test_a_random_person_has_the_requested_height_and_is_not_enlarged_much(cutouts: Path) -> None:
    folder = CutoutFolder(cutouts)
    assert folder.random_person(50.0)[1].shape == (50, 10)
    assert folder.random_person(400.0)[1].shape == (150, 30)


def test_copy_paste_changes_by_chance(cutouts: Path) -> None:
    np.random.seed(0)
    always = CopyPastePeople(str(cutouts), prob=1.0, max_people=2)
    sizes = [len(always(make_image((0, 0, 9, 9, True)))['gt_bboxes']) for _ in range(10)]
    assert max(sizes) > 1
    never = CopyPastePeople(str(cutouts), prob=0.0)(make_image((0, 0, 9, 9, True)))
    assert len(never['gt_bboxes']) == 1
    assert 'prob=1.0, max_people=2' in repr(always)


def person(levels: list[int], has_mask: bool = True) -> dict[str, Any]:
    """A person of three keypoints at x = 10, 30, 50, y = 20, visible as given."""
    xs = (10, 30, 50)
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[10:40, 5:60] = True
    raw: list[float] = []
    for x, level in zip(xs, levels, strict=True):
        raw += [x, 20, level]
    sample = {
        'img': np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        'bbox': np.array([[5, 10, 60, 40]], np.float32),
        'keypoints': np.array([[[x, 20] for x in xs]], np.float32),
        'raw_ann_info': {'keypoints': raw},
    }
    return {**sample, 'mask': mask} if has_mask else sample


def visibility(sample: dict[str, Any]) -> list[float]:
    """v of the keypoints."""
    return list(sample['raw_ann_info']['keypoints'][2::3])


@pytest.mark.parametrize(
    ('levels', 'layer', 'expected'),
    [
        pytest.param([2, 2, 2], block(0, 0, 20, 60), [1, 2, 2], id='covered becomes occluded'),
        pytest.param([0, 2, 2], block(0, 0, 20, 60), [0, 2, 2], id='not labelled stays so'),
        pytest.param([1, 2, 2], block(0, 0, 20, 60), [1, 2, 2], id='occluded stays so'),
        pytest.param([2, 2, 2], block(0, 0, 80, 60), [2, 2, 2], id='too much: unchanged'),
    ],
)
def test_pasting_over_a_person(levels: list[int], layer: Layer, expected: list[int]) -> None:
    before = person(levels)
    raw = before['raw_ann_info']
    old_levels = visibility(before)
    after = hide_person(before, [layer], max_hidden_keypoints=0.5)
    assert visibility(after) == expected
    assert list(raw['keypoints'][2::3]) == old_levels, 'the annotation itself is not changed'
    is_changed = expected != [2, 2, 2]
    assert after['img'].any() == is_changed
    assert after['mask'][20, 10] == (not is_changed)
    assert after['mask'][20, 50]


def test_paste_people_needs_no_mask(cutouts: Path) -> None:
    np.random.seed(1)
    always = PastePeople(str(cutouts), prob=1.0, max_hidden_keypoints=1.0)
    sample = always(person([2, 2, 2], has_mask=False))
    assert sample['img'].any()
    assert 'mask' not in sample
    unchanged = PastePeople(str(cutouts), prob=0.0)(person([2, 2, 2]))
    assert not unchanged['img'].any()


@pytest.mark.parametrize(
    ('kind', 'setting'),
    [
        (CopyPastePeople, {'prob': 2.0}),
        (CopyPastePeople, {'max_people': 0}),
        (CopyPastePeople, {'height_range': (0.5, 0.1)}),
        (PastePeople, {'prob': -1.0}),
        (PastePeople, {'max_people': 0}),
        (PastePeople, {'size_range': (0.0, 1.0)}),
    ],
)
def test_wrong_settings_are_refused(cutouts: Path, kind: Any, setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        kind(str(cutouts), **setting)


def test_a_folder_without_cutouts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'prepare_cutouts\.py'):
        CopyPastePeople(str(tmp_path))


def test_a_damaged_cutout_is_named(cutouts: Path) -> None:
    opaque: NDArray[Any] = np.zeros((4, 4, 3), np.uint8)
    cv2.imwrite(str(cutouts / '1.png'), opaque)
    with pytest.raises(OSError, match=r'1\.png'):
        CutoutFolder(cutouts).read('1.png')
