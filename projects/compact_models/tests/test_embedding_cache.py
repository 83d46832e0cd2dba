"""Stored image embeddings of `CompactSam`."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import DATASETS
from mmengine.runner import Runner

from projects.compact_models.segmenter import partial_data  # noqa: F401
from projects.compact_models.segmenter.embedding_cache import (
    EmbeddingCacheHook,
    encoder_key,
    inner_datasets,
)
from projects.compact_models.segmenter.model import CompactSam
from tests.train.test_prompted_sam import COMPACT, SIDE, SeedEpochs, config, data  # noqa: F401
from tests.train.test_prompted_sam import loader as stock_loader

pytestmark = pytest.mark.usefixtures('mmengine_scope')


def loader(data, **settings):  # noqa: F811
    """That of `PromptedSam` with masks that may be known in part."""
    values = stock_loader(data, **settings)
    load, *augment, pack = values['dataset']['pipeline']
    values['dataset']['type'] = 'PartialPoseDataset'
    values['dataset']['pipeline'] = [
        {**load, 'type': 'LoadPartialPoses'}, *augment, {**pack, 'type': 'PackPartialPoses'},
    ]  # fmt: skip
    return values


def test_the_cache_gives_the_same_step_and_notices_another_encoder(data, tmp_path):  # noqa: F811
    folder = tmp_path / 'cache'
    hook = {'type': 'EmbeddingCacheHook', 'folder': str(folder), 'max_gb': 0.1}
    model = {
        'type': 'CompactSam', 'config': COMPACT, 'image_size': SIDE, 'cache_embeddings': True,
        'clicks': {'num_corrections': 1},
    }  # fmt: skip
    runs = []
    for name in ('fills', 'reads'):
        runner = Runner.from_cfg(
            config(
                data,
                tmp_path / name,
                model=model,
                custom_hooks=[hook],
                train_dataloader=loader(data),
            )
        )
        calls = []
        runner.model.sam.image_encoder.register_forward_hook(lambda *a, c=calls: c.append(1))
        frozen = runner.model.sam.sam_mask_decoder.conv_s0.weight.clone()
        runner.register_hook(SeedEpochs())
        runner.train()
        assert torch.equal(frozen, runner.model.sam.sam_mask_decoder.conv_s0.weight)
        runs.append((runner.model, len(calls)))
    (first, filling), (second, reading) = runs
    assert filling > reading == 1  # one pass measures the size
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))
    (key,) = [path.name for path in folder.iterdir()]
    assert len(list((folder / key).glob('*.pt'))) == 4
    sam, text = second.sam, second.encoder_config
    assert encoder_key(sam, SIDE, text) == key
    assert encoder_key(sam, 2 * SIDE, text) != key and encoder_key(sam, SIDE, text + ' ') != key
    with torch.no_grad():
        sam.sam_mask_decoder.mask_tokens.weight += 1
        assert encoder_key(sam, SIDE, text) == key
        sam.image_encoder.trunk.pos_embed += 1e-3
    assert encoder_key(sam, SIDE, text) != key


def test_data_sets_inside_wrappers_count_once(data):  # noqa: F811
    one = loader(data)['dataset']
    joined = {'type': 'ConcatDataset', 'datasets': [one, one]}
    wrapped = DATASETS.build({'type': 'RepeatDataset', 'times': 3, 'dataset': joined})
    found = inner_datasets(wrapped)
    assert len(wrapped) == 24 and [len(dataset) for dataset in found] == [4, 4]


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'hook': {'max_gb': 1e-6}}, r'4 images of 0\.0. MB.*more than max_gb'),
        ({'augment': [{'type': 'FlipPose'}]}, 'the pipeline has FlipPose'),
        ({'model': {'cache_embeddings': False}}, 'set cache_embeddings=True'),
    ],
)
def test_a_cache_that_would_be_wrong_or_too_large_is_refused(data, tmp_path, changes, message):  # noqa: F811
    hook = {'type': 'EmbeddingCacheHook', 'folder': str(tmp_path / 'cache'),
            **changes.get('hook', {})}  # fmt: skip
    model = {'type': 'CompactSam', 'config': COMPACT, 'image_size': SIDE,
             'cache_embeddings': True, **changes.get('model', {})}  # fmt: skip
    settings = config(
        data, tmp_path / 'run', model=model, custom_hooks=[hook],
        train_dataloader=loader(data, augment=changes.get('augment', [])),
    )  # fmt: skip
    with pytest.raises(ValueError, match=message):
        Runner.from_cfg(settings).train()
    assert not (tmp_path / 'cache').exists()
    assert isinstance(EmbeddingCacheHook('x'), EmbeddingCacheHook)


def test_an_absent_cache_is_named(data):  # noqa: F811
    model = CompactSam(COMPACT, image_size=SIDE, cache_embeddings=True).train()
    with pytest.raises(RuntimeError, match='EmbeddingCacheHook'):
        model.embed(torch.zeros(1, 3, SIDE, SIDE), [])
    with pytest.raises(ValueError, match='cache_embeddings needs'):
        CompactSam(COMPACT, cache_embeddings=True, freeze_image_encoder=False)
