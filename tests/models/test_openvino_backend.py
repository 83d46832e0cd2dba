"""OpenVINO in place of PyTorch: the same results, kept conversions, refused settings."""

from __future__ import annotations

import importlib.util
import logging
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline import load_pipeline
from pipeline.config import CONFIG_FOLDER
from pipeline.detectors.mmdet_detector import build_mmdet_detector
from pipeline.poses.mmpose_estimator import build_mmpose_estimator
from pipeline.runtime import openvino_backend
from pipeline.runtime.openvino_backend import MAX_MODELS, OpenVino, cache_folder, fingerprint
from pipeline.runtime.options import RuntimeOptions
from pipeline.runtime.precision import optimize_modules
from pipeline.segmenters.build_sam2 import build_sam2_model
from pipeline.segmenters.prompts import PromptConfig, make_prompts
from pipeline.segmenters.sam2_segmenter import build_sam2_segmenter
from pipeline.structures import Detections, Poses
from pipeline.synthetic.scene import Scene, SceneConfig, make_scene

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec('openvino') is None, reason='openvino is not installed'
)

COMPACT = CONFIG_FOLDER / 'compact'
CHECKPOINTS = Path(__file__).parents[2] / 'checkpoints'
SHAPE = (240, 320)


@pytest.fixture(scope='module', autouse=True)
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
        yield


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    return cache_folder()


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, 'pipeline')


