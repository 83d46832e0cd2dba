"""The page docs/user_guide/openmmlab.md does what it says: every block is run, in its order."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from pipeline.openmmlab import scope_of
from pipeline.synthetic.scene import make_demo_scene
from tests.run_documented_commands import run
from tests.toy_people import ROOT

PAGE = ROOT / 'docs' / 'user_guide' / 'openmmlab.md'
BLOCK = re.compile(r'^```(\w+)\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@pytest.fixture(scope='module')
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that looks like the project's root, with a crowd photo in it."""
    folder = tmp_path_factory.mktemp('project')
    for name in ('checkpoints', 'configs', 'tools'):
        (folder / name).symlink_to(ROOT / name)
    cv2.imwrite(str(folder / 'img.jpg'), make_demo_scene().image[..., ::-1])
    before = Path.cwd()
    os.chdir(folder)
    with scope_of('mmpose'):
        yield folder
    os.chdir(before)


def run_in_shell(commands: list[str]) -> str:
    """Output of the last block; the ones before it only set variables."""
    variables = [line for text in commands[:-1] for line in text.splitlines() if '=$(' in line]
    return run('bash', '\n'.join([*variables, commands[-1]]), Path.cwd())


@pytest.fixture(scope='module')
def done(workplace: Path) -> dict[str, Any]:
    """What all blocks left behind: names of the Python blocks, output of the commands."""
    names: dict[str, Any] = {}
    commands: list[str] = []
    output: list[str] = []
    for language, text in BLOCK.findall(PAGE.read_text()):
        file_name = re.match(r'# (\w+\.py)\n', text)
        if language == 'bash':
            commands.append(text)
            output.append(run_in_shell(commands))
        elif file_name:
            (workplace / file_name[1]).write_text(text)
        else:
            exec(compile(text, str(PAGE), 'exec'), names)
    return {**names, 'output': output}


def test_poses_are_found_in_boxes_with_and_without_masks(done: dict[str, Any]) -> None:
    assert done['people'] is not None
    assert len(done['samples']) == len(done['found']) > 0
    assert all(s.pred_instances.keypoints.shape == (1, 17, 2) for s in done['samples'])


def test_inferencer_writes_pictures_and_predictions(done: dict[str, Any], workplace: Path) -> None:
    assert done['result']['predictions'][0]
    for name in ('visualizations/img.jpg', 'predictions/img.json'):
        assert (workplace / 'outputs' / 'inferencer' / name).stat().st_size > 0


def test_scripts_print_the_metrics(done: dict[str, Any], workplace: Path) -> None:
    annotated, _, detected = done['output']
    printed = [float(re.findall(r'coco/AP: ([\d.]+)', text)[-1]) for text in (annotated, detected)]
    assert printed[0] == pytest.approx(done['metrics']['coco/AP'], abs=1e-4)
    assert 0 < printed[1] <= 1
    files = (workplace / 'outputs' / 'test').rglob('*')
    assert {'.jpg', '.png'} & {path.suffix for path in files}


def test_the_evaluator_shown_is_that_of_the_released_model(done: dict[str, Any]) -> None:
    released = Config.fromfile(ROOT / 'configs' / 'models' / 'pmpose_b.py').test_evaluator
    shown = done['test_evaluator']
    assert released.type == shown['type']
    for name in ('pred_converter', 'gt_converter'):
        assert [tuple(pair) for pair in released[name].mapping] == shown[name]['mapping']


def test_the_pose_config_shown_builds_and_uses_masks(done: dict[str, Any]) -> None:
    model = done['init_model']('my_pose.py', device='cpu')
    image = cv2.imread('img.jpg')
    mask = np.zeros(image.shape[:2], bool)
    mask[50:150, 50:100] = True
    samples = done['inference_topdown_with_masks'](model, image, [[40, 40, 110, 160]], [mask])
    assert np.isfinite(samples[0].pred_instances.keypoints).all()
    steps = model.cfg.train_dataloader.dataset.pipeline
    names = ['GetBBoxCenterScale', 'MaskBackground', 'RandomFlip']
    assert [step.type for step in steps[1:4]] == names


def test_the_detector_config_shown_builds_its_pipeline(done: dict[str, Any]) -> None:
    from mmcv.transforms import Compose

    with scope_of('mmdet'):
        transforms = Compose(Config.fromfile('my_detector.py').train_dataloader.dataset.pipeline)
    names = [type(step).__name__ for step in transforms.transforms]
    assert names[1:3] == ['LoadAnnotations', 'RemoveRandomInstances']


def test_results_are_drawn_by_the_visualizer(done: dict[str, Any], workplace: Path) -> None:
    assert len(done['sample'].pred_instances.keypoints) > 0
    drawn = cv2.imread(str(workplace / 'outputs' / 'people.png'))
    assert (drawn != cv2.imread('img.jpg')).any()
