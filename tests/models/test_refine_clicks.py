"""The clicks of PoseMaskRefine: position, label and choice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.segmenters.prompts import METHODS, select_keypoints
from pipeline.training.pose2seg.clicks import (
    ClickSimulator,
    ClickTargets,
    PoseMaskRefine,
    draw_uniform_pixels,
    keypoint_ranks,
)

SIDE = 32
K = 17


def people(masks, keypoints=None, visibility=None, seeds=None):
    masks = torch.as_tensor(np.asarray(masks), dtype=torch.bool)
    count = len(masks)
    keypoints = torch.zeros(count, K, 2) if keypoints is None else keypoints
    visibility = torch.zeros(count, K) if visibility is None else visibility
    return ClickTargets(masks, keypoints, visibility, range(count) if seeds is None else seeds)


def half():
    """A person who fills the left half of the square."""
    mask = np.zeros((1, SIDE, SIDE), bool)
    mask[..., : SIDE // 2] = True
    return mask


def with_keypoints(points):
    """Keypoints {index: (x, y, visibility)} of one person."""
    keypoints, visibility = torch.zeros(1, K, 2), torch.zeros(1, K)
    for index, (x, y, visible) in points.items():
        keypoints[0, index] = torch.tensor([x, y])
        visibility[0, index] = visible
    return keypoints, visibility


def random_masks(rng, count):
    """Blobs, single pixels, one-pixel lines and full squares."""
    masks = np.zeros((count, SIDE, SIDE), bool)
    for mask in masks:
        kind = rng.integers(4)
        y, x = rng.integers(0, SIDE, 2)
        if kind == 0:
            mask[y, x] = True
        elif kind == 1:
            mask[y] = True
        elif kind == 2:
            mask[:] = True
        else:
            mask[:] = rng.random((SIDE, SIDE)) < rng.choice([0.01, 0.5])
            mask[y, x] = True
    return masks


@pytest.mark.parametrize('keypoint_prob', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('choice', ['random', 'most_visible'])
def test_every_click_lies_in_the_region_it_was_drawn_for(keypoint_prob, choice):
    rng = np.random.default_rng(0)
    masks = random_masks(rng, 60)
    masks_t = torch.from_numpy(masks)
    keypoints = torch.from_numpy(rng.uniform(-3, SIDE + 3, (60, K, 2)).astype(np.float32))
    visibility = torch.from_numpy(rng.random((60, K)).astype(np.float32))
    config = PoseMaskRefine(keypoint_prob=keypoint_prob, choice=choice, gt_prob=0.3)
    simulator = ClickSimulator(people(masks, keypoints, visibility), config)
    simulator.first()
    rows = torch.arange(60)
    for number in range(1, 1 + config.num_corrections):
        # Also nothing, everything and exactly the person predicted.
        logits = torch.from_numpy(rng.normal(size=(60, SIDE, SIDE)).astype(np.float32))
        logits[:10], logits[10:20] = -1.0, 1.0
        logits[20:30] = masks_t[20:30].float() - 0.5
        region = simulator.region(logits, simulator._noise[:, number])
        points, labels = simulator.correct(logits)
        x, y = points[:, 0].floor().long().unbind(1)
        assert bool(region[rows, y, x].all())
        assert torch.equal(labels[:, 0] == 1, masks_t[rows, y, x])
        wrong = (logits > 0) != masks_t
        assert not bool((region & ~wrong & ~masks_t).any())
        assert torch.equal(region[20:30], masks_t[20:30])  # nothing is wrong there


def test_regions_have_the_size_of_the_input_not_of_the_decoder():
    """An error of one pixel is found, though the decoder's masks have a quarter of the side."""
    mask = half()
    mask[0, 5, 29] = True
    logits = torch.from_numpy(half()).float() * 2 - 1
    simulator = ClickSimulator(people(mask), PoseMaskRefine(gt_prob=0.0))
    simulator.first()
    points, labels = simulator.correct(logits)
    assert points.tolist() == [[[29.0, 5.0]]] and labels.tolist() == [[1]]


