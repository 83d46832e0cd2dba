"""MaskBackground: masks in every form, and their corruption in training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.poses.mask_background import MaskBackground
from pipeline.poses.mask_corruption import (
    MaskCorruption,
    add_patches,
    move_outline_in,
    move_outline_out,
    remove_patches,
)
from pipeline.rle import decode_segmentation


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ('sample', 'prob'),
    [
        pytest.param({}, 1.0, id='no mask'),
        pytest.param({'mask': None}, 1.0, id='mask is None'),
        pytest.param({'mask': np.zeros((20, 30), bool)}, 1.0, id='empty mask'),
        pytest.param({'segmentation': []}, 1.0, id='empty segmentation'),
        pytest.param({'mask': np.ones((20, 30), np.uint8)}, 1.0, id='full mask, 0/1 integers'),
        pytest.param({'mask': np.eye(20, 30, dtype=bool)}, 0.0, id='probability 0'),
    ],
)
def test_leaves_the_image_unchanged(image: np.ndarray, sample: dict, prob: float) -> None:
    results = MaskBackground(prob=prob)({'img': image.copy(), **sample})
    np.testing.assert_array_equal(results['img'], image)


def test_a_demanded_mask_that_is_missing_is_an_error(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match='continue_on_failure'):
        MaskBackground(continue_on_failure=False)({'img': image})


def test_a_mask_of_another_size_is_an_error(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match='frame of the image'):
        MaskBackground()({'img': image, 'mask': np.ones((30, 20), bool)})


@pytest.mark.parametrize('kwargs', [{'alpha': 1.5}, {'prob': -0.1}, {'erode_prob': 2.0}])
def test_refuses_settings_out_of_range(kwargs: dict) -> None:
    with pytest.raises(ValueError, match='must be in'):
        MaskBackground(**kwargs)


def test_polygons_and_rle_give_the_same_mask(image: np.ndarray) -> None:
    import pycocotools.mask as mask_utils

    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 10:20] = 1
    rle = mask_utils.encode(np.asfortranarray(mask))
    text = {'size': [20, 30], 'counts': rle['counts'].decode('ascii')}
    polygon = [[10.0, 5.0, 20.0, 5.0, 20.0, 15.0, 10.0, 15.0]]
    np.testing.assert_array_equal(decode_segmentation(text, 20, 30), mask.astype(bool))
    np.testing.assert_array_equal(decode_segmentation(polygon, 20, 30), mask.astype(bool))
    from_rle = MaskBackground()({'img': image.copy(), 'segmentation': text})['img']
    from_mask = MaskBackground()({'img': image.copy(), 'mask': mask})['img']
    np.testing.assert_array_equal(from_rle, from_mask)
    assert (from_rle[0] <= np.rint(0.75 * image[0])).all()


@pytest.fixture
def person() -> np.ndarray:
    """A standing figure with two legs, (240, 160)."""
    mask = np.zeros((240, 160), bool)
    mask[20:60, 60:100] = True
    mask[60:140, 40:120] = True
    mask[140:220, 45:75] = mask[140:220, 85:115] = True
    return mask


@pytest.mark.parametrize('change', [move_outline_in, move_outline_out, remove_patches, add_patches])
def test_masks_shrink_or_grow_by_the_amount(person: np.ndarray, change: Any) -> None:
    np.random.seed(0)
    np.testing.assert_array_equal(change(person, 0.0), person)
    if change in (move_outline_in, remove_patches):
        changed = change(person, 0.5)
        assert not (changed & ~person).any()
        assert 0.4 * person.sum() <= changed.sum() < person.sum()
    else:
        changed = change(person, 0.2)
        assert not (person & ~changed).any()
        assert person.sum() < changed.sum() <= 1.2 * person.sum()


def test_the_outline_moves_evenly() -> None:
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:50] = True
    inner = move_outline_in(mask, 1.0)  # as far as the kernel reaches: 2 px
    assert inner[12:48, 12:48].all() and inner.sum() == 36 * 36
    outer = move_outline_out(mask, 1.0)
    assert outer[8:52, 10:50].all() and not outer[7].any() and not outer[52].any()


MASKS = {
    'one px': (slice(7, 8), slice(7, 8)),
    'a line': (slice(7, 8), slice(0, 30)),
    'a square': (slice(5, 15), slice(5, 15)),
    'everything': (slice(None), slice(None)),
}


@pytest.mark.parametrize('name', MASKS)
def test_corruption_never_empties_a_mask(name: str) -> None:
    mask = np.zeros((20, 30), bool)
    mask[MASKS[name]] = True
    corrupt = MaskCorruption(dilate_prob=0.5, dilate_amount=1.0, erode_prob=1.0, erode_amount=1.0)
    for seed in range(30):
        np.random.seed(seed)
        assert corrupt(mask).any()


def test_corruption_is_off_by_default(image: np.ndarray) -> None:
    mask = np.zeros((20, 30), bool)
    mask[3, 3] = mask[8:15, 4:12] = True  # smoothing would remove the single px
    plain = MaskBackground()({'img': image.copy(), 'mask': mask})['img']
    assert (plain[3, 3] == image[3, 3]).all()
    corrupt = MaskBackground(dilate_prob=0.5, erode_prob=0.5)
    images = []
    for seed in (0, None, 0):
        if seed is not None:
            np.random.seed(seed)
        images.append(corrupt({'img': image.copy(), 'mask': mask})['img'])
    first, second, again = images
    np.testing.assert_array_equal(first, again)  # numpy's seed decides
    assert (first != plain).any() or (second != plain).any()
