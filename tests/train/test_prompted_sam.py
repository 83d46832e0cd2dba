"""SAM 2 as a model of MMEngine: what is trained, what a step does, resume, several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from pycocotools import mask as coco_mask

from pipeline.cli import export_sam
from pipeline.segmenters.build_sam2 import build_sam2_model
from pipeline.segmenters.sam2_forward import decode_prompts, embed_images
from pipeline.training.pose2seg import parts
from pipeline.training.pose2seg.losses import (
    LossWeights,
    dice_loss,
    focal_loss,
    mask_iou,
    prompt_losses,
)
from pipeline.training.pose2seg.metric import PromptMetric
from pipeline.training.pose2seg.model import PromptedSam
from pipeline.training.pose2seg.optimizer import TrainedPartsConstructor
from tests.commands import exit_code

pytestmark = pytest.mark.usefixtures('mmengine_scope')

ROOT = Path(__file__).parents[2]
COMPACT = str(ROOT / 'configs/compact/sam2.1_hiera_compact.yaml')
SIDE = 64
CLICKS = {'num_corrections': 2}


@pytest.fixture
def data(tmp_path):
    """Four images with one or two bright people of 24 x 40 px each, three keypoints on each."""
    rng = np.random.default_rng(0)
    images, rows = [], []
    for number in range(4):
        pixels = rng.integers(0, 60, (64, 96, 3), dtype=np.uint8)
        for left in (8, 60)[: 1 + number % 2]:
            pixels[12:52, left : left + 24] += 160
            box = [left, 12, left + 24, 12, left + 24, 52, left, 52]
            keypoints = np.zeros((17, 3))
            keypoints[[0, 5, 11]] = [[left + 12, 16, 2], [left + 4, 30, 2], [left + 18, 44, 2]]
            rows.append({
                'id': len(rows) + 1, 'image_id': number, 'category_id': 1, 'iscrowd': 0,
                'segmentation': [box], 'keypoints': keypoints.ravel().tolist(),
            })  # fmt: skip
        cv2.imwrite(str(tmp_path / f'{number}.png'), pixels)
        images.append({'id': number, 'file_name': f'{number}.png', 'height': 64, 'width': 96})
    (tmp_path / 'people.json').write_text(json.dumps({'images': images, 'annotations': rows}))
    return tmp_path


def loader(data, batch_size=2, augment=()):
    pack = {'type': 'PackPromptedPoses', 'image_size': SIDE}
    return {
        'batch_size': batch_size, 'num_workers': 0,
        'sampler': {'type': 'DefaultSampler', 'shuffle': True},
        'collate_fn': {'type': 'pseudo_collate'},
        'dataset': {
            'type': 'PoseMaskDataset', 'ann_file': str(data / 'people.json'),
            'data_prefix': {'img': str(data)},
            'pipeline': [{'type': 'LoadPoseImage'}, *augment, pack],
        },
    }  # fmt: skip


def config(data, work_dir, **changes):
    """Two epochs of two steps with two images each."""
    values = {
        'default_scope': 'mmengine',
        'work_dir': str(work_dir),
        'model': {'type': 'PromptedSam', 'config': COMPACT, 'image_size': SIDE, 'clicks': CLICKS},
        'train_dataloader': loader(data),
        'train_cfg': {'by_epoch': True, 'max_epochs': 2},
        'optim_wrapper': {
            'type': 'OptimWrapper',
            'constructor': 'TrainedPartsConstructor',
            'optimizer': {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 0.1},
            'clip_grad': {'max_norm': 0.1},
        },
        'param_scheduler': [{'type': 'CosineAnnealingLR', 'T_max': 4, 'end': 4, 'by_epoch': False}],
        'default_hooks': {'checkpoint': {'type': 'CheckpointHook', 'interval': 1}},
        'custom_hooks': [{'type': 'ExportSamHook'}],
        'randomness': {'seed': 0},
        'log_level': 'WARNING',
    }
    return Config({**values, **changes})


def tiny(**settings):
    torch.manual_seed(0)
    return PromptedSam(COMPACT, image_size=SIDE, **{'clicks': CLICKS, **settings})


def raw_batch(data, count=2):
    np.random.seed(0)
    return next(iter(Runner.build_dataloader(loader(data, count), seed=0)))


def batch(data, model, count=2):
    return model.data_preprocessor(raw_batch(data, count), True)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed_parts(before, model):
    return {
        name.split('.')[1]
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name])
    }


def optimizer_of(model, **paramwise):
    settings = {'type': 'OptimWrapper', 'optimizer': {'type': 'AdamW', 'lr': 1e-2,
                                                      'weight_decay': 0.1}}  # fmt: skip
    return TrainedPartsConstructor(settings, paramwise)(model)


@pytest.mark.parametrize(
    ('settings', 'trained'),
    [
        ({}, {'sam_prompt_encoder', 'sam_mask_decoder'}),
        ({'train_prompt_encoder': False}, {'sam_mask_decoder'}),
        ({'train_mask_decoder': False}, {'sam_prompt_encoder'}),
        ({'freeze_image_encoder': False},
         {'image_encoder', 'sam_prompt_encoder', 'sam_mask_decoder'}),
    ],
)  # fmt: skip
def test_frozen_parts_are_bit_equal_after_steps(data, settings, trained):
    model = tiny(**settings).train()
    before = weights(model)
    wrapper = optimizer_of(model)
    assert model.sam.image_encoder.training == ('image_encoder' in trained)
    assert not model.sam.memory_attention.training and not model.sam.memory_encoder.training
    for _ in range(2):
        model.train_step(raw_batch(data), wrapper)
    assert changed_parts(before, model) == trained
    for name, parameter in model.named_parameters():
        part = name.split('.')[1]
        assert parameter.requires_grad == (part in trained)
        assert part in trained or parameter.grad is None
    in_optimizer = {id(p) for group in wrapper.optimizer.param_groups for p in group['params']}
    assert in_optimizer == {id(p) for p in model.parameters() if p.requires_grad}


def test_weight_decay_and_learning_rates_of_parameters():
    model = tiny(freeze_image_encoder=False)
    keys = {'image_encoder': {'lr_mult': 0.5}}
    groups = optimizer_of(model, layer_decay_rate=0.9, custom_keys=keys).optimizer.param_groups
    of = {id(p): group for group in groups for p in group['params']}
    named = dict(model.named_parameters())
    flat = [n for n, p in named.items() if p.requires_grad and (p.ndim == 1 or 'bias' in n)]
    assert flat and all(of[id(named[n])]['weight_decay'] == 0 for n in flat)
    matrix = named['sam.sam_mask_decoder.transformer.layers.0.mlp.layers.0.weight']
    assert of[id(matrix)]['weight_decay'] == 0.1 and of[id(matrix)]['lr'] == 1e-2
    for part, depth in [('blocks.10.', 1), ('blocks.0.', 11), ('patch_embed', 12)]:
        name = next(n for n in named if f'image_encoder.trunk.{part}' in n)
        assert of[id(named[name])]['lr'] == pytest.approx(0.5e-2 * 0.9**depth), name
    neck = next(n for n in named if 'image_encoder.neck' in n)
    assert of[id(named[neck])]['lr'] == 0.5e-2
    with pytest.raises(ValueError, match='paramwise_cfg has no layer_decay'):
        optimizer_of(model, layer_decay=0.9)


def test_parts_of_the_loss_on_masks_computed_by_hand():
    target = torch.zeros(1, 1, 4, 4)
    target[..., :2] = 1
    half_right = torch.full((1, 1, 4, 4), -20.0)
    half_right[..., 0] = 20
    parts = prompt_losses(
        (half_right, torch.tensor([[0.9]]), torch.zeros(1, 1)),
        target,
        LossWeights(),
    )
    # 4 of 16 pixels are missed: focal 0.25 x 1 x 20 on each; dice 1 - (2 * 4 + 1) / (4 + 8 + 1);
    # IoU is 4 / 8; the object score is at 0.5.
    assert parts['focal'].item() == pytest.approx(20 * 0.25 * 20 * 4 / 16, rel=1e-5)
    assert parts['dice'].item() == pytest.approx(1 - 9 / 13, abs=1e-6)
    assert parts['iou'].item() == pytest.approx(0.4, abs=1e-6)
    assert parts['object_score'].item() == pytest.approx(np.log(2), abs=1e-6)


def test_the_loss_sums_all_passes_at_input_size(data):
    model = tiny(clicks={'num_corrections': 3}).train()
    ready = batch(data, model)
    losses = model(**ready, mode='loss')
    outputs = model(**ready, mode='tensor')
    assert [out[0].shape[1] for out in outputs] == [3, 1, 1, 1]
    ground_truth = torch.cat([s.gt_instances.masks for s in ready['data_samples']])[:, None].float()
    expected = 0
    for logits, iou, score in outputs:
        full = torch.nn.functional.interpolate(logits, (SIDE, SIDE), mode='bilinear')
        masks = ground_truth.expand_as(full)
        mask_part = 20 * focal_loss(full, masks) + dice_loss(full, masks)
        expected += mask_part.amin(1).mean()
        expected += (iou - mask_iou(full, masks)).abs().mean()
        expected += torch.nn.functional.softplus(-score).mean()
    found = sum(value for name, value in losses.items() if 'loss' in name)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_people_of_an_image_share_one_encoder_pass(data):
    model = tiny().train()
    calls = []
    model.sam.image_encoder.register_forward_hook(lambda *args: calls.append(len(args[1][0])))
    ready = batch(data, model, count=4)
    losses = model(**ready, mode='loss')
    assert calls == [4] and losses['people'] == 6


def test_predictions_are_those_of_the_pipeline(data):
    model = tiny().eval()
    (first, second) = model(**batch(data, model), mode='predict')
    assert set(first.predictions) == {'1', '2', '3', '5', 'all'}
    ready = batch(data, model)
    sample = ready['data_samples'][0]
    embedding = embed_images(model.sam, ready['inputs'][:1])
    points = sample.gt_instances.keypoints[:1, [0, 5]]
    logits, iou, _ = decode_prompts(
        model.sam, embedding, image_index=0, point_coords=points, point_labels=torch.ones(1, 2)
    )
    full = torch.nn.functional.interpolate(logits, (64, 96), mode='bilinear')[0, 0] > 0
    found = first.predictions['2'][0]
    assert np.array_equal(coco_mask.decode(found['rle']) > 0, full.numpy())
    assert found['score'] == pytest.approx(iou.item())
    assert first.predictions['all'] == first.predictions['3']  # there are three keypoints
    assert len(second.predictions['1']) == len(second.gt_instances)


@pytest.mark.parametrize('is_crop', [False, True])
def test_scores_of_perfect_and_of_wrong_masks(data, is_crop):
    model = tiny().eval()
    samples = model(**batch(data, model, count=4), mode='predict')
    empty = coco_mask.encode(np.zeros((64, 96), np.uint8, order='F'))['counts']
    for sample in samples:
        if is_crop:  # crops of one image
            sample.set_metainfo({'img_id': 7})
        ground_truth = dict(zip(sample.gt_instances.ann_ids, sample.rles, strict=True))
        for row in sample.predictions['3']:
            row['rle'] = ground_truth[row['ann_id']]
        for row in sample.predictions['1']:
            row['rle'] = {**ground_truth[row['ann_id']], 'counts': empty}
    metric = PromptMetric()
    metric.process(None, [sample.to_dict() for sample in samples])
    scores = metric.evaluate(4)
    assert scores['pose2seg/people'] == 6
    assert scores['pose2seg/iou_3'] == 1 and scores['pose2seg/ap_3'] == pytest.approx(1)
    assert scores['pose2seg/iou_1'] == 0 and scores['pose2seg/ap_1'] == 0


class SeedEpochs(parts.export.ExportSamHook):
    """Random numbers of an epoch depend on its number alone."""

    def before_train_epoch(self, runner):
        np.random.seed(runner.epoch)
        torch.manual_seed(runner.epoch)

    def before_save_checkpoint(self, runner, checkpoint):
        pass


def train(data, work_dir, **changes):
    augment = [{'type': 'FlipPose'}, {'type': 'AffinePose'}]
    runner = Runner.from_cfg(
        config(data, work_dir, train_dataloader=loader(data, augment=augment), **changes)
    )
    runner.register_hook(SeedEpochs())
    runner.train()
    return runner


def test_four_steps_are_two_and_a_resumed_run_of_two(data, tmp_path):
    whole = train(data, tmp_path / 'whole')
    train(data, tmp_path / 'parts', train_cfg={'by_epoch': True, 'max_epochs': 1})
    rest = train(data, tmp_path / 'parts', resume=True)
    assert whole.iter == rest.iter == 4
    for (name, value), other in zip(
        whole.model.state_dict().items(), rest.model.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), name
    moments = [r.optim_wrapper.optimizer.state_dict()['state'] for r in (whole, rest)]
    assert all(torch.equal(moments[0][i]['exp_avg'], moments[1][i]['exp_avg']) for i in moments[0])
    # The weights files are those of the stock package.
    assert export_sam.main([str(tmp_path / 'parts/epoch_2.pth'), str(tmp_path / 'out.pt')]) == 0
    for exported in (tmp_path / 'whole' / 'sam.pt', tmp_path / 'out.pt'):
        sam = build_sam2_model(COMPACT, exported, 'cpu', image_size=SIDE)
        trained = whole.model.sam.state_dict()
        assert all(torch.equal(value, trained[n]) for n, value in sam.state_dict().items())


def test_other_files_are_not_exported(tmp_path, capsys):
    torch.save({'state_dict': {'backbone.weight': torch.zeros(1)}}, tmp_path / 'other.pth')
    for name, message in [('other.pth', 'no weights of a PromptedSam'), ('gone.pth', 'gone.pth')]:
        assert exit_code(export_sam.main, tmp_path / name, tmp_path / 'out.pt') == 2
        assert message in capsys.readouterr().err
    (tmp_path / 'out.pt').touch()
    assert exit_code(export_sam.main, tmp_path / 'other.pth', tmp_path / 'out.pt') == 2
    assert '--overwrite' in capsys.readouterr().err


STEP = """
import json, sys
import numpy as np, torch
from mmengine.config import Config
from mmengine.dist import get_dist_info
from mmengine.runner import Runner
import pipeline.training.pose2seg.parts
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
config = Config(json.loads(sys.argv[1]))
if config.launcher == 'pytorch':
    torch.distributed.init_process_group('gloo')
    config.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None,
                                    broadcast_buffers=False, find_unused_parameters=False)