@pytest.fixture
def no_warning(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A warning would say that PyTorch stood in for OpenVINO."""
    yield
    assert not warnings_of(caplog)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = [r for r in caplog.get_records('call') if r.name.startswith('pipeline')]
    return [r.getMessage() for r in ours if r.levelno >= logging.WARNING]


def never(*args: Any) -> None:
    raise AssertionError('converted again')


@pytest.fixture(scope='module')
def scene() -> Scene:
    return make_scene(SceneConfig(width=320, height=240, min_people=3, max_people=3, seed=1))


def people(n: int) -> Detections:
    left = np.arange(n, dtype=np.float32)[:, None] * 30
    return Detections.from_boxes(np.concatenate([left, left, left + 60, left + 90], 1), SHAPE)


def both(build: Any, *args: Any, **options: Any) -> tuple[Any, Any]:
    """The same stage with PyTorch and with OpenVINO."""
    runtime = RuntimeOptions(device='cpu', backend='openvino')
    return build(*args, **options), build(*args, runtime, **options)


@pytest.mark.usefixtures('no_warning')
def test_detector_gives_the_same_boxes(scene: Scene) -> None:
    plain, other = both(
        build_mmdet_detector,
        str(COMPACT / 'rtmdet-ins_compact.py'),
        CHECKPOINTS / 'rtmdet-ins_compact.pth',
        score_threshold=0.05,
    )
    assert isinstance(other.model.backbone, OpenVino) and isinstance(other.model.neck, OpenVino)
    expected, found = plain(scene.image), other(scene.image)
    assert len(found) == len(expected) >= 1
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
    np.testing.assert_allclose(found.box_scores, expected.box_scores, atol=1e-4)
    for i in range(len(found)):
        same = found.detector_masks.dense(i) == expected.detector_masks.dense(i)
        assert same.mean() > 0.9999


@pytest.mark.usefixtures('no_warning')
def test_pose_estimator_gives_the_same_keypoints_in_any_batch(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, other = both(
        build_mmpose_estimator,
        str(COMPACT / 'vitpose_compact.py'),
        CHECKPOINTS / 'vitpose_compact.pth',
    )
    for count in (1, 3, 5):
        expected, found = (stage(scene.image, people(count)) for stage in (plain, other))
        # px; the peak between two cells is where the rounding of maps shows most.
        np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=5e-3)
        np.testing.assert_allclose(found.visibility, expected.visibility, atol=1e-4)
        if count > 1:
            monkeypatch.setattr(openvino_backend, 'convert', never)


@pytest.mark.usefixtures('no_warning')
def test_segmenter_gives_the_same_masks(scene: Scene) -> None:
    plain, other = both(
        build_sam2_segmenter,
        str(COMPACT / 'sam2.1_cspnext_compact.yaml'),
        CHECKPOINTS / 'sam2.1_cspnext_compact.pt',
        PromptConfig(visibility_threshold=0.0, num_keypoints=3, use_box=True),
    )
    assert other.model.device == torch.device('cpu')
    detections = people(3)
    points = np.linspace(0.2, 0.8, 17, dtype=np.float32)[None, :, None]
    low, high = detections.boxes[:, None, :2], detections.boxes[:, None, 2:]
    ones = np.ones((3, 17), np.float32)
    poses = Poses(
        detections.boxes, detections.box_scores, detections.detector_masks,
        low + points * (high - low), ones, ones, ones,
    )  # fmt: skip
    prompts = make_prompts(poses, Poses.empty_poses(*SHAPE, 17), plain.prompt)
    first, second = plain(scene.image), other(scene.image)
    with torch.inference_mode():
        expected, found = (photo._decode(prompts, np.arange(3)) for photo in (first, second))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    for one, same in zip(
        [first.embedding.image_embed, *first.embedding.high_res_feats],
        [second.embedding.image_embed, *second.embedding.high_res_feats],
        strict=True,
    ):
        torch.testing.assert_close(same, one, atol=1e-4, rtol=0)


@pytest.mark.usefixtures('no_warning')
def test_pipeline_gives_the_same_people_and_converts_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(options: dict[str, Any]) -> Any:
        pipeline = load_pipeline('bmp_compact', {'runtime.device': 'cpu', **options})
        return pipeline(scene.image, boxes=scene.boxes.tolist())

    expected, found = run({}), run({'runtime.backend': 'openvino'})
    assert len(found) == len(expected) >= 1
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=1e-2)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
    for i in range(len(found)):
        assert (found.masks.dense(i) == expected.masks.dense(i)).mean() > 0.999
    monkeypatch.setattr(openvino_backend, 'convert', never)
    again = run({'runtime.backend': 'openvino'})
    np.testing.assert_allclose(again.keypoints, found.keypoints, atol=1e-5)


class Toy(nn.Module):
    """A backbone with nested inputs and outputs."""

    def __init__(self, kind: str = 'plain') -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.kind = kind

    def forward(self, images: list[torch.Tensor]) -> Any:
        y = self.conv(images[0]) + images[1]
        if self.kind == 'batch baked in':
            y = y + torch.arange(len(y)).reshape(-1, 1, 1, 1)
        if self.kind == 'more than tensors':
            return {'maps': [y], 'name': 'x'}
        return {'maps': [y, y[:, :1]], 'pooled': (y.mean((2, 3)),)}


def toys(count: int, side: int = 8) -> list[torch.Tensor]:
    return [torch.randn(count, 3, side, side), torch.randn(count, 4, side - 2, side - 2)]


def assert_same(wrapped: OpenVino, counts: tuple[int, ...], atol: float = 1e-4) -> None:
    with torch.inference_mode():
        for count in counts:
            given = toys(count)
            found, expected = wrapped(given), wrapped.module(given)
            torch.testing.assert_close(found, expected, atol=atol, rtol=0)


@pytest.mark.usefixtures('no_warning')
def test_nested_tensors_and_attributes(caplog: pytest.LogCaptureFixture, empty_cache: Path) -> None:
    wrapped = OpenVino(Toy().eval())
    assert wrapped.kind == 'plain' and wrapped.conv is wrapped.module.conv
    assert next(wrapped.parameters()).device.type == 'cpu'
    assert_same(wrapped, (1, 3, 5, 3))
    told = [m for m in caplog.messages if 'converting' in m]
    assert len(told) == 2 and 'a batch of 1' in told[0] and 'batches' in told[1]
    assert 'only once' in told[0] and str(empty_cache) in told[0]
    threads = [m.run.get_property('INFERENCE_NUM_THREADS') for m in wrapped._compiled.values()]
    assert threads == [torch.get_num_threads()] * 2
    assert_same(OpenVino(Toy().eval(), 'bf16'), (1, 2), atol=0.05)
    assert len(told) == len([m for m in caplog.messages if 'converting' in m])


def test_only_children_with_weights_change() -> None:
    model = nn.Module()
    model.backbone, model.neck = Toy(), nn.Identity()
    optimize_modules(model, ('backbone', 'neck', 'absent'), RuntimeOptions(backend='openvino'))
    assert isinstance(model.backbone, OpenVino) and isinstance(model.neck, nn.Identity)


def test_a_batch_baked_in_is_noticed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wrapped = OpenVino(Toy('batch baked in').eval())
    assert_same(wrapped, (1, 3, 2, 3))
    assert warnings_of(caplog) == [m for m in caplog.messages if 'not convert for batches' in m]
    assert [key[0] for key, model in wrapped._compiled.items() if model] == [1, 3, 2]


def test_pytorch_runs_what_does_not_convert(caplog: pytest.LogCaptureFixture) -> None:
    wrapped = OpenVino(Toy('more than tensors').eval())
    with torch.inference_mode():
        for _ in range(2):
            assert wrapped(toys(1))['name'] == 'x'
    refused, stands_in = warnings_of(caplog)
    assert 'gives more than tensors' in refused and 'PyTorch runs Toy' in stands_in


def test_pytorch_runs_further_sizes(caplog: pytest.LogCaptureFixture) -> None:
    wrapped = OpenVino(Toy().eval())
    wrapped._compiled = {i: None for i in range(MAX_MODELS)}
    assert_same(wrapped, (1, 2))
    assert len(warnings_of(caplog)) == 1 and 'sizes of input' in warnings_of(caplog)[0]


@pytest.mark.parametrize('damage', ['cut', 'text', 'other byte', 'compiled'])
def test_damaged_files_are_made_again(
    damage: str, empty_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert_same(OpenVino(Toy().eval()), (1,))
    (kept,) = empty_cache.glob('*.zip')
    whole = kept.read_bytes()
    if damage == 'compiled':
        for blob in (empty_cache / 'compiled').iterdir():
            blob.write_bytes(b'no model')
    middle = len(whole) // 2
    other = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    kept.write_bytes({'cut': whole[:middle], 'text': b'x', 'other byte': other}.get(damage, whole))
    assert_same(OpenVino(Toy().eval()), (1,))
    told = warnings_of(caplog)
    assert len(told) == (damage != 'compiled') and all('is damaged' in m for m in told)
    assert zipfile.ZipFile(kept).testzip() is None


def test_without_a_cache_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    assert_same(OpenVino(Toy().eval()), (1,))
    assert [m for m in warnings_of(caplog) if 'the next start converts again' in m]


def test_everything_that_is_computed_names_the_file() -> None:
    modules = [Toy(), Toy(), Toy('batch baked in'), Toy()]
    with torch.no_grad():
        modules[3].conv.bias[0] += 1
    first, second, other_attribute, other_weight = map(fingerprint, modules)
    assert first == second and len({first, other_attribute, other_weight}) == 3
    sam = build_sam2_model(COMPACT / 'sam2.1_hiera_compact.yaml', None, 'cpu')
    before = fingerprint(sam.image_encoder)
    sam.image_encoder.trunk.blocks[0].window_size = 4
    assert fingerprint(sam.image_encoder) != before


def test_usage_statistics_stay_off() -> None:
    openvino_backend.import_openvino()
    assert sys.modules['openvino_telemetry'] is None
