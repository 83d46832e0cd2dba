"""The codec of PMPose: targets for any convention, and expected OKS by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from mmpose.registry import KEYPOINT_CODECS

from pipeline.openmmlab import scope_of
from pipeline.poses.oks_heatmap import (
    OKSArgMaxHeatmap,
    expected_oks,
    oks_spreads,
    refine_peaks,
)

SIZE = (48, 64)


def codec(**kwargs: object) -> OKSArgMaxHeatmap:
    return OKSArgMaxHeatmap((192, 256), SIZE, **kwargs)


def test_the_codec_is_found_by_its_released_name() -> None:
    cfg = {'type': 'OKSArgMaxHeatmap', 'input_size': (192, 256), 'heatmap_size': SIZE, 'sigma': -1}
    with scope_of('mmpose'):
        assert isinstance(KEYPOINT_CODECS.build(cfg), OKSArgMaxHeatmap)


@pytest.mark.parametrize('k', [17, 21, 23])
@pytest.mark.parametrize('decode', ['argmax', 'expected_oks'])
def test_points_survive_encoding_and_decoding(k: int, decode: str) -> None:
    points = np.random.default_rng(k).uniform([20, 20], [170, 235], (1, k, 2))
    encoded = codec().encode(points, np.ones((1, k)))
    assert encoded['heatmaps'].shape == (k, 64, 48)
    assert encoded['heatmaps'].max() == 1
    assert encoded['keypoint_weights'].tolist() == [[1.0] * k]
    found, scores = codec(decode=decode).decode(encoded['heatmaps'])
    assert found.shape == (1, k, 2) and scores.shape == (1, k)
    # The released way back from heat-map px stretches by 192 / 191; the rest is sub-pixel error.
    stretched = points * np.array([192 / 191, 256 / 255])
    assert np.abs(found - stretched).max() < (0.2 if decode == 'expected_oks' else 1.5)


def test_flags_of_the_points() -> None:
    points = np.zeros((1, 17, 2)) + 50
    points[0, 1] = (-3, 20)
    points[0, 2] = (5000, 5000)
    levels = np.full((1, 17), 2.0)
    levels[0, 3:5] = (0, 1)
    encoded = codec().encode(points, levels)
    flags = {k: v[0, :5].tolist() for k, v in encoded.items() if k != 'heatmaps'}
    assert flags == {
        'keypoint_weights': [1, 1, 0, 0, 1],
        'keypoints_annotated': [1, 1, 1, 0, 1],
        'keypoints_in_image': [1, 0, 0, 1, 1],
        'keypoints_visibility': [1, 1, 1, 0, 0],
    }
    assert not encoded['heatmaps'][3].any()


def test_spreads_are_those_of_the_formula() -> None:
    nose, shoulder, hip = oks_spreads([0.026, 0.079, 0.107], SIZE)
    assert nose == 0.55
    assert shoulder == pytest.approx(8 * 0.079**2 * math.sqrt(64 * 48) / 1.25)
    assert hip == 3.0


def brute_force(probability: np.ndarray, spread: float) -> np.ndarray:
    """Expected OKS of every px, px by px."""
    height, width = probability.shape
    result = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            for v in range(height):
                for u in range(width):
                    distance = (x - u) ** 2 + (y - v) ** 2
                    result[y, x] += probability[v, u] * math.exp(-distance / (2 * spread))
    return result


def test_expected_oks_equals_the_double_sum() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((3, 7, 9)) ** 4
    maps[1, 2:, :] = 0
    maps[2] -= 0.2  # negative values count as nothing
    spreads = np.array([0.55, 1.3, 3.0])
    positive = maps.clip(min=0)
    for k, expected in enumerate(expected_oks(maps, spreads)):
        wanted = brute_force(positive[k] / positive[k].sum(), spreads[k])
        np.testing.assert_allclose(expected, wanted, atol=1e-12)
    assert not expected_oks(np.zeros((1, 4, 4)), spreads[:1]).any()


def two_hills() -> np.ndarray:
    """A sharp peak at (10, 10) and a broad hill around (35, 45) with more mass."""
    ys, xs = np.mgrid[:64, :48]
    hill = np.exp(-((xs - 35) ** 2 + (ys - 45) ** 2) / (2 * 4.0))
    heatmap = 0.8 * hill / hill.sum()
    heatmap[10, 10] = 0.2
    return heatmap[None].repeat(17, 0)


def test_expected_oks_prefers_the_hill_and_arg_max_the_peak() -> None:
    hip = 11
    (points,), (peaks,) = codec().decode(two_hills().astype(np.float32))
    assert points[hip] == pytest.approx([10 / 47 * 192, 10 / 63 * 256], abs=0.5)
    assert peaks[hip] == pytest.approx(0.2)
    (points,), (expected,) = codec(decode='expected_oks').decode(two_hills())
    assert points[hip] == pytest.approx([35 / 47 * 192, 45 / 63 * 256], abs=0.1)
    # 0.8 of the mass, a Gaussian of variance 4, under a kernel of variance 3.
    assert expected[hip] == pytest.approx(0.8 * 3 / (3 + 4), rel=0.01)
    # For the eye, whose kernel is narrow, the sharp peak is worth more: it keeps all of 0.2.
    assert points[1] == pytest.approx([10 / 47 * 192, 10 / 63 * 256], abs=0.1)
    assert expected[1] == pytest.approx(0.2)


def test_a_map_at_one_px_expects_the_kernel_itself() -> None:
    heatmap = np.zeros((17, 64, 48))
    heatmap[:, 20, 30] = 1
    (points,), scores = codec(decode='expected_oks').decode(heatmap)
    np.testing.assert_allclose(points, [[30 / 47 * 192, 20 / 63 * 256]] * 17)
    np.testing.assert_allclose(scores, 1)


@pytest.mark.parametrize('centre', [(12.3, 20.8), (0.0, 30.25), (47.0, 63.0), (23.5, 0.2)])
def test_refinement_is_exact_for_a_gaussian(centre: tuple[float, float]) -> None:
    ys, xs = np.mgrid[:64, :48]
    heatmap = np.exp(-((xs - centre[0]) ** 2 + (ys - centre[1]) ** 2) / 5)
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    refined = refine_peaks(heatmap[None], np.array([[x, y]]))[0]
    wanted = [c if 0 < p < n - 1 else p for c, p, n in zip(centre, (x, y), SIZE, strict=True)]
    np.testing.assert_allclose(refined, wanted, atol=1e-9)


@pytest.mark.parametrize('decode', ['argmax', 'expected_oks'])
def test_an_empty_map_gives_numbers_and_no_score(decode: str) -> None:
    found, scores = codec(decode=decode).decode(np.zeros((17, 64, 48), np.float32))
    assert np.isfinite(found).all()
    assert not scores.any()


@pytest.mark.parametrize(
    ('kwargs', 'people', 'message'),
    [
        ({'decode': 'mean'}, 1, 'argmax, expected_oks'),
        ({'sigmas': [0.1] * 3}, 1, '3 sigmas for 17'),
        ({}, 2, 'one person'),
    ],
)
def test_wrong_input_is_refused(kwargs: dict, people: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        codec(**kwargs).encode(np.zeros((people, 17, 2)))