FIRST = [
    # the most visible keypoint, whatever the mask says
    ('most_visible', {5: (20.5, 3.0, 0.8), 9: (2.0, 2.0, 0.9)}, [2.0, 2.0]),
    ('most_visible', {5: (20.5, 3.0, 0.9), 9: (2.0, 2.0, 0.8)}, [20.5, 3.0]),
    # equal visibility: the lower index, as at inference
    ('most_visible', {5: (20.5, 3.0, 1.0), 9: (2.0, 2.0, 1.0)}, [20.5, 3.0]),
    # hidden keypoints (v = 1) do not count
    ('most_visible', {5: (20.5, 3.0, 0.3), 9: (2.0, 2.0, 0.6)}, [2.0, 2.0]),
    ('sampled', {5: (20.5, 3.0, 0.3), 9: (2.0, 2.0, 0.6)}, [2.0, 2.0]),
    # no visible keypoint, or uniform: a pixel of the person
    ('most_visible', {5: (20.5, 3.0, 0.3)}, None),
    ('sampled', {}, None),
    ('uniform', {5: (20.5, 3.0, 1.0)}, None),
]


@pytest.mark.parametrize(('first_click', 'points', 'expected'), FIRST)
def test_first_click(first_click, points, expected):
    config = PoseMaskRefine(first_click=first_click)
    clicks = ClickSimulator(people(half(), *with_keypoints(points)), config)
    point, label = clicks.first()
    assert label.tolist() == [[1]]
    if expected is None:
        x, y = point[0, 0].tolist()
        assert half()[0, int(y), int(x)] and x == int(x) and y == int(y)
    else:
        assert point[0, 0].tolist() == expected


MISSED, SURPLUS, RIGHT = 'missed', 'surplus', 'right'
CORRECTIONS = [
    # an unused keypoint in the error, label from the ground truth
    (MISSED, {5: (3, 3, 1.0), 9: (8, 8, 0.9)}, {}, [8, 8], 1),
    (SURPLUS, {5: (3, 3, 1.0), 9: (25, 8, 0.9)}, {}, [25, 8], 0),
    # of several the most visible
    (MISSED, {5: (3, 3, 1.0), 9: (8, 8, 0.7), 10: (9, 9, 0.9)}, {}, [9, 9], 1),
    # used, hidden and right ones do not count: a pixel of the error
    (MISSED, {5: (3, 3, 1.0)}, {}, None, 1),
    (MISSED, {5: (3, 3, 1.0), 9: (8, 8, 0.4)}, {}, None, 1),
    (SURPLUS, {5: (3, 3, 1.0), 9: (8, 8, 1.0)}, {}, None, 0),
    # SAM's own corrections
    (MISSED, {5: (3, 3, 1.0), 9: (8, 8, 0.9)}, {'keypoint_prob': 0.0}, None, 1),
    # nothing wrong, or the click lies in the ground-truth mask: keypoints and pixels of the person
    (RIGHT, {5: (3, 3, 1.0), 9: (8, 8, 0.9)}, {}, [8, 8], 1),
    (SURPLUS, {5: (3, 3, 1.0), 9: (25, 8, 1.0)}, {'gt_prob': 1.0}, None, 1),
    (SURPLUS, {5: (3, 3, 1.0), 9: (8, 8, 1.0)}, {'gt_prob': 1.0}, [8, 8], 1),
]


@pytest.mark.parametrize(('mistake', 'points', 'changes', 'expected', 'label'), CORRECTIONS)
def test_correction(mistake, points, changes, expected, label):
    config = PoseMaskRefine(**{'gt_prob': 0.0, 'choice': 'most_visible', **changes})
    ground_truth = torch.from_numpy(half())
    logits = {MISSED: -torch.ones(1, SIDE, SIDE), SURPLUS: torch.ones(1, SIDE, SIDE)}
    clicks = ClickSimulator(people(half(), *with_keypoints(points)), config)
    assert clicks.first()[0].tolist() == [[[3, 3]]]
    point, labels = clicks.correct(logits.get(mistake, ground_truth.float() * 2 - 1))
    assert labels.tolist() == [[label]]
    assert expected is None or point[0, 0].tolist() == expected
    if expected is None:
        assert point[0, 0].tolist() not in [[x, y] for x, y, _ in points.values()]


