"""Batch sizes, compiled backbones and memory layouts do not change results."""

from __future__ import annotations

import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.build import _batch_size, build_pipeline
from pipeline.cli import run
from pipeline.cli.options import get_overrides
from pipeline.config import CONFIG_FOLDER, ConfigError, load_config
from pipeline.io.records import people_to_record
from pipeline.masks import Masks
from pipeline.poses.mmpose_estimator import MMPoseEstimator, build_mmpose_estimator
from pipeline.runtime import precision, products
from pipeline.runtime.batches import AdaptiveBatcher
from pipeline.runtime.options import ON_CPU, RuntimeOptions
from pipeline.runtime.precision import optimize_modules, warn_of_emulation
from pipeline.runtime.products import Linear, PointwiseConv, onednn_is_faster, use_onednn
from pipeline.runtime.wrappers import Compiled
from pipeline.segmenters.prompts import PromptConfig
from pipeline.segmenters.sam2_segmenter import build_sam2_segmenter
from pipeline.structures import Detections, Poses

COMPACT = CONFIG_FOLDER / 'compact'
CHECKPOINTS = Path(__file__).parents[2] / 'checkpoints'
SHAPE = (150, 210)


class SmallGPU:
    """Runs out of memory with more than so many rows at once."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.tried: list[int] = []

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        self.tried.append(len(rows))
        if len(rows) > self.room:
            raise torch.cuda.OutOfMemoryError('CUDA out of memory')
        return rows * 10


@pytest.mark.parametrize(
    ('size', 'room', 'tried'),
    [
        (4, 9, [4, 4, 2]),
        (4, 3, [4, 2, 2, 2, 2, 2]),
        (4, 1, [4, 2, *[1] * 10]),
        (99, 5, [10, 5, 5]),
    ],
)
def test_a_chunk_without_room_is_halved_for_good(
    size: int, room: int, tried: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    batcher, gpu = AdaptiveBatcher(size, 'pose.batch_size'), SmallGPU(room)
    parts = list(batcher.run(np.arange(10), gpu))
    assert gpu.tried == tried
    assert np.concatenate([rows for rows, _ in parts]).tolist() == list(range(10))
    assert np.concatenate([done for _, done in parts]).tolist() == list(range(0, 100, 10))
    halved = sum(n > room for n in tried)
    assert len(caplog.messages) == halved
    if halved:
        assert f'pose.batch_size={batcher.size}' in caplog.messages[-1]
    gpu.tried.clear()
    list(batcher.run(np.arange(10), gpu))  # the next image
    assert all(n <= room for n in gpu.tried)
    with pytest.raises(torch.cuda.OutOfMemoryError):  # one person without room
        list(batcher.run(np.arange(3), SmallGPU(0)))


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (*SHAPE, 3)).astype(np.uint8)


def people(n: int) -> Detections:
    left = np.arange(n, dtype=np.float32)[:, None] * 9
    return Detections.from_boxes(np.concatenate([left, left, left + 60, left + 80], 1), SHAPE)


def estimator(**options: Any) -> MMPoseEstimator:
    weights = CHECKPOINTS / 'vitpose_compact.pth'
    return build_mmpose_estimator(str(COMPACT / 'vitpose_compact.py'), weights, **options)


def fail_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """The first call of a method finds no memory."""
    method, calls = getattr(owner, name), []

    def failing(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == 1:
            raise torch.cuda.OutOfMemoryError('CUDA out of memory')
        return method(*args, **kwargs)

    monkeypatch.setattr(owner, name, failing)


def test_stages_go_on_when_memory_runs_out(
    image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, detections = estimator(batch_size=4), people(6)
    before = stage(image, detections)
    fail_once(monkeypatch, stage.model, 'test_step')
    after = stage(image, detections)
    assert stage.batcher.size == 2
    np.testing.assert_allclose(after.keypoints, before.keypoints, atol=1e-3)

    name = 'sam2.1_cspnext_compact'
    prompt = PromptConfig(visibility_threshold=0.0, num_keypoints=3)
    files = str(COMPACT / f'{name}.yaml'), CHECKPOINTS / f'{name}.pt'
    segmenter = build_sam2_segmenter(*files, prompt, batch_size=4)
    no_people = Poses.empty_poses(*SHAPE, 17)
    expected = segmenter(image)(before, no_people)
    fail_once(monkeypatch, segmenter.model.sam_mask_decoder, 'forward')
    found = segmenter(image)(before, no_people)
    assert segmenter.batcher.size == 2
    np.testing.assert_allclose(found.mask_scores, expected.mask_scores, atol=1e-5)
    assert found.logits.offsets.tolist() == expected.logits.offsets.tolist()


@pytest.mark.parametrize(
    ('size', 'device', 'people_at_once'),
    [('auto', 'cpu', 8), ('auto', 'cuda:1', 32), (5, 'cpu', 5), (5, 'cuda', 5)],
)
def test_the_device_sets_how_many_people_run_at_once(
    size: int | Literal['auto'], device: str, people_at_once: int
) -> None:
    assert _batch_size(size, RuntimeOptions(device), on_gpu=32, on_cpu=8) == people_at_once


class Tiny(nn.Module):
    """A backbone that remembers the batches it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.kind = 'tiny'
        self.batches: list[int] = []

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        self.batches.append(len(x))
        y = self.conv(x)
        return {'maps': [y, y[:, :1]], 'pooled': (y.mean((2, 3)),)}


