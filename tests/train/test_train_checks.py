"""Wrong settings and absent data end a training before it reads anything, with a helpful line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.cli import train
from pipeline.training import launch
from pipeline.training.config_check import SettingsError
from pipeline.training.launch import LaunchOptions, build_runner
from tests.commands import exit_code
from tests.train_data import ROOT, detector_settings, pose_settings, write_crowd

POSE = ROOT / 'configs/pose/pmpose_compact_practice.py'
DETECTOR = ROOT / 'configs/detector/rtmdet-ins_compact_practice.py'


@pytest.fixture(scope='module')
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_crowd(tmp_path_factory.mktemp('crowd'), num_images=1).parent


@pytest.fixture
def no_data_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError('data was read')

    monkeypatch.setattr('mmengine.dataset.BaseDataset.full_init', refuse)


def problems(config: Path, overrides: dict[str, Any], folder: Path, **options: Any) -> str:
    """What is said about a config; '' if it is fine."""
    try:
        build_runner(config, LaunchOptions(work_dir=folder, overrides=overrides, **options))
    except SettingsError as error:
        return '\n'.join(error.problems)
    return ''


@pytest.mark.parametrize(
    ('overrides', 'expected'),
    [
        ({'optim_wraper.optimizer.lr': 1.0}, 'optim_wraper: no such setting.*optim_wrapper?'),
        ({'clip_grad.max_norm': 1.0}, 'clip_grad: no such setting; set optim_wrapper.clip_grad'),
        ({'train_dataloader.batch_size': 0}, 'batch_size = 0; give a whole number, 1 or more'),
        ({'train_dataloader.batch_size': '8'}, "batch_size = '8'; give a whole number"),
        ({'optim_wrapper.optimizer.lr': -1.0}, r'optimizer\.lr = -1\.0; give a number above 0'),
        ({'optim_wrapper.clip_grad.max_norm': 0}, r'max_norm = 0; give a number above 0'),
        ({'default_hooks.checkpoint.max_keep_ckpts': 1}, 'max_keep_ckpts = 1; give 2 or more'),
        ({'randomness.seed': 1.5}, r'randomness\.seed = 1\.5; give a whole number'),
        ({'randomness.diff_rank_seed': True}, 'diff_rank_seed: leave it out'),
        ({'train_dataloader.persistent_workers': True}, 'persistent_workers needs num_workers'),
        (
            {'train_dataloader.sampler.batch_size': 64},
            r'sampler\.batch_size = 64; it must be that of the batches, 2',
        ),
        ({'val_cfg': {}}, 'val_dataloader, val_evaluator: missing; validation needs it'),
        ({'default_hooks.checkpoint.save_best': 'coco/AP'}, "save_best = 'coco/AP' needs valid"),
        ({'optim_wrapper.optimizer.type': 'AdamX'}, "no type 'AdamX' is known; did you mean Adam"),
        ({'optim_wrapper.optimizer.rate': 1}, "AdamW takes no 'rate'"),
        ({'optim_wrapper.acumulative_counts': 2}, "takes no 'acumulative_counts'; did you mean"),
        ({'optim_wrapper.constructor': 'LayerDecayConstruct'}, 'did you mean LayerDecayConstr'),
        ({'optim_wrapper.paramwise_cfg.norm_decay': 0.0}, 'norm_decay: nothing reads it; did you'),
        (
            {'optim_wrapper.paramwise_cfg.custom_keys': {'head': {'decay_multi': 0.0}}},
            r"custom_keys\['head'\]: nothing reads 'decay_multi'; did you mean decay_mult",
        ),
        (
            {'optim_wrapper.paramwise_cfg.custom_keys': {'heads.': {'lr_mult': 0.1}}},
            r"custom_keys\['heads\.'\]: matches no parameter of the model",
        ),
        ({'default_hooks.early': {'patience': 3}}, 'hook early: its type is missing'),
        ({'custom_hooks': [{'type': 'EmaHook'}]}, r"custom_hooks\.0: no type 'EmaHook' is known"),
        ({'default_hooks.logger.intervall': 1}, "LoggerHook takes no 'intervall'; did you mean"),
        (
            {'train_dataloader.dataset.pipeline.3.alhpa': 0.1},
            r"pipeline\.3: MaskBackground takes no 'alhpa'; did you mean alpha",
        ),
        (
            {'train_dataloader.dataset.pipeline.3.alpha': 1.5},
            r'train_dataloader\.dataset\.pipeline\.3: MaskBackground\.alpha must be in .* got 1\.5',
        ),
        ({'train_dataloader.dataset.anotations': 'x'}, "CocoDataset takes no 'anotations'"),
        ({'model.backbone.type': 'ConvStemViTT'}, 'did you mean ConvStemViT?'),
        ({'load_from': 'no-such-weights'}, "load_from: no weights 'no-such-weights'"),
        ({'visualizer': {'type': 'PoseLocalVisualizr'}}, 'did you mean PoseLocalVisualizer'),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
@pytest.mark.usefixtures('no_data_is_read')
def test_a_wrong_setting_is_named(
    crowd: Path, tmp_path: Path, overrides: dict[str, Any], expected: str
) -> None:
    settings = pose_settings(crowd) | overrides
    with pytest.raises(SettingsError, match=expected):
        build_runner(POSE, LaunchOptions(work_dir=tmp_path, overrides=settings))


@pytest.mark.usefixtures('no_data_is_read')
def test_right_settings_pass_and_all_wrong_ones_are_listed(crowd: Path, tmp_path: Path) -> None:
    assert problems(POSE, pose_settings(crowd), tmp_path / 'pose') == ''
    assert problems(DETECTOR, detector_settings(crowd), tmp_path / 'detector') == ''
    wrong = {'train_dataloader.batch_size': 0, 'optim_wrapper.optimizer.lr': 0}
    said = problems(POSE, pose_settings(crowd) | wrong, tmp_path)
    assert len(said.splitlines()) == 2  # all mistakes are listed at once


def test_the_config_that_a_run_leaves_is_a_config(crowd: Path, tmp_path: Path) -> None:
    runner = build_runner(POSE, LaunchOptions(work_dir=tmp_path, overrides=pose_settings(crowd)))
    left = tmp_path / 'left.py'
    runner.cfg.dump(left)
    assert problems(left, {}, tmp_path) == ''


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ("optimizer = dict(type='SGD')", 'optimizer: nothing reads it; set optim_wrapper.opti'),
        ('param_schedulers = []', 'param_schedulers: nothing reads it; did you mean param_sche'),
        ('dropout = 0.1', 'dropout: nothing reads it'),
        ('dropout = 0.1\nmodel = dict(head=dict(in_channels=int(dropout * 320)))', ''),
        ('model = dict(head=1', 'cannot be read: FILE:2: SyntaxError'),
        ("codec = dict(type='x')\ntrain_dataloader = dict(dataset=dict(pipeline=dict(a=1)))",
         'cannot be read: FILE: TypeError'),
        ('train_cfg = nothing', 'cannot be read: FILE:2: NameError'),
        ("custom_imports = dict(imports=['no.such.module'])", 'cannot be read: FILE: ImportError'),
    ],
)  # fmt: skip
def test_a_wrong_config_file_is_refused(
    crowd: Path, tmp_path: Path, text: str, expected: str
) -> None:
    path = tmp_path / 'mine_train.py'
    path.write_text(f"_base_ = '{POSE}'\n{text}")
    said = problems(path, pose_settings(crowd), tmp_path)
    assert said.startswith(expected.replace('FILE', str(path)))
    assert bool(said) == bool(expected)


def test_amp_and_accumulation_are_set(
    crowd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = LaunchOptions(
        work_dir=tmp_path, overrides=pose_settings(crowd), amp='bf16', accumulate=4, seed=3
    )
    config = build_runner(POSE, options).cfg
    assert config.optim_wrapper.type == 'Bf16OptimWrapper'
    assert config.optim_wrapper.accumulative_counts == 4
    assert config.randomness.seed == 3
    assert config.train_cfg.type == 'ResumableIterLoop'
    monkeypatch.setattr(launch, '_has_gpu', lambda: False)
    said = problems(POSE, pose_settings(crowd), tmp_path, amp='fp16')
    assert said == '--amp fp16 needs a GPU; --amp bf16 works without'
    wrapper = {'optim_wrapper.type': 'AmpOptimWrapper'}
    said = problems(POSE, pose_settings(crowd) | wrapper, tmp_path)
    assert "'AmpOptimWrapper' needs a GPU; --amp bf16 works without" in said


def test_fp16_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmengine.config import ConfigDict

    monkeypatch.setattr(launch, '_has_gpu', lambda: True)
    config = ConfigDict(optim_wrapper=dict(type='Bf16OptimWrapper'))
    assert launch._set_precision(config, 'fp16') == []
    assert config.optim_wrapper == {
        'type': 'AmpOptimWrapper', 'dtype': 'float16', 'loss_scale': 'dynamic',
    }  # fmt: skip


def test_missing_tensorboard_is_reported(
    crowd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    said = problems(POSE, pose_settings(crowd), tmp_path, tensorboard=True)
    assert 'TensorBoard is not installed; pip install tensorboard' in said


@pytest.mark.usefixtures('no_data_is_read')
def test_absent_data_names_folder_and_guide(tmp_path: Path) -> None:
    said = problems(POSE, pose_settings(tmp_path / 'nowhere' / 'coco'), tmp_path / 'work')
    assert said == (
        f'train_dataloader.dataset: no file {tmp_path}/nowhere/coco/train.json '
        f'({tmp_path}/nowhere is absent); see docs/user_guide/datasets.md'
    )
    assert (ROOT / 'docs/user_guide/datasets.md').is_file()


def test_missing_images_of_one_dataset_are_reported(tmp_path: Path) -> None:
    from mmengine.config import Config

    from pipeline.training.data_check import missing_data

    (tmp_path / 'mpii.json').write_text(json.dumps({}))
    sets = [dict(data_root=str(tmp_path), ann_file='mpii.json', data_prefix=dict(img='photos/'))]
    loader = dict(dataset=dict(type='CombinedDataset', datasets=sets))
    evaluators = [dict(type='CocoMetric', ann_file=str(tmp_path / 'val.json'))]
    said = missing_data(Config(dict(train_dataloader=loader, val_evaluator=evaluators)))
    assert said == [
        f'train_dataloader.dataset.datasets.0.dataset: no folder {tmp_path}/photos (absent); '
        'see docs/user_guide/datasets.md',
        f'val_evaluator: no file {tmp_path}/val.json (absent); see docs/user_guide/datasets.md',
    ]


def test_the_tool_lists_mistakes_and_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(POSE), '--work-dir', str(tmp_path), '--cfg-options']
    assert train.main([*arguments, 'modell.head=1']) == 2
    said = capsys.readouterr().err
    assert 'was not started' in said
    assert '  - --cfg-options modell: no such setting; did you mean model?' in said
    assert train.main(['configs/nothing.py']) == 2
    assert 'no config at configs/nothing.py' in capsys.readouterr().err
    assert exit_code(train.main, POSE, '--cfg-options', 'model') == 2
    assert 'KEY=VALUE' in capsys.readouterr().err
    assert not list(tmp_path.iterdir()), 'nothing was written'


def test_check_says_what_would_be_trained(
    crowd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mmengine.config import Config

    settings = Config()
    settings.merge_from_dict(pose_settings(crowd))
    (tmp_path / 'run.py').write_text(f'_base_ = {str(POSE)!r}\n{settings.pretty_text}')
    arguments = ['--check', '--work-dir', str(tmp_path), '--cfg-options', 'train_cfg.max_iters=9']
    assert train.main([str(tmp_path / 'run.py'), *arguments]) == 0
    said = capsys.readouterr().out
    assert said.startswith('model       FreezableTopdownPoseEstimator: 0.')
    assert '9 iterations, 2 samples per step and process, 1 processes, seed 0' in said
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.parametrize(('has_bf16', 'dtype'), [(True, torch.bfloat16), (False, torch.float32)])
def test_bf16_where_the_processor_has_it(
    has_bf16: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.training import bf16_optim_wrapper

    monkeypatch.setattr(bf16_optim_wrapper, 'cpu_computes_in_bf16', lambda: has_bf16)
    model = torch.nn.Linear(3, 2)
    wrapper = bf16_optim_wrapper.Bf16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    with wrapper.optim_context(model):
        assert model(torch.ones(1, 3)).dtype == dtype
