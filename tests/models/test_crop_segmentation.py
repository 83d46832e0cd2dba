"""Segmentation in crops, with real SAM 2 models."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.config import CONFIG_FOLDER, ConfigError, load_config
from pipeline.masks import Masks
from pipeline.segmenters import sam2_segmenter
from pipeline.segmenters.build_sam2 import at_image_size, build_sam2_model
from pipeline.segmenters.crop_segmentation import (
    CropSegmentationConfig,
    boxes_of_places,
    first_windows,
    windows_around,
)
from pipeline.segmenters.prompts import PromptConfig
from pipeline.segmenters.sam2_forward import decode_prompts, embed_images
from pipeline.segmenters.sam2_segmenter import Sam2Segmenter, build_sam2_segmenter
from pipeline.structures import Poses

COMPACT = str(CONFIG_FOLDER / 'compact/sam2.1_cspnext_compact.yaml')
HIERA = str(CONFIG_FOLDER / 'compact/sam2.1_hiera_compact.yaml')
HEIGHT, WIDTH = 150, 210
WHOLE = [0, 0, WIDTH, HEIGHT]


@pytest.fixture
def image() -> np.ndarray:
    """Noise with a different colour in every corner."""
    image = np.random.default_rng(0).integers(0, 120, (HEIGHT, WIDTH, 3))
    image[: HEIGHT // 2, :, 0] += 100
    image[:, : WIDTH // 2, 1] += 100
    return image.astype(np.uint8)


def poses(*boxes: list[float]) -> Poses:
    """People with all keypoints inside of their boxes."""
    n, rng = len(boxes), np.random.default_rng(1)
    rows = np.asarray(boxes, np.float32).reshape(n, 4)
    places = rng.uniform(0.2, 0.8, (n, 17, 2))
    points = rows[:, None, :2] + places * (rows[:, None, 2:] - rows[:, None, :2])
    ones = np.ones((n, 17), np.float32)
    masks = Masks.empty(HEIGHT, WIDTH, n)
    return Poses(
        rows, np.ones(n, np.float32), masks, points.astype(np.float32), ones, ones, ones.copy()
    )


def segmenter(crops, use_box: bool = True, **options) -> Sam2Segmenter:
    torch.manual_seed(3)
    options |= {'crops': crops, 'mask_prompt_from_keypoints': True}
    return build_sam2_segmenter(COMPACT, None, PromptConfig(use_box=use_box), **options)


def logits_of(segments, row: int) -> np.ndarray:
    """Soft mask of one person in the whole image, -9 where it has none."""
    (x, y), crop = segments.logits.offsets[row], segments.logits.crops[row]
    whole = np.full((HEIGHT, WIDTH), -9, np.float32)
    whole[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    return whole


@pytest.mark.parametrize(
    'box, points, margin, expected',
    [
        ([50, 40, 90, 80], [[60, 50]], 1.0, [50, 40, 90, 80]),
        ([50, 40, 90, 80], [[60, 50]], 1.5, [40, 30, 100, 90]),
        ([60, 40, 80, 80], [[60, 50]], 1.5, [40, 30, 100, 90]),  # square, by the longer side
        ([50, 40, 90, 80], [[60, 50], [110, 60]], 1.0, [50, 30, 110, 90]),  # with every point
        ([0, 0, 40, 40], [[5, 5]], 2.0, [0, 0, 60, 60]),  # cut at the edge
        (WHOLE, [[5, 5]], 1.5, WHOLE),
        ([30.4, 30.4, 50.2, 40.9], [[35, 35]], 1.0, [30, 25, 51, 46]),
        ([70, 60, 70, 60], [[70, 60]], 1.5, [69, 59, 71, 61]),  # never empty
        ([300, 200, 310, 220], [[305, 210]], 1.5, [209, 149, 210, 150]),  # beside the image
    ],
)
def test_windows_hold_the_person(box, points, margin, expected):
    windows = windows_around(
        np.array([box], np.float32), np.array([points], np.float32), (HEIGHT, WIDTH), margin
    )
    assert windows.tolist() == [expected]
    assert windows.dtype == np.int32
    empty = windows_around(np.zeros((0, 4)), np.zeros((0, 3, 2)), (HEIGHT, WIDTH), margin)
    assert empty.shape == (0, 4)


@pytest.mark.parametrize(
    'points, expected',
    [
        ([[100, 70], [120, 70]], [70, 30, 150, 110]),  # 4 times as wide as they reach
        ([[100, 70], [102, 70]], [80, 49, 122, 91]),  # a fifth of 210 px
        ([[100, 70]], WHOLE),  # says nothing about the size
    ],
)
def test_the_first_window_is_around_the_points(points, expected):
    crops = CropSegmentationConfig(first_margin=4.0, first_fraction=0.2)
    windows = first_windows(np.array([points], np.float32), (HEIGHT, WIDTH), crops)
    assert windows.tolist() == [expected]


def test_boxes_of_soft_masks():
    crop = np.full((20, 30), -1, np.float16)
    crop[4:9, 10:12] = 2
    windows = np.array([WHOLE, [5, 6, 70, 80]], np.int32)
    boxes = boxes_of_places([(50, 40, crop), (0, 0, np.zeros((0, 0)))], windows)
    assert boxes.tolist() == [[60, 44, 62, 49], [5, 6, 70, 80]]


@pytest.mark.parametrize('config', [COMPACT, HIERA])
@pytest.mark.parametrize('size', [128, 192])
def test_a_model_for_another_size_shares_the_weights(config, size):
    torch.manual_seed(0)
    model = build_sam2_model(config, None, 'cpu')
    own_size = model.image_size
    other = at_image_size(model, size)
    built = build_sam2_model(config, None, 'cpu', image_size=size)
    built.load_state_dict(model.state_dict())
    assert built.image_size == size
    assert all(a is b for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert model.image_size == model.sam_prompt_encoder.input_image_size[0] == own_size
    pixels = torch.rand(2, 3, size, size)
    points, labels = torch.rand(2, 3, 2) * size, torch.ones(2, 3, dtype=torch.int32)
    drawn = torch.randn(2, 1, size // 4, size // 4)
    with torch.inference_mode():
        first, second = (
            decode_prompts(
                m, embed_images(m, pixels), image_index=torch.arange(2), point_coords=points,
                point_labels=labels, mask_inputs=drawn,
            )
            for m in (other, built)
        )  # fmt: skip
    for result, reference in zip(first, second, strict=True):
        torch.testing.assert_close(result, reference)


@pytest.mark.parametrize('size', [0, 100, -32])
def test_a_size_that_no_model_takes(size):
    message = f'image_size must be a positive multiple of 32, got {size}'
    with pytest.raises(ValueError, match=message):
        at_image_size(build_sam2_model(COMPACT, None, 'cpu'), size)
    with pytest.raises(ValueError, match=message):
        build_sam2_model(COMPACT, None, 'cpu', image_size=size)


@pytest.mark.parametrize('order', ['rgb', 'bgr'])
def test_a_crop_of_the_whole_image_equals_the_plain_segmenter(image, order):
    options = {'channel_order': order}
    close = segmenter(CropSegmentationConfig(image_size=384, margin=1.0), **options)
    plain = segmenter(None, **options)
    plain.model.load_state_dict(close.model.state_dict())
    found, expected = (s(image)(poses(WHOLE), poses()) for s in (close, plain))
    np.testing.assert_allclose(found.mask_scores, expected.mask_scores, atol=1e-5)
    np.testing.assert_allclose(logits_of(found, 0), logits_of(expected, 0), atol=0.01)


@pytest.mark.parametrize('order', ['rgb', 'bgr'])
def test_each_crop_equals_an_image_of_that_window(image, order):
    boxes = [20.0, 30.0, 80.0, 90.0], [120.0, 60.0, 190.0, 140.0], [100.0, 5.0, 130.0, 45.0]
    close = segmenter(
        CropSegmentationConfig(image_size=192, margin=1.4), batch_size=2, channel_order=order
    )
    found = close(image)(poses(*boxes), poses())
    options = {'mask_prompt_from_keypoints': True, 'channel_order': order}
    alone = Sam2Segmenter(close.crop_segmenter.model, close.prompt, **options)
    for row, pose in enumerate(poses(*boxes).select(np.array([i])) for i in range(3)):
        windows = windows_around(pose.boxes, pose.keypoints[:, :3], (HEIGHT, WIDTH), 1.4)
        x1, y1, x2, y2 = windows[0].tolist()
        shift = np.array([x1, y1], np.float32)
        window = image[y1:y2, x1:x2]
        moved = Poses(
            pose.boxes - np.tile(shift, 2), pose.box_scores,
            Masks.empty(y2 - y1, x2 - x1, 1), pose.keypoints - shift,
            pose.keypoint_scores, pose.presence, pose.visibility,
        )  # fmt: skip
        expected = alone(window)(moved, moved.select(np.zeros(0, int)))
        (x, y), crop = expected.logits.offsets[0], expected.logits.crops[0]
        whole = np.full((HEIGHT, WIDTH), -9, np.float32)
        whole[y1 + y : y1 + y + crop.shape[0], x1 + x : x1 + x + crop.shape[1]] = crop
        np.testing.assert_allclose(logits_of(found, row), whole, atol=0.02)
        assert found.mask_scores[row] == pytest.approx(expected.mask_scores[0], abs=1e-4)


def test_without_a_box_the_window_is_around_a_first_mask(image, monkeypatch):
    shapes: list[list[tuple[int, int]]] = []

    def preprocess(images, side, *_):
        shapes.append([crop.shape[:2] for crop in images])
        return torch.zeros(len(images), 3, side, side)

    def decode(_, __, *, point_coords, **___):
        """Of the first window the middle fifth, of the second nothing is the person."""
        logits = torch.full((len(point_coords), 1, 48, 48), -1.0)
        logits[0, 0, 19:29, 19:29] = 2
        return logits, torch.full((len(point_coords), 1), 0.5), None

    monkeypatch.setattr(sam2_segmenter, 'preprocess_images', preprocess)
    monkeypatch.setattr(sam2_segmenter, 'decode_prompts', decode)
    crops = CropSegmentationConfig(image_size=192, margin=1.0, first_margin=2.0)
    close = segmenter(crops, use_box=False)
    people = poses([90, 60, 120, 90], [90, 60, 120, 90])
    points = np.array([[95, 65], [115, 85], [105, 75]], np.float32)
    people.keypoints[:, :3] = points
    people.visibility[:, 3:] = 0
    assert len(close(image)(people, poses())) == 2
    first, second = shapes
    # 0.36 of 210 px around (105, 75); the middle 10 of 48 cells of that are less than the points.
    assert first == [(76, 76), (76, 76)]
    assert second[0] == pytest.approx((20, 20), abs=2)
    assert second[1] == first[1]


@pytest.mark.parametrize(
    'option, message',
    [
        (
            {'image_size': 100},
            'crop_segmentation.image_size must be a positive multiple of 32, got 100',
        ),
        ({'margin': 0.9}, 'crop_segmentation.margin must be >= 1, got 0.9'),
        ({'first_margin': 0.5}, 'crop_segmentation.first_margin must be >= 1, got 0.5'),
        ({'first_fraction': 0}, 'crop_segmentation.first_fraction must be in'),
        ({'scale': 2}, "unknown setting 'segmenter.crop_segmentation.scale'"),
        (3, 'segmenter.crop_segmentation must be a dict or None, got 3'),
        (False, 'off is None, never False'),
    ],
)
def test_settings_are_checked(option, message):
    with pytest.raises(ConfigError, match=message):
        load_config('bmp_compact', {'segmenter.crop_segmentation': option})


def test_it_can_be_switched_off_and_on():
    for name, option, expected in [
        ('bmp_compact', {'segmenter.crop_segmentation': None}, None),
        ('bmp_v2', {'segmenter.crop_segmentation.margin': 2.0}, CropSegmentationConfig(margin=2.0)),
    ]:
        assert load_config(name, option).settings.segmenter.crop_segmentation == expected