def test_a_compiled_backbone_sees_few_shapes_and_gives_the_same() -> None:
    plain, compiled = Tiny(), nn.Module()
    compiled.backbone = plain
    compiled.neck = nn.Conv2d(4, 4, 1)
    optimize_modules(compiled, ('backbone', 'neck', 'absent'), RuntimeOptions())
    assert compiled.backbone is plain  # no options, no change
    compiled.backbone = Compiled(plain, 'default', backend='eager')
    assert compiled.backbone.kind == 'tiny'  # attributes of the module are still there
    assert sum(1 for _ in compiled.backbone.parameters()) == 2
    with torch.inference_mode():
        for count in (1, 3, 4, 5, 3):
            x = torch.randn(count, 3, 8, 8)
            expected, found = plain(x), compiled.backbone(x)
            assert plain.batches.pop() == 1 << (count - 1).bit_length()
            assert plain.batches.pop() == count
            assert found['maps'][0].shape == expected['maps'][0].shape
            torch.testing.assert_close(found, expected)


def test_the_layout_changes_no_result(image: np.ndarray) -> None:
    plain, other = estimator(runtime=replace(ON_CPU, memory_format=None)), estimator()
    strides = [
        next(p for p in stage.model.backbone.parameters() if p.ndim == 4 and p.shape[1] > 3)
        for stage in (plain, other)
    ]
    assert strides[0].is_contiguous() and not strides[1].is_contiguous()
    points = [stage(image, people(3)).keypoints for stage in (plain, other)]
    np.testing.assert_allclose(*points, atol=0.01)


