"""RemoveRandomInstances: painted people and remaining targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks

from pipeline.datasets.transforms import (
    RemoveRandomInstances,
    find_fill_colour,
    grow_mask,
    paint_and_drop,
)


def results_of(bitmaps: np.ndarray, boxes: Any, colour: tuple[int, int, int]) -> dict[str, Any]:
    count, height, width = bitmaps.shape
    return {
        'img': np.full((height, width, 3), colour, np.uint8),
        'gt_masks': BitmapMasks(bitmaps, height, width),
        'gt_bboxes': HorizontalBoxes(np.array(boxes, np.float32)),
        'gt_bboxes_labels': np.zeros(count, np.int64),
        'gt_ignore_flags': np.zeros(count, bool),
    }


def image_with_three_people() -> dict[str, Any]:
    """Grey image; person 0 left half of the mask, 1 inside 0's area, 2 without a mask."""
    bitmaps = np.zeros((3, 20, 20), np.uint8)
    bitmaps[0, :, :10] = 1
    bitmaps[1, 5:8, 5:8] = 1
    return results_of(bitmaps, [[0, 0, 10, 20], [5, 5, 8, 8], [12, 0, 20, 20]], (128, 128, 128))


def test_painted_and_covered_people_are_dropped() -> None:
    results = image_with_three_people()
    before = results['img']
    results = paint_and_drop(results, np.array([0]))
    assert not results['img'][:, :10].any()
    assert (results['img'][:, 10:] == 128).all()
    assert (before == 128).all(), 'the loaded image is not changed'
    assert results['gt_bboxes'].tensor.tolist() == [[12, 0, 20, 20]], 'the maskless person stays'
    assert len(results['gt_masks']) == 1
    assert results['gt_ignore_flags'].shape == results['gt_bboxes_labels'].shape == (1,)


def test_only_people_with_mask_are_painted() -> None:
    np.random.seed(0)
    always = RemoveRandomInstances(prob=1.0, max_instances=1)
    for _ in range(10):
        results = always(image_with_three_people())
        assert [12, 0, 20, 20] in results['gt_bboxes'].tensor.tolist()
        assert len(results['gt_bboxes']) < 3


