"""Compact masks: every operation equals the dense one."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pipeline.masks import LogitMasks, Masks, assign_pixels, claim_pixels, stack_masks

SHAPE = (23, 31)


def dense_cases() -> dict[str, np.ndarray]:
    nothing = np.zeros(SHAPE, bool)
    blob, corner, column = nothing.copy(), nothing.copy(), nothing.copy()
    blob[5:12, 7:20] = corner[-1, -1] = column[:, 0] = True
    ring = blob.copy()
    ring[7:10, 9:18] = False
    return {
        'empty': nothing,
        'full': ~nothing,
        'blob': blob,
        'last pixel': corner,
        'first pixel': corner[::-1, ::-1],
        'ring': ring,
        'noise': np.random.default_rng(0).random(SHAPE) < 0.3,
        'first column': column,
    }


def random_masks() -> Iterator[np.ndarray]:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        shape = (int(rng.integers(1, 70)), int(rng.integers(1, 70)))
        yield rng.random(shape) < rng.choice([0.02, 0.5, 0.95])


def uncompressed(mask: np.ndarray) -> dict[str, object]:
    """COCO RLE with a list of counts, which begin with those that are off."""
    flat = mask.ravel(order='F').astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
    return {'size': list(mask.shape), 'counts': np.diff(np.concatenate([[0], edges])).tolist()}


@pytest.mark.parametrize('mask', [*dense_cases().values(), *random_masks()])
def test_one_mask_survives_every_format(mask: np.ndarray) -> None:
    masks = Masks.from_dense([mask], mask.shape)
    assert (masks.dense(0) == mask).all()
    assert masks.areas.tolist() == [mask.sum()]
    rle = masks.to_rle()[0]
    expected = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert rle['counts'].encode() == expected['counts']
    for form in (rle, {**rle, 'counts': expected['counts']}, uncompressed(mask)):
        again = Masks.from_rle([form], mask.shape)
        assert (again.dense(0) == mask).all()
        assert again.crops[0].shape == masks.crops[0].shape
    x, y, w, h = coco_mask.toBbox(expected)
    assert masks.boxes[0].tolist() == [x, y, x + w, y + h]


@pytest.mark.parametrize(
    ('rle', 'message'),
    [
        ({'size': [4, 4], 'counts': [1, 2]}, 'cover 3 of 16 px'),
        ({'size': [4, 4], 'counts': [-1, 17]}, r'runs in \[0, 16\]'),
        ({'size': [4, 4], 'counts': 'zz'}, ''),
        ({'size': [4, 5], 'counts': [20]}, r'size \[4, 5\] for an image of \[4, 4\]'),
    ],
)
def test_damaged_masks_are_refused(rle: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Masks.from_rle([rle], (4, 4))


def test_coding_costs_the_crop_and_not_the_photo() -> None:
    masks = Masks.from_places(6000, 8000, [(4000, 3000, np.ones((40, 20), bool))])
    tracemalloc.start()
    Masks.from_rle(masks.to_rle(), (6000, 8000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000  # 20 columns of 6000 px in a few copies; the photo has 48 million px


def test_rows_are_selected_and_joined() -> None:
    all_masks = list(dense_cases().values())
    masks = Masks.from_dense(all_masks, SHAPE)
    picked = masks.select(np.array([3, 0])).concat(masks.select(np.array([False] * 7 + [True])))
    for i, source in enumerate((3, 0, 7)):
        assert (picked.dense(i) == all_masks[source]).all()
    assert (masks.union() == np.any(all_masks, axis=0)).all()
    assert len(masks.select(np.zeros(0, int))) == 0


@pytest.mark.parametrize('window', [(0, 23, 0, 31), (6, 9, 8, 30), (0, 5, 0, 7), (22, 23, 30, 31)])
def test_a_part_of_a_mask_is_cut_out(window: tuple[int, int, int, int]) -> None:
    masks = Masks.from_dense(list(dense_cases().values()), SHAPE)
    rows, cols = slice(*window[:2]), slice(*window[2:])
    for i in range(len(masks)):
        assert (masks.crop(i, (rows, cols)) == masks.dense(i)[rows, cols]).all()


def test_masks_of_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r'31x23.*5x4'):
        Masks.empty(*SHAPE).concat(Masks.empty(4, 5))


def test_boxes_become_masks_inside_the_image() -> None:
    boxes = np.array([[-5, -5, 3, 2], [2.2, 3.1, 4.5, 4.2], [40, 40, 50, 50]], np.float32)
    masks = Masks.from_boxes(boxes, SHAPE)
    assert masks.boxes.tolist() == [[0, 0, 3, 2], [2, 3, 5, 5], [0, 0, 0, 0]]


def test_the_share_under_a_canvas() -> None:
    masks = Masks.from_dense(list(dense_cases().values()), SHAPE)
    canvas = np.zeros(SHAPE, bool)
    canvas[:, :16] = True
    expected = [m[canvas].sum() / max(m.sum(), 1) for m in dense_cases().values()]
    assert masks.covered(canvas).tolist() == pytest.approx(expected)


def test_each_pixel_goes_to_the_highest_logit() -> None:
    logits = np.random.default_rng(1).normal(0.3, 1, (5, *SHAPE)).astype(np.float16)
    rows = LogitMasks.from_crops(*SHAPE, [(0, 0, row) for row in logits])
    winner = np.where((logits > 0).any(0), logits.argmax(0), -1)
    shared, reversed_rows = assign_pixels(rows), assign_pixels(rows.select(np.arange(5)[::-1]))
    for i in range(5):  # no ties among these logits: the order of people changes nothing
        assert (shared.dense(i) == (winner == i)).all()
        assert (reversed_rows.dense(4 - i) == shared.dense(i)).all()


def test_a_higher_weight_wins_a_disputed_pixel_but_claims_no_others() -> None:
    places = [(0, 0, np.full((4, 6), 3.0)), (2, 0, np.full((4, 6), 4.0))]
    rows = LogitMasks.from_crops(4, 10, places)
    plain, weighted = assign_pixels(rows), assign_pixels(rows, np.array([0.5, 0.01]))
    assert plain.areas.tolist() == [8, 24]
    assert weighted.areas.tolist() == [24, 8]
    assert np.array_equal(weighted.union(), plain.union())


@pytest.mark.parametrize('weighted', [False, True])
def test_claims_hold_the_result_of_every_subset(weighted: bool) -> None:
    """Logits are small integers, so that many pixels are tied."""
    rng = np.random.default_rng(0)
    places = [(x, y, rng.integers(-1, 4, (12, 10))) for x, y in rng.integers(0, 9, (6, 2)).tolist()]
    rows, order = LogitMasks.from_crops(21, 19, places), rng.permutation(6)
    weights = rng.choice([0.5, 1.0], 6) if weighted else None
    claims = claim_pixels(rows, order, weights)
    for number in range(7):
        kept = np.sort(order[:number]).tolist()
        expected = assign_densely(rows, kept, weights)
        stacked = stack_masks(claims.select(np.arange(number)))
        for place, row in enumerate(order[:number].tolist()):
            assert (stacked.dense(place) == expected[kept.index(row)]).all()


def assign_densely(
    rows: LogitMasks, kept: list[int], weights: np.ndarray | None
) -> list[np.ndarray]:
    """Argmax over dense float16 logits; the first row wins a tie."""
    dense = np.zeros((len(kept) + 1, rows.height, rows.width), np.float16)  # row 0: background
    for canvas, i in zip(dense[1:], kept, strict=True):
        factor = np.float16(1 if weights is None else weights[i])
        canvas[rows.window(i)] = rows.crops[i] * factor
    winner = dense.argmax(0)
    return [winner == i + 1 for i in range(len(kept))]
