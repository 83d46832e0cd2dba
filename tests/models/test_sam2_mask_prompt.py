"""Prompts drawn as a mask."""

from __future__ import annotations

import torch

from pipeline.segmenters.sam2_mask_prompt import draw_mask_prompt


def cell(x, y):
    """Row and column of the mask cell that a pixel of the square lies in."""
    return y // 4, x // 4


def test_points_stand_out_and_negatives_take_away():
    points = torch.tensor([[[40.0, 40.0], [40.0, 100.0], [100.0, 40.0]]])
    prior = draw_mask_prompt(points, torch.tensor([[1, 1, 0]]), 128)
    assert prior.shape == (1, 1, 32, 32) and prior.abs().max() <= 8
    assert prior[0, 0][cell(40, 40)] > 5 and prior[0, 0][cell(40, 100)] > 5
    assert prior[0, 0][cell(100, 40)] < -5 and prior[0, 0][cell(120, 120)] < -5


def test_blobs_grow_with_the_distance_of_the_points():
    near, far = (torch.tensor([[[64.0 - d, 64.0], [64.0 + d, 64.0]]]) for d in (8, 32))
    labels = torch.ones(1, 2, dtype=torch.long)
    areas = [int((draw_mask_prompt(points, labels, 128) > 0).sum()) for points in (near, far)]
    assert areas[1] > 2 * areas[0] > 0


def test_points_as_close_as_those_of_a_face_say_little_more_than_one():
    face = torch.tensor([[[64.0, 64.0], [66.0, 62.0], [62.0, 62.0]]])
    areas = [
        int((draw_mask_prompt(face[:, :n], torch.ones(1, n, dtype=torch.long), 128) > 0).sum())
        for n in (1, 3)
    ]
    assert 0.6 * areas[0] < areas[1] < 1.2 * areas[0]
    # A box says how large the person is.
    box, labels = torch.tensor([[16.0, 16.0, 112.0, 112.0]]), torch.ones(1, 3, dtype=torch.long)
    with_box, without = (draw_mask_prompt(face, labels, 128, b)[0, 0] for b in (box, None))
    assert with_box[cell(76, 64)] < 4.1 and without[cell(76, 64)] > 0


def test_box_is_filled_and_equals_its_labelled_corners():
    box = torch.tensor([[16.0, 32.0, 48.0, 96.0]])
    nothing = torch.zeros(1, 0, 2), torch.zeros(1, 0, dtype=torch.long)
    prior = draw_mask_prompt(*nothing, 128, box)
    inside = prior[0, 0] > 0
    assert inside[8:24, 4:12].all() and int(inside.sum()) == 16 * 8
    corners = draw_mask_prompt(box.reshape(1, 2, 2), torch.tensor([[2, 3]]), 128)
    assert torch.equal(prior, corners)


def test_padding_changes_nothing():
    points = torch.tensor([[[40.0, 40.0]]])
    padded = torch.cat([points, torch.full((1, 2, 2), 7.0)], dim=1)
    one = draw_mask_prompt(points, torch.tensor([[1]]), 128)
    assert torch.equal(one, draw_mask_prompt(padded, torch.tensor([[1, -1, -1]]), 128))


def test_no_objects():
    assert draw_mask_prompt(torch.zeros(0, 2, 2), torch.zeros(0, 2), 128).shape == (0, 1, 32, 32)
