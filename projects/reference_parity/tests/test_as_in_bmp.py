"""Small cases of what the reference does differently; the rows compare recorded ones."""

from __future__ import annotations

import numpy as np

from projects.reference_parity.as_in_bmp import MaskBackgroundAsInBMP, redrawn_outline


def test_a_mask_without_an_area_between_its_centres_leaves_the_image_unchanged() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    mask = np.zeros((20, 30), bool)
    mask[5, 5:20] = True
    results = MaskBackgroundAsInBMP()({'img': image.copy(), 'mask': mask})
    np.testing.assert_array_equal(results['img'], image)


def test_the_outline_closes_holes_and_loses_an_edge() -> None:
    mask = np.zeros((20, 30), bool)
    mask[2:12, 4:16] = True
    mask[5:8, 7:10] = False
    expected = np.zeros((20, 30), bool)
    expected[2:11, 4:15] = True
    np.testing.assert_array_equal(redrawn_outline(mask), expected)