@pytest.mark.parametrize(
    'setting',
    [
        {'prob': 1.5},
        {'max_instances': 0},
        {'min_instances': 0},
        {'max_instances': 1, 'min_instances': 2},
        {'fill': 'red'},
        {'fill': 300},
        {'fill': (1, 2)},
        {'dilation': (3, 1)},
        {'min_visible': 1.0},
    ],
    ids=str,
)
def test_invalid_settings_are_rejected(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        RemoveRandomInstances(**setting)


def row_of_people(count: int = 6) -> dict[str, Any]:
    """People side by side, each a block of 4 x 4 px, on a coloured image."""
    bitmaps = np.zeros((count, 12, 8 * count), np.uint8)
    for i in range(count):
        bitmaps[i, 4:8, 8 * i + 2 : 8 * i + 6] = 1
    boxes = [[8 * i + 2, 4, 8 * i + 6, 8] for i in range(count)]
    return results_of(bitmaps, boxes, (10, 20, 30))


@pytest.mark.parametrize(
    ('settings', 'counts'),
    [
        pytest.param({'max_instances': 2}, {1, 2}, id='up to'),
        pytest.param({'min_instances': 2, 'max_instances': 4}, {2, 3, 4}, id='between'),
        pytest.param({'min_instances': 5, 'max_instances': None}, {5, 6}, id='no most'),
        pytest.param({'min_instances': 9, 'max_instances': 9}, {6}, id='more than there are'),
        pytest.param({'prob': 0.0}, {0}, id='never'),
        pytest.param({'prob': 0.5, 'max_instances': 1}, {0, 1}, id='sometimes'),
    ],
)
def test_number_of_painted_people(settings: dict[str, Any], counts: set[int]) -> None:
    np.random.seed(0)
    transform = RemoveRandomInstances(**{'prob': 1.0} | settings)
    seen = {6 - len(transform(row_of_people())['gt_bboxes']) for _ in range(60)}
    assert seen == counts


def test_crowds_ignored_people_and_other_classes_are_not_painted() -> None:
    results = row_of_people()
    results['gt_ignore_flags'][:2] = True
    results['gt_bboxes_labels'][2] = 5
    np.random.seed(0)
    transform = RemoveRandomInstances(prob=1.0, max_instances=None, min_instances=6, labels=(0,))
    results = transform(results)
    assert results['gt_bboxes'].tensor[:, 0].tolist() == [2, 10, 18]
    assert results['gt_ignore_flags'].tolist() == [True, True, False]
    assert results['gt_bboxes_labels'].tolist() == [0, 0, 5]
    assert (results['img'][4:8, 2:6] == (10, 20, 30)).all(), 'the crowd is not painted'


def test_crowd_below_painted_people_stays_ignored() -> None:
    results = image_with_three_people()
    results['gt_ignore_flags'][0] = True
    results = paint_and_drop(results, np.array([1]), min_visible=0.99)
    assert results['gt_ignore_flags'].tolist() == [True, False]


@pytest.mark.parametrize(
    ('fill', 'bgr'),
    [('black', (0, 0, 0)), ('mean', (10, 20, 30)), (114, (114, 114, 114)), ((1, 2, 3), (3, 2, 1))],
)
def test_fill(fill: Any, bgr: tuple[int, int, int]) -> None:
    results = paint_and_drop(row_of_people(), np.array([0]), fill=fill)
    assert find_fill_colour(fill, row_of_people()['img']).tolist() == list(bgr)
    assert (results['img'][4:8, 2:6] == bgr).all()
    assert (results['img'][:, 8:] == (10, 20, 30)).all()


@pytest.mark.parametrize(('by', 'area'), [(0, 16), (1, 16 + 16), (-1, 4), (-3, 16)])
def test_painted_area_is_grown_or_shrunk(by: int, area: int) -> None:
    mask = row_of_people()['gt_masks'].masks[0].astype(bool)
    assert grow_mask(mask, by).sum() == area
    results = paint_and_drop(row_of_people(), np.array([0]), grow=by)
    assert (results['img'] == 0).all(axis=2).sum() == area


def test_growth_is_sampled_from_its_range() -> None:
    np.random.seed(0)
    transform = RemoveRandomInstances(prob=1.0, max_instances=1, dilation=(-1, 1))
    areas = {int((transform(row_of_people())['img'] == 0).all(axis=2).sum()) for _ in range(30)}
    assert areas == {4, 16, 32}


@pytest.mark.parametrize(('min_visible', 'people'), [(0.0, 2), (0.5, 2), (0.97, 1)])
def test_almost_hidden_people_are_dropped(min_visible: float, people: int) -> None:
    # Person 1 hides 9 of the 200 px of person 0; person 2 has no mask and always stays.
    results = paint_and_drop(image_with_three_people(), np.array([1]), min_visible=min_visible)
    assert len(results['gt_bboxes']) == len(results['gt_masks']) == people
    if people == 2:
        assert results['gt_masks'].masks[0].sum() == 200 - 9


def image_with_polygons() -> dict[str, Any]:
    """`image_with_three_people` as `LoadAnnotations(poly2mask=False)` gives it."""
    results = image_with_three_people()
    whole, small = [0.0, 0, 10, 0, 10, 20, 0, 20], [5.0, 5, 8, 5, 8, 8, 5, 8]
    polygons = [[np.array(whole)], [np.array(small)], [np.zeros(6)]]
    results['gt_masks'] = PolygonMasks(polygons, 20, 20)
    results['gt_ignore_flags'][2] = True
    return results


def test_polygon_masks() -> None:
    results = paint_and_drop(image_with_polygons(), np.array([1]))
    assert isinstance(results['gt_masks'], BitmapMasks)
    assert results['gt_masks'].masks[0].sum() == 200 - 9
    assert RemoveRandomInstances().candidates(image_with_polygons()).tolist() == [0, 1]