def test_a_keypoint_is_clicked_once_and_all_are_used_before_pixels():
    points = {i: (float(i), 2.0 * i, 0.5 + i / 40) for i in range(1, 6)}
    clicks = ClickSimulator(people(half(), *with_keypoints(points)), PoseMaskRefine(gt_prob=0.0))
    seen = [clicks.first()[0][0, 0].tolist()]
    nothing = -torch.ones(1, SIDE, SIDE)
    seen += [clicks.correct(nothing)[0][0, 0].tolist() for _ in range(7)]
    assert sorted(seen[:5]) == [[float(i), 2.0 * i] for i in range(1, 6)]
    assert not clicks.usable.any()


def test_ranks_are_those_of_inference():
    rng = np.random.default_rng(3)
    keypoints = torch.from_numpy(rng.uniform(0, SIDE, (20, K, 2)).astype(np.float32))
    visibility = torch.from_numpy(rng.random((20, K)).astype(np.float32))
    for method in METHODS:
        config = PoseMaskRefine(method=method)
        ranks = keypoint_ranks(keypoints, visibility, config)
        for row in range(20):
            visible = visibility[row].numpy()
            order = select_keypoints(keypoints[row].numpy(), visible, visible, method=method)
            assert ranks[row, order].tolist() == list(range(len(order)))
            assert (ranks[row] < K).sum() == len(order)


def test_choices_are_even_and_reach_all_candidates():
    points = {i: (float(i), 2.0, 1.0) for i in range(1, 5)}
    keypoints, visibility = with_keypoints(points)
    count = 2000
    crowd = people(
        half().repeat(count, 0), keypoints.expand(count, -1, -1), visibility.expand(count, -1)
    )
    clicks = ClickSimulator(
        crowd, PoseMaskRefine(gt_prob=0.0, first_click='sampled', choice='random')
    )
    first = clicks.first()[0][:, 0, 0]
    assert all(abs((first == i).float().mean() - 0.25) < 0.04 for i in range(1, 5))
    second = clicks.correct(-torch.ones(count, SIDE, SIDE))[0][:, 0, 0]
    assert all(abs((second == i).float().mean() - 0.25) < 0.04 for i in range(1, 5))
    assert not (first == second).any()
    pixels = draw_uniform_pixels(crowd.masks, torch.rand(count, generator=torch.manual_seed(0)))
    assert 0.4 < (pixels[:, 0] < SIDE / 4).float().mean() < 0.6


def test_the_last_pixel_is_drawn_for_the_largest_number_below_one():
    region = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    region[0, 3, 4] = region[0, 30, 31] = True
    largest = torch.tensor([float(np.nextafter(np.float32(1), np.float32(0)))])
    assert draw_uniform_pixels(region, largest).tolist() == [[31, 30]]
    assert draw_uniform_pixels(region, torch.zeros(1)).tolist() == [[4, 3]]


def test_clicks_depend_only_on_the_seed_of_the_person():
    rng = np.random.default_rng(1)
    masks = random_masks(rng, 6)
    logits = torch.from_numpy(rng.normal(size=(6, SIDE, SIDE)).astype(np.float32))
    seeds = [5, 9, 9, 2, 77, 1]

    def clicks(rows):
        crowd = people(masks[rows], seeds=[seeds[row] for row in rows])
        simulator = ClickSimulator(crowd, PoseMaskRefine())
        return torch.cat([simulator.first()[0], simulator.correct(logits[rows])[0]], dim=1)

    assert torch.equal(clicks([0, 1, 2, 3, 4, 5])[[4, 1]], clicks([4, 1]))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'first_click': 'center'}, 'clicks.first_click must be one of'),
        ({'choice': 'best'}, 'clicks.choice must be one of'),
        ({'method': 'x'}, 'clicks.method must be one of'),
        ({'gt_prob': 1.5}, 'clicks.gt_prob must be in'),
        ({'keypoint_prob': -1}, 'clicks.keypoint_prob must be in'),
        ({'num_corrections': -1}, 'clicks.num_corrections must be >= 0'),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        PoseMaskRefine(**settings)
