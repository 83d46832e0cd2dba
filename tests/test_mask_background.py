"""MaskBackground: parity with the reference's numbers, and the mask-free path."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('mmpose', reason='MaskBackground is an MMPose transform')

from pipeline.poses.mask_background import MaskBackground, decode_segmentation
from tests import fixtures


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize('alpha', ['0.2', '0.25', '0', '0.5', '1'])
def test_dims_exactly_like_the_reference(alpha: str) -> None:
    arrays, _ = fixtures.load('mask_background')
    name = f'out_alpha_{alpha}'
    expected = arrays[name] if name in arrays else arrays[f'{name}_first2']
    transform = MaskBackground(alpha=float(alpha))
    for mask, wanted in zip(arrays['poly_mask'], expected, strict=False):
        results = transform({'img': arrays['image_bgr'].copy(), 'mask': mask})
        np.testing.assert_array_equal(results['img'], wanted)


@pytest.mark.parametrize(
    'sample',
    [
        pytest.param({}, id='no mask'),
        pytest.param({'mask': None}, id='mask is None'),
        pytest.param({'mask': np.zeros((20, 30), bool)}, id='empty mask'),
        pytest.param({'segmentation': []}, id='empty segmentation'),
        pytest.param({'mask': np.ones((20, 30), np.uint8)}, id='full mask, 0/1 integers'),
    ],
)
def test_leaves_the_image_unchanged(image: np.ndarray, sample: dict) -> None:
    results = MaskBackground()({'img': image.copy(), **sample})
    np.testing.assert_array_equal(results['img'], image)


def test_a_demanded_mask_that_is_missing_is_an_error(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match='continue_on_failure'):
        MaskBackground(continue_on_failure=False)({'img': image})


def test_a_mask_of_another_size_is_an_error(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match='frame of the image'):
        MaskBackground()({'img': image, 'mask': np.ones((30, 20), bool)})


@pytest.mark.parametrize('kwargs', [{'alpha': 1.5}, {'prob': -0.1}])
def test_refuses_settings_out_of_range(kwargs: dict) -> None:
    with pytest.raises(ValueError, match='must be in'):
        MaskBackground(**kwargs)


def test_probability_zero_never_dims(image: np.ndarray) -> None:
    mask = np.zeros((20, 30), bool)
    mask[3:9, 4:12] = True
    results = MaskBackground(prob=0.0)({'img': image.copy(), 'mask': mask})
    np.testing.assert_array_equal(results['img'], image)


def test_polygons_and_rle_give_the_same_mask(image: np.ndarray) -> None:
    mask_utils = pytest.importorskip('pycocotools.mask')
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
