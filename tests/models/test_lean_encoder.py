"""The lean image encoder gives what the stock one gives."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from pipeline.segmenters.build_sam2 import build_sam2_model
from pipeline.segmenters.grouped_blocks import MAX_BYTES
from pipeline.segmenters.lean_encoder import NoPositions, lean_encoder
from pipeline.segmenters.sam2_forward import decode_prompts, embed_images

COMPACT = Path(__file__).parents[2] / 'configs' / 'compact'


def outputs(model, images):
    embedding = embed_images(model, images)
    points, labels = torch.tensor([[[20.0, 30.0]], [[90.0, 60.0]]]), torch.ones(2, 1).int()
    logits, quality, _ = decode_prompts(
        model, embedding, image_index=0, point_coords=points, point_labels=labels
    )
    return embedding.image_embed, *embedding.high_res_feats, logits, quality


# Sizes whose maps fit the windows, and such as need padding.
@pytest.mark.parametrize(
    'config', ['sam2.1_hiera_compact.yaml', 'sam2.1_hiera_t', 'sam2.1_cspnext_compact.yaml']
)
@pytest.mark.parametrize('size', [128, 224])
@pytest.mark.parametrize('limit', [1, 20_000, MAX_BYTES])
@torch.inference_mode()
def test_the_results_stay(config, size, limit, monkeypatch):
    monkeypatch.setattr('pipeline.segmenters.grouped_blocks.MAX_BYTES', limit)
    path = COMPACT / config if config.endswith('.yaml') else config
    torch.manual_seed(0)
    stock = build_sam2_model(path, None, 'cpu', image_size=size)
    model = copy.deepcopy(stock)
    lean_encoder(model, grouped=True)
    images = torch.randn(2, 3, size, size)
    for found, expected in zip(outputs(model, images), outputs(stock, images), strict=True):
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


@torch.inference_mode()
def test_a_model_without_fine_maps_keeps_its_projections():
    model = build_sam2_model(COMPACT / 'sam2.1_hiera_compact.yaml', None, 'cpu', image_size=64)
    model.use_high_res_features_in_sam = False
    lean_encoder(model, grouped=False)
    assert isinstance(model.sam_mask_decoder.conv_s0, torch.nn.Conv2d)


def test_positions_take_no_memory():
    positions = NoPositions()(torch.ones(2, 3, 4, 5))
    assert positions.shape == (2, 3, 4, 5) and not positions.any()
    assert positions.untyped_storage().nbytes() == 4


@pytest.mark.parametrize(('setting', 'is_lean'), [('lean', True), (None, False)])
def test_a_setting_turns_it_off(setting, is_lean):
    from pipeline.build import build_pipeline
    from pipeline.config import load_config

    weights = {f'{part}.checkpoint': None for part in ('detector', 'pose', 'segmenter')}
    options = {**weights, 'segmenter.encoder': setting, 'runtime.device': 'cpu'}
    segmenter = build_pipeline(load_config('bmp_compact', options)).run.segmenter
    positions = segmenter.model.image_encoder.neck.position_encoding
    assert isinstance(positions, NoPositions) == is_lean
