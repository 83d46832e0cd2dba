"""The shared SAM 2 forward functions against the stock predictor, random weights."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.segmenters.build_sam2 import build_sam2_model
from pipeline.segmenters.sam2_forward import decode_prompts, embed_images
from pipeline.segmenters.sam2_preprocess import (
    boxes_to_square,
    logits_to_image,
    points_to_square,
    preprocess_images,
)

COMPACT = Path(__file__).parents[2] / 'configs' / 'compact' / 'sam2.1_hiera_compact.yaml'
POINTS = np.array([[[30.5, 40.0], [61.0, 20.0]], [[5.0, 9.0], [100.0, 70.0]]], dtype=np.float32)
LABELS = np.array([[1, 0], [1, 1]], dtype=np.int32)
BOXES = np.array([[3.0, 4.0, 90.0, 77.0], [20.0, 2.0, 119.0, 79.0]], dtype=np.float32)


@pytest.fixture(scope='module')
def image():
    return np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8)


@pytest.fixture(scope='module')
def stock(image):
    """The stock predictor at 1024 px with random weights and its image set."""
    torch.manual_seed(0)
    model = build_sam2_model('sam2.1_hiera_t', None, 'cpu')
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # it compiles its transforms with the deprecated torch.jit
        predictor = SAM2ImagePredictor(model)
    predictor.set_image(image)
    return predictor


@pytest.fixture(scope='module')
def stock_embedding(stock, image):
    with torch.no_grad():
        return embed_images(stock.model, preprocess_images([image], 1024))


@pytest.fixture(scope='module')
def compact():
    torch.manual_seed(0)
    return build_sam2_model(COMPACT, None, 'cpu')


def tensors(points, labels, size):
    return {
        'point_coords': points_to_square(torch.from_numpy(points), (80, 120), size),
        'point_labels': torch.from_numpy(labels),
    }


def test_preprocessing_equals_stock_transforms(stock, image):
    pixels = preprocess_images([image], 1024)
    assert (pixels - stock._transforms(image)[None]).abs().max() < 1e-5
    points = torch.from_numpy(POINTS)
    expected = stock._transforms.transform_coords(points, normalize=True, orig_hw=(80, 120))
    assert torch.equal(points_to_square(points, (80, 120), 1024), expected)


@pytest.mark.parametrize('multimask', [False, True])
@pytest.mark.parametrize('prompt', ['points', 'one_object', 'boxes', 'points_and_boxes', 'mask'])
@torch.no_grad()
def test_equals_stock_predictor_at_1024(stock, stock_embedding, prompt, multimask):
    rows = slice(0, 1) if prompt in ('one_object', 'mask') else slice(0, 2)
    columns = slice(0, 0) if prompt == 'boxes' else slice(None)
    points, labels = POINTS[rows, columns], LABELS[rows, columns]
    box = BOXES[rows] if 'boxes' in prompt else None
    mask = np.linspace(-9, 9, 256 * 256, dtype=np.float32).reshape(1, 1, 256, 256)
    mask = mask if prompt == 'mask' else None
    clicks = (None, None) if prompt == 'boxes' else (points, labels)
    more = {'mask_input': None if mask is None else mask[0], 'multimask_output': multimask}
    _, stock_iou, stock_logits = stock.predict(*clicks, box=box, **more)

    logits, iou, _ = decode_prompts(
        stock.model,
        stock_embedding,
        image_index=0,
        **tensors(points, labels, 1024),
        boxes=None if box is None else boxes_to_square(torch.from_numpy(box), (80, 120), 1024),
        mask_inputs=None if mask is None else torch.from_numpy(mask),
        multimask_output=multimask,
    )

    # The stock predictor drops the object axis when there is only one object.
    difference = logits.clamp(-32, 32).numpy().reshape(stock_logits.shape) - stock_logits
    assert np.abs(difference).max() < 1e-5
    assert np.abs(iou.numpy().reshape(stock_iou.shape) - stock_iou).max() < 1e-5


@torch.no_grad()
def test_index_per_object_equals_one_image_at_a_time(compact, image):
    images = preprocess_images([image, image[::-1], image[:, ::-1]], 384)
    embedding = embed_images(compact, images)
    prompts = tensors(POINTS, LABELS, 384)
    together, iou, score = decode_prompts(
        compact, embedding, image_index=torch.tensor([2, 0]), **prompts
    )
    assert together.shape == (2, 1, 96, 96) and iou.shape == (2, 1) and score.shape == (2, 1)
    for row, index in enumerate([2, 0]):
        one = embed_images(compact, images[index : index + 1])
        prompt = {name: values[row : row + 1] for name, values in prompts.items()}
        single, _, _ = decode_prompts(compact, one, image_index=0, **prompt)
        assert (single[0] - together[row]).abs().max() < 1e-4


def test_gradients_reach_encoder_and_decoder(compact, image):
    embedding = embed_images(compact, preprocess_images([image], 384))
    logits, _, _ = decode_prompts(compact, embedding, image_index=0, **tensors(POINTS, LABELS, 384))
    logits.sum().backward()
    trunk = compact.image_encoder.trunk.patch_embed.proj.weight.grad
    assert trunk is not None and trunk.abs().sum() > 0
    compact.zero_grad()


def test_no_objects_give_empty_results(compact, image):
    embedding = embed_images(compact, preprocess_images([image], 384))
    logits, iou, score = decode_prompts(
        compact, embedding, image_index=0, **tensors(POINTS[:0], LABELS[:0], 384)
    )
    assert logits.shape == (0, 1, 96, 96) and iou.shape == (0, 1) and score.shape == (0, 1)
    assert logits_to_image(logits, (80, 120)).shape == (0, 1, 80, 120)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'point_labels': torch.ones(2, 3)}, 'point_labels'),
        ({'boxes': torch.zeros(1, 4)}, r'boxes \(2, 4\)'),
        ({'mask_inputs': torch.zeros(2, 1, 256, 256)}, r'\(2, 1, 96, 96\)'),
        ({'point_coords': torch.zeros(2, 0, 2), 'point_labels': torch.zeros(2, 0)}, 'no prompt'),
    ],
)
def test_bad_prompts_are_named(compact, image, change, message):
    embedding = embed_images(compact, preprocess_images([image], 384))
    with pytest.raises(ValueError, match=message):
        decode_prompts(
            compact, embedding, image_index=0, **{**tensors(POINTS, LABELS, 384), **change}
        )


def test_preprocessing_of_nothing_and_wrong_images(compact):
    assert preprocess_images([], 64).shape == (0, 3, 64, 64)
    with pytest.raises(ValueError, match=r'\(B, 3, 384, 384\)'):
        embed_images(compact, torch.zeros(1, 3, 1024, 1024))
    with pytest.raises(ValueError, match='uint8'):
        preprocess_images([np.zeros((4, 4, 3))], 64)
