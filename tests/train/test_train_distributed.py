"""Two processes with half a batch each make the step of one process with the whole batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train_data import ROOT, detector_settings, write_crowd

# No batch norm (its statistics are those of one process) and no dropout (drawn per process).
CONFIG = """
_base_ = '{base}'
codec = dict(heatmap_size=(9, 12))
small = dict(_base_.codec, heatmap_size=(9, 12))
model = dict(
    backbone=dict(
        _delete_=True, type='mmpretrain.VisionTransformer', img_size=(192, 144), patch_size=16,
        arch=dict(embed_dims=24, num_layers=1, num_heads=2, feedforward_channels=48),
        with_cls_token=False, out_type='featmap'),
    head=dict(
        _delete_=True, type='HeatmapHead', in_channels=24, out_channels=17,
        deconv_out_channels=None, decoder=small,
        loss=dict(type='KeypointMSELoss', use_target_weight=True)),
)
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='{sampler}', shuffle=True),
    dataset=dict(
        type='CocoDataset', data_root='{data}', data_mode='topdown', ann_file='train.json',
        data_prefix=dict(img=''),
        pipeline=[
            dict(type='LoadImage'),
            dict(type='GetBBoxCenterScale'),
            dict(type='RandomFlip', direction='horizontal'),
            dict(type='RandomBBoxTransform'),
            dict(type='TopdownAffine', input_size=(144, 192), use_udp=True),
            dict(type='GenerateTarget', encoder=small),
            dict(type='PackPoseInputs', pack_transformed=True),
        ],
    ),
)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1), clip_grad=dict(max_norm=1.0))
train_cfg = dict(by_epoch=False, max_iters=3)
test_dataloader, test_evaluator, test_cfg = None, None, None
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=3))
log_processor = dict(by_epoch=False)
"""


def train(config: Path, work_dir: Path, batch_size: int, processes: int) -> dict[str, Any]:
    """Weights after training with the command line."""
    command = ['tools/train.py', str(config), '--work-dir', str(work_dir), '--threads', '1']
    run([*command, '--cfg-options', f'train_dataloader.batch_size={batch_size}'], processes)
    content = torch.load(work_dir / 'iter_3.pth', weights_only=False)
    weights: dict[str, Any] = content['state_dict']
    return weights


def run(command: list[str], processes: int) -> None:
    """A Python program, started by torchrun if in several processes."""
    start = [sys.executable]
    if processes > 1:
        torchrun = ['-m', 'torch.distributed.run', '--standalone']
        start += [*torchrun, '--nproc_per_node', str(processes)]
    done = subprocess.run([*start, *command], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize('sampler', ['DefaultSampler', 'InfiniteSampler'])
def test_two_processes_are_one_with_the_double_batch(tmp_path: Path, sampler: str) -> None:
    write_crowd(tmp_path / 'data', num_images=4)
    config = tmp_path / 'small_train.py'
    base = ROOT / 'configs/compact/vitpose_compact.py'
    config.write_text(CONFIG.format(base=base, data=tmp_path / 'data', sampler=sampler))
    one = train(config, tmp_path / 'one', batch_size=4, processes=1)
    two = train(config, tmp_path / 'two', batch_size=2, processes=2)
    apart = train(config, tmp_path / 'apart', batch_size=2, processes=1)
    assert one.keys() == two.keys()
    for name in one:
        # Sums in another order: the last bits differ.
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-7, msg=name)
    moved = max(float((apart[name] - one[name]).abs().max()) for name in one)
    assert moved > 1e-4, 'half a batch alone gives other weights, so the test can fail'


@pytest.mark.slow
def test_the_detector_trains_in_two_processes_without_a_gpu(tmp_path: Path) -> None:
    from mmengine.config import Config

    write_crowd(tmp_path / 'data', num_images=4)
    settings = Config.fromfile(ROOT / 'configs/detector/rtmdet-ins_compact_practice.py')
    settings.merge_from_dict(detector_settings(tmp_path / 'data'))
    settings.merge_from_dict({'work_dir': str(tmp_path), 'launcher': 'none', 'resume': False})
    config = tmp_path / 'detector.py'
    settings.dump(config)
    run(['tools/train.py', str(config), '--work-dir', str(tmp_path / 'work')], processes=2)
    assert [path.name for path in (tmp_path / 'work').glob('*.pth')] == ['iter_1.pth']