runner = Runner.from_cfg(config)
np.random.seed(0)
dataset = runner.build_dataloader(config.train_dataloader).dataset
items = [dataset[i] for i in range(4)]
for number, item in enumerate(items):
    people = item['data_samples'].gt_instances
    people.seeds[:] = torch.arange(len(people)) + 10 * number
rank, size = get_dist_info()
local = items[rank::size]
model = runner.model
model.train()
plain = model.module if size > 1 else model
raw = dict(inputs=[i['inputs'] for i in local], data_samples=[i['data_samples'] for i in local])
losses = model(**plain.data_preprocessor(raw, True), mode='loss')
plain.parse_losses(losses)[0].backward()
if rank == 0:
    torch.save({n: p.grad for n, p in plain.named_parameters() if p.grad is not None}, sys.argv[2])
if size > 1:
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
"""


@pytest.mark.slow  # torchrun sometimes aborts a finished process of a busy machine
def test_two_processes_take_the_step_of_one_with_both_batches(data, tmp_path):
    script = tmp_path / 'step.py'
    script.write_text(STEP)
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1',
                   'CUDA_VISIBLE_DEVICES': ''}  # fmt: skip
    for name, command, launcher in [
        ('one', [sys.executable], 'none'),
        ('two', [sys.executable, '-m', 'torch.distributed.run', '--standalone',
                 '--nproc_per_node', '2'], 'pytorch'),
    ]:  # fmt: skip
        optim = {'type': 'OptimWrapper', 'constructor': 'TrainedPartsConstructor',
                 'optimizer': {'type': 'SGD', 'lr': 1e-3}}  # fmt: skip
        settings = config(data, tmp_path / name, launcher=launcher, optim_wrapper=optim)
        arguments = [str(script), json.dumps(settings.to_dict()), str(tmp_path / f'{name}.pt')]
        done = subprocess.run(
            [*command, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (torch.load(tmp_path / f'{n}.pt', weights_only=True) for n in ('one', 'two'))
    assert one.keys() == two.keys()
    largest = max(float(value.abs().max()) for value in one.values())
    # Image 0 and 2 have one person, 1 and 3 two: the processes see 2 and 4 people.
    for name, value in one.items():
        assert torch.allclose(value, two[name], rtol=1e-3, atol=1e-5 * largest), name


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'clicks': {'gt_porb': 0.1}}, 'clicks has no gt_porb; known: choice'),
        ({'losses': {'bce': 1.0}}, 'losses has no bce'),
        ({'eval_counts': (0,)}, 'eval_counts must be'),
        ({'multimask_max_points': -1}, 'multimask_max_points must be'),
        ({'train_prompt_encoder': False, 'train_mask_decoder': False}, 'nothing is trained'),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        PromptedSam(COMPACT, image_size=SIDE, **settings)


def test_masks_of_another_size_are_refused(data):
    model = PromptedSam(COMPACT, image_size=2 * SIDE).train()
    with pytest.raises(ValueError, match='masks have 64 px, the model takes 128'):
        model(**batch(data, model), mode='loss')
