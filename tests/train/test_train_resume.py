"""A resumed training equals one without a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook

from pipeline.cli import train
from pipeline.training.config_check import SettingsError
from pipeline.training.launch import LaunchOptions, build_runner
from pipeline.training.train_runner import latest_checkpoint
from pipeline.weights.checkpoints import find_weights
from pipeline.weights.manifest import CheckpointError
from tests.train_data import ROOT, detector_settings, pose_settings, write_crowd

DETECTOR = ROOT / 'configs/detector/rtmdet-ins_compact_practice.py'
POSE = ROOT / 'configs/pose/pmpose_compact_practice.py'


class Crash(RuntimeError):
    """A simulated power failure."""


class CrashHook(Hook):
    """Ends a run by force.

    Args:
        step: number of the step that is the last to be done, from 0.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def after_train_iter(self, runner: Any, batch_idx: int, **_: Any) -> None:
        if runner.iter == self.step:
            raise Crash


@pytest.fixture(scope='module')
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('crowd')
    write_crowd(folder, num_images=6)
    return folder


def run(config: Path, work_dir: Path, overrides: dict[str, Any], **options: Any) -> Any:
    crash_after = options.pop('crash_after', None)
    named = {**overrides, 'experiment_name': f'{work_dir}-{options}-{crash_after}'}
    runner = build_runner(config, LaunchOptions(work_dir=work_dir, overrides=named, **options))
    if crash_after is not None:
        runner.register_hook(CrashHook(crash_after), priority='LOWEST')
        with pytest.raises(Crash):
            runner.train()
    else:
        runner.train()
    return runner


def state_of(path: Path) -> dict[str, Any]:
    content = torch.load(path, map_location='cpu', weights_only=False)
    kept = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')
    return {name: content[name] for name in kept if name in content}


def assert_equal(actual: Any, expected: Any, place: str = '') -> None:
    """Equal to the last bit, dicts and lists of tensors and numbers."""
    if isinstance(actual, dict):
        assert actual.keys() == expected.keys(), place
        for key in actual:
            assert_equal(actual[key], expected[key], f'{place}.{key}')
    elif isinstance(actual, (list, tuple)):
        assert len(actual) == len(expected), place
        for number, pair in enumerate(zip(actual, expected, strict=True)):
            assert_equal(*pair, f'{place}.{number}')
    elif isinstance(actual, torch.Tensor):
        assert torch.equal(actual, expected), place
    else:
        assert actual == expected, place


def every(steps: int, **changes: Any) -> dict[str, Any]:
    """Settings of a run with a checkpoint after so many steps."""
    return {'default_hooks.checkpoint.interval': steps, **changes}


TWO_EPOCHS = {'_delete_': True, 'type': 'EpochBasedTrainLoop', 'max_epochs': 2}


@pytest.mark.parametrize(
    ('config', 'overrides', 'after', 'last', 'then', 'options'),
    [
        # 6 images: epochs of 3 steps. The crash is in the second epoch, after the checkpoint of
        # step 4. The number of loading processes changes nothing either.
        pytest.param(
            DETECTOR, every(2, train_cfg=TWO_EPOCHS), 4, 6, {'train_dataloader.num_workers': 2}, {},
            id='detector, within an epoch',
        ),
        # 12 people, 2 a step: the crash and the end are in the second pass of the endless sampler.
        pytest.param(POSE, every(4, **{'train_cfg.max_iters': 8}), 6, 8, {}, {}, id='pose'),
        # The newest checkpoint, of step 3, lies between the updates after steps 2 and 4.
        pytest.param(
            POSE, every(1, **{'train_cfg.max_iters': 4}), 2, 4, {}, {'accumulate': 2},
            id='accumulated gradients',
        ),
    ],
)  # fmt: skip
def test_a_crash_changes_nothing(
    crowd: Path, tmp_path: Path, config: Path, overrides: Any, after: int, last: int, then: Any,
    options: Any,
) -> None:  # fmt: skip
    """Train without and with a crash after step ``after``; ``last`` is the final step."""
    settings = (detector_settings if config == DETECTOR else pose_settings)(crowd, **overrides)
    whole, broken, final = tmp_path / 'whole', tmp_path / 'broken', f'iter_{last}.pth'
    run(config, whole, settings, **options)
    run(config, broken, settings, crash_after=after, **options)
    assert not (broken / final).exists()
    assert run(config, broken, settings | then, resume='latest', **options).iter == last
    assert_equal(state_of(whole / final), state_of(broken / final))


def test_other_seeds_give_other_weights(crowd: Path, tmp_path: Path) -> None:
    overrides = pose_settings(crowd, **every(1, **{'train_cfg.max_iters': 1}))
    states = []
    for seed in (0, 1):
        run(POSE, tmp_path / str(seed), overrides, seed=seed)
        states.append(state_of(tmp_path / str(seed) / 'iter_1.pth')['state_dict'])
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(
    ('resume', 'message'),
    [
        (None, r'already holds a run .*iter_3\.pth.*--resume'),
        (Path('nowhere.pth'), r'--resume: no checkpoint at nowhere\.pth'),
    ],
)
def test_a_run_that_cannot_start_is_refused(tmp_path: Path, resume: Any, message: str) -> None:
    (tmp_path / 'iter_3.pth').touch()
    options = LaunchOptions(work_dir=tmp_path, resume=resume, overrides=pose_settings(ROOT))
    with pytest.raises(SettingsError, match=message):
        build_runner(POSE, options)