@pytest.mark.parametrize('shares', [False, True])
def test_people_of_several_images_share_batches_on_a_gpu(
    shares: bool, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = estimator(batch_size=4)
    assert not stage.shares_batches  # on a CPU
    monkeypatch.setattr(MMPoseEstimator, 'shares_batches', shares)
    images = [image, image, image[:, ::-1].copy()]
    detections = [people(3), people(0), people(2)]
    sizes = []
    forward = stage._forward
    stage._forward = lambda rows: sizes.append(len(rows)) or forward(rows)  # type: ignore[func-returns-value,method-assign]
    batch = stage.predict_batch(images, detections)
    assert sizes == ([4, 1] if shares else [3, 2])
    monkeypatch.setattr(MMPoseEstimator, 'shares_batches', False)
    for found, *pair in zip(batch, images, detections, strict=True):
        alone = stage(*pair)
        assert len(found) == len(alone) == len(pair[1])
        tolerance = 1e-3 if shares else 0
        np.testing.assert_allclose(found.keypoints, alone.keypoints, atol=tolerance, rtol=0)
        np.testing.assert_allclose(found.visibility, alone.visibility, atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ({'runtime.compile': True}, "runtime.compile must be 'default' or"),
        ({'runtime.compile': False}, 'off is None, never False'),
        ({'runtime.memory_format': 'nhwc'}, "memory_format must be 'channels_last' or None"),
    ],
)  # fmt: skip
def test_wrong_settings_are_named(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config('bmp_compact', option)


def test_compiling_without_a_compiler_fails_before_anything_loads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv('PATH', '/nowhere')
    assert shutil.which('c++') is None
    with pytest.raises(ConfigError, match=r"runtime.compile='default' needs a C\+\+ compiler"):
        build_pipeline(load_config('bmp_compact', {'runtime.compile': 'default'}))


@pytest.mark.slow
def test_a_compiled_pipeline_gives_the_same_people() -> None:
    from pipeline.synthetic.scene import SceneConfig, make_scene

    scene = make_scene(SceneConfig(width=320, height=240, min_people=3, max_people=3, seed=1))
    boxes = Detections(
        scene.boxes.astype(np.float32),
        np.ones(3, np.float32),
        Masks.from_dense((scene.mask(i) for i in range(3)), (240, 320)),
    )
    plain, compiled = (
        build_pipeline(load_config('bmp_compact', {'runtime.compile': mode})).run(
            scene.image, boxes
        )
        for mode in (None, 'default')
    )
    assert len(plain) == len(compiled) >= 1
    np.testing.assert_allclose(compiled.keypoints, plain.keypoints, atol=0.5)
    np.testing.assert_allclose(compiled.boxes, plain.boxes, atol=2)


@pytest.mark.parametrize('refine', [False, True])
def test_a_batch_gives_the_same_people_as_single_images(refine: bool, image: np.ndarray) -> None:
    options = {'loop.refine': refine, 'loop.refine_min_side': 30, 'pose.batch_size': 4}
    pipeline = build_pipeline(load_config('bmp_compact', options)).run
    images = [image, image[:, ::-1].copy(), np.zeros((90, 60, 3), np.uint8), image[:100].copy()]
    boxes = [people(3), people(2), None, Detections.from_boxes([], (100, 210))]
    alone = [pipeline(*pair) for pair in zip(images, boxes, strict=True)]
    assert sum(map(len, alone)) >= 3
    batch = pipeline.predict_batch(images, boxes)
    assert [people_to_record(found) for found in batch] == [people_to_record(p) for p in alone]


def test_a_detector_takes_images_of_one_input_size_together(image: np.ndarray) -> None:
    """Batches of 3 against single images: RTMDet-Ins pads every image to the same square."""
    settings = {'detector.score_threshold': 0.01}
    single = build_pipeline(load_config('bmp_compact', settings)).run.detector
    batched = build_pipeline(load_config('bmp_compact', {**settings, 'detector.batch_size': 3}))
    images = [image, image[:, ::-1].copy(), image[:100].copy(), image]
    together = batched.run.detector.predict_batch(images)
    assert batched.run.detector.predict_batch([]) == []
    assert sum(map(len, together)) > 0
    for found, one in zip(together, images, strict=True):
        alone = single(one)
        assert len(found) == len(alone)
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-2)
        np.testing.assert_allclose(found.box_scores, alone.box_scores, atol=1e-4)


