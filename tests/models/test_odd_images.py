"""Images whose sides the models cannot take directly."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.api import LoadedPipeline, load_pipeline
from pipeline.poses import mmpose_estimator


@pytest.fixture(scope='module')
def pipeline() -> LoadedPipeline:
    return load_pipeline('bmp_compact', device='cpu')


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize('shape', [(5, 12_000), (12_000, 5), (2, 3000), (1, 1300), (20, 70_000)])
@pytest.mark.parametrize('boxes', [None, [[0, 0, 1, 1.5]]])
def test_images_thinner_than_the_detector_can_scale(
    shape: tuple[int, int], boxes: list[list[float]] | None, pipeline: LoadedPipeline
) -> None:
    with pytest.raises(ValueError, match=rf'{shape[1]} x {shape[0]} px, too thin for the detector'):
        pipeline(noise(*shape), boxes=boxes)


@pytest.mark.parametrize('shape', [(1, 1), (2, 2), (1, 640), (640, 1), (60, 35_000)])
def test_thin_images_are_computed(shape: tuple[int, int], pipeline: LoadedPipeline) -> None:
    assert pipeline(noise(*shape)).image_shape == shape


@pytest.mark.parametrize('turned', [False, True])
def test_people_in_an_image_beyond_the_limit_of_opencv(
    turned: bool, pipeline: LoadedPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, box = np.full((300, 33_000, 3), 90, np.uint8), np.array([[32_100, 40, 32_200, 260]])
    image[:, 32_000:32_300] = noise(300, 300)
    if turned:
        image, box = image.swapaxes(0, 1).copy(), box[:, [1, 0, 3, 2]]
    start = np.array([0, 31_700] if turned else [31_700, 0])
    part = image[31_700:] if turned else image[:, 31_700:]
    (found,) = pipeline.predict_batch([image], boxes=[box])
    (expected,) = pipeline.predict_batch([part], boxes=[box - np.tile(start, 2)])
    assert len(found) == len(expected) == 1
    # Coordinates of five digits are rounded to 1/256 px.
    np.testing.assert_allclose(found.keypoints - start, expected.keypoints, atol=0.1)
    limit = mmpose_estimator.OPENCV_MAX_SIDE
    assert min(limit, *image.shape[:2]) < limit < max(image.shape[:2])