@pytest.mark.parametrize(
    ('note', 'expected'),
    [
        pytest.param('/moved/away/iter_2.pth', 'iter_2.pth', id='folder moved'),
        pytest.param('', 'iter_10.pth', id='note cut off'),
        pytest.param('iter_11.pth', 'iter_10.pth', id='file lost'),
        pytest.param(None, 'iter_10.pth', id='no note'),
    ],
)
def test_newest_checkpoint_is_found(tmp_path: Path, note: str | None, expected: str) -> None:
    import os

    for age, step in enumerate((10, 2)):
        path = tmp_path / f'iter_{step}.pth'
        path.touch()
        os.utime(path, (1000 - age, 1000 - age))
    (tmp_path / 'iter_12.pth.partial').touch()
    if note is not None:
        (tmp_path / 'last_checkpoint').write_text(note)
    found = latest_checkpoint(tmp_path)
    assert found is not None
    assert found.name == expected


def test_a_truncated_checkpoint_never_replaces_a_complete_one(
    crowd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(checkpoint: Any, filename: str, **_: Any) -> None:
        Path(filename).write_bytes(b'half')
        raise Crash

    overrides = pose_settings(crowd, **every(1, **{'train_cfg.max_iters': 1}))
    options = LaunchOptions(work_dir=tmp_path, overrides=overrides)
    runner = build_runner(POSE, options)
    monkeypatch.setattr('mmengine.runner.runner.save_checkpoint', cut_off)
    with pytest.raises(Crash):
        runner.train()
    assert latest_checkpoint(tmp_path) is None


class Canary:
    """Writes a file when it is unpickled by `torch.load(weights_only=False)`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, 'ran'))


def evil_checkpoint(folder: Path, place: str) -> Path:
    """A checkpoint with the weights of the config that runs code from ``place``."""
    content = torch.load(find_weights('vitpose_compact').path, weights_only=True)
    content = {'state_dict': content['state_dict'], 'message_hub': {}, 'optimizer': {}} | {
        'meta': {'epoch': 0, 'iter': 0, 'cfg': ''}
    }
    canary = Canary(folder / 'canary')
    if place == 'weights':
        content['state_dict']['x'] = canary
    else:
        content[place] = canary
    torch.save(content, folder / 'evil.pth')
    return folder / 'evil.pth'


@pytest.mark.parametrize('way', ['resume', 'load_from', 'init_cfg', 'init_cfg.prefix', 's3'])
@pytest.mark.parametrize('place', ['weights', 'optimizer', 'message_hub'])
def test_no_code_of_a_checkpoint_runs(crowd: Path, tmp_path: Path, place: str, way: str) -> None:
    path = evil_checkpoint(tmp_path, place)
    init = {'type': 'Pretrained', 'checkpoint': str(path)}
    changes: dict[str, Any] = {
        'resume': {},
        'load_from': {'load_from': str(path)},
        'init_cfg': {'load_from': None, 'model.init_cfg': init},
        'init_cfg.prefix': {
            'load_from': None, 'model.backbone.init_cfg': {**init, 'prefix': 'backbone.'}
        },  # of the detector
        's3': {'load_from': f's3://{path}'},
    }[way]  # fmt: skip
    detector = way == 'init_cfg.prefix'
    settings = (detector_settings if detector else pose_settings)(crowd, **every(1), **changes)
    options = LaunchOptions(
        tmp_path / 'run', resume=path if way == 'resume' else None, quiet=True, overrides=settings
    )
    runner = build_runner(DETECTOR if detector else POSE, options)
    message = 'Python code' if way != 's3' else 'download the checkpoint'
    with pytest.raises(CheckpointError, match=message):
        runner.train()
    assert not (tmp_path / 'canary').exists()


def test_a_config_inside_a_checkpoint_is_not_run(crowd: Path, tmp_path: Path) -> None:
    settings = pose_settings(crowd, **every(1, **{'train_cfg.max_iters': 1}))
    run(POSE, tmp_path, settings)
    content = torch.load(tmp_path / 'iter_1.pth', weights_only=False)
    # `Runner.resume` runs this text as Python, even if the file was loaded safely.
    content['meta']['config'] = f"open({str(tmp_path / 'canary')!r}, 'w')"
    torch.save(content, tmp_path / 'iter_1.pth')
    assert run(POSE, tmp_path, settings | {'train_cfg.max_iters': 2}, resume='latest').iter == 2
    assert not (tmp_path / 'canary').exists()


def test_a_refused_checkpoint_ends_in_one_line(
    crowd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = evil_checkpoint(tmp_path, 'weights')
    pairs = [f'{k}={v}' for k, v in pose_settings(crowd).items() if not isinstance(v, (list, dict))]
    words = [str(POSE), '--resume', str(path), '--work-dir', str(tmp_path / 'run')]
    assert train.main([*words, '--cfg-options', *pairs]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert 'evil.pth cannot be read as weights: it needs to run Python code' in last
    assert not (tmp_path / 'canary').exists()