@pytest.mark.parametrize(
    ('options', 'has_bf16', 'warns'),
    [
        (RuntimeOptions('cpu', 'fp32'), False, False),
        (RuntimeOptions('cpu', 'bf16'), True, False),
        (RuntimeOptions('cpu', 'bf16'), False, True),
        (RuntimeOptions('cpu', 'fp16'), True, True),
        (RuntimeOptions('cuda:0', 'fp16'), False, False),
    ],
)
def test_emulated_precision_is_logged(
    options: RuntimeOptions, has_bf16: bool, warns: bool, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    kind = options.precision
    monkeypatch.setattr(precision, 'cpu_computes_in_bf16', lambda: has_bf16)
    warn_of_emulation(options)
    assert [f'runtime.precision={kind}' in message for message in caplog.messages] == [True] * warns


@pytest.mark.parametrize(
    ('has_bf16', 'options', 'expected'),
    [
        (True, [], {'runtime.precision': 'bf16', 'pose.flip_test': False}),
        (False, [], {'runtime.precision': 'fp32', 'pose.flip_test': False}),
        (
            True,
            ['--precision', 'fp32', '--cfg-options', 'pose.flip_test=True'],
            {'runtime.precision': 'fp32', 'pose.flip_test': True},
        ),
    ],
)
def test_fast_is_overridden_by_other_options(
    has_bf16: bool, options: list[str], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, 'cpu_computes_in_bf16', lambda: has_bf16)
    args = run.build_parser().parse_args(['a.jpg', '--device', 'cpu', '--fast', *options])
    assert get_overrides(args) == {'runtime.device': 'cpu', **expected}


@pytest.mark.parametrize(
    ('about', 'capability', 'expected'),
    [
        ('vendor_id : AuthenticAMD', 'AVX512', True),
        ('vendor_id : AuthenticAMD', 'AVX2', False),
        ('vendor_id : GenuineIntel', 'AVX512', False),
        ('CPU part : 0xd0c', 'DEFAULT', False),
    ],
)
def test_the_processor_chooses_the_library(
    about: str, capability: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'cpuinfo').write_text(about)
    monkeypatch.setattr(products, '_CPU_INFO', tmp_path / 'cpuinfo')
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: capability)
    assert onednn_is_faster() == expected


def test_onednn_gives_the_same_under_the_same_names() -> None:
    from mmcv.cnn.bricks.wrappers import Linear as MMCVLinear

    torch.manual_seed(0)
    shared = nn.Conv2d(6, 6, 1)
    stock = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1, bias=False), shared, shared, nn.Conv2d(6, 6, 1, 2),
        nn.Conv2d(6, 6, 1, groups=2), nn.Flatten(2), nn.Linear(9, 5), MMCVLinear(5, 4, bias=False),
    )  # fmt: skip
    fast = deepcopy(stock)
    use_onednn(fast)
    kinds = [type(layer) for layer in fast]
    assert kinds.count(PointwiseConv) == 3 and kinds.count(Linear) == 2
    assert fast[2] is fast[3]
    fast.load_state_dict(stock.state_dict())
    with torch.inference_mode():
        for count, layout in [(2, torch.channels_last), (1, torch.contiguous_format), (0, None)]:
            x = torch.randn(count, 3, 8, 8)
            x = x if layout is None else x.contiguous(memory_format=layout)
            torch.testing.assert_close(fast(x), stock(x))
            with torch.autocast('cpu', torch.bfloat16):
                torch.testing.assert_close(fast(x), stock(x))


def test_half_precision_converts_the_weights_once_under_the_same_names(image: np.ndarray) -> None:
    whole = build_pipeline(load_config('bmp_compact', {'segmenter.encoder': None})).run
    half = build_pipeline(
        load_config('bmp_compact', {'segmenter.encoder': None, 'runtime.precision': 'bf16'})
    ).run
    for name in ('detector', 'pose_estimator', 'segmenter'):
        states = [getattr(run, name).model.state_dict() for run in (whole, half)]
        assert list(states[0]) == list(states[1])
        kinds = {value.dtype for value in states[1].values()}
        assert {torch.bfloat16, torch.float32} <= kinds
    poses = [run.pose_estimator(image, people(3)) for run in (whole, half)]
    moved = np.abs(poses[1].keypoints - poses[0].keypoints)  # a heatmap may have two equal peaks
    assert np.median(moved) < 0.2 and np.quantile(moved, 0.9) < 2
    prompt = PromptConfig(visibility_threshold=0.0, num_keypoints=3)
    nobody = Poses.empty_poses(*SHAPE, 17)
    scores = [
        run.segmenter(image).with_prompt(prompt)(poses[0], nobody).mask_scores
        for run in (whole, half)
    ]
    np.testing.assert_allclose(scores[1], scores[0], atol=0.05)
