"""Islands and holes of soft masks."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.segmenters.cleanup import clean_logits


def soft_mask() -> np.ndarray:
    """A part of 400 px with a hole of 4, and islands of 60, 16 and 1 px: 473 px are on."""
    logits = np.full((60, 60), -3, np.float16)
    logits[2:22, 2:22] = 3
    logits[10:12, 10:12] = -3
    logits[30:36, 30:40] = 2
    logits[50:54, 2:6] = 1
    logits[50, 50] = 1
    return logits


@pytest.mark.parametrize(
    ('settings', 'areas'),
    [
        ({}, [396, 60, 16, 1]),
        ({'min_component_area': 16}, [396, 60, 16]),
        ({'min_component_area': 17}, [396, 60]),
        ({'min_component_area': 9999}, [396]),
        ({'min_component_fraction': 0.01}, [396, 60, 16]),
        ({'min_component_fraction': 0.1}, [396, 60]),
        ({'min_component_fraction': 0.9}, [396]),
        ({'min_component_area': 17, 'min_component_fraction': 0.01}, [396, 60]),
        ({'max_hole_area': 4}, [396, 60, 16, 1]),
        ({'max_hole_area': 5}, [400, 60, 16, 1]),
        ({'max_hole_area': 9999}, [400, 60, 16, 1]),
    ],
)
def test_parts_below_the_limits_go(settings: dict, areas: list) -> None:
    cleaned = clean_logits(soft_mask(), **{'min_component_area': 0, 'max_hole_area': 0, **settings})
    places = (np.s_[:24, :24], np.s_[25:45, 25:45], np.s_[46:, :20], np.s_[46:, 40:])
    found = [int((cleaned[place] > 0).sum()) for place in places]
    assert [area for area in found if area] == areas


def test_cleaned_pixels_are_hardly_off_and_hardly_on() -> None:
    before = soft_mask()
    after = clean_logits(before, 17, 5)
    changed = after != before
    assert changed.sum() == 16 + 1 + 4
    assert (np.abs(after[changed]) < 0.01).all()
    assert (before == soft_mask()).all()


def test_an_empty_crop_stays_empty() -> None:
    assert clean_logits(np.zeros((0, 0), np.float16), 5, 5, 0.1).shape == (0, 0)
