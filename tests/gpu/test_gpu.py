"""Where a CUDA device is, it gives what the CPU gives, but for the rounding of its kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline import load_pipeline
from pipeline.detectors.mmdet_detector import build_mmdet_detector
from pipeline.runtime import mmcv_ops
from pipeline.runtime.options import Precision, RuntimeOptions
from pipeline.synthetic.scene import SceneConfig, make_scene
from tests.small_models import small_detector

pytestmark = pytest.mark.gpu


@pytest.fixture(scope='module')
def image() -> np.ndarray:
    return make_scene(SceneConfig(width=480, height=360, min_people=3, max_people=3, seed=1)).image


@pytest.mark.parametrize(('precision', 'px'), [('fp32', 0.5), ('bf16', 8), ('fp16', 2)])
@pytest.mark.parametrize('refine', [False, True])
def test_the_embedded_pipeline(
    image: np.ndarray, precision: Precision, px: float, refine: bool
) -> None:
    options = {'loop.refine': refine}
    expected = load_pipeline('bmp_compact', {**options, 'runtime.device': 'cpu'})(image)
    options |= {'runtime.device': 'cuda', 'runtime.precision': precision}
    run = load_pipeline('bmp_compact', options)
    for found in (run(image), *run.predict_batch([image, image])):
        assert len(found) == len(expected) > 0
        moved = np.linalg.norm(found.keypoints - expected.keypoints, axis=-1)
        assert np.median(moved) < px
        np.testing.assert_allclose(found.scores, expected.scores, atol=0.05)


DETECTORS = (
    'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py',
    'mmdet::rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py',
    'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py',
    'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
)


@pytest.mark.parametrize('kernels', [True, False], ids=['mmcv', 'torchvision'])
@pytest.mark.parametrize('name', DETECTORS)
def test_detectors_run_with_and_without_kernels_of_mmcv(
    name: str, kernels: bool, image: np.ndarray, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernels and not mmcv_ops.has_kernels('cuda'):
        pytest.skip('mmcv is compiled for the CPU only')
    monkeypatch.setattr(mmcv_ops, 'has_kernels', lambda device: kernels or device == 'cpu')
    config = small_detector(name, tmp_path)
    counts = []
    for device in ('cpu', 'cuda'):
        torch.manual_seed(0)
        runtime = RuntimeOptions(device)
        build = build_mmdet_detector(config, None, runtime, score_threshold=0.0, max_people=5)
        counts.append(len(build(image)))
    assert counts[1] > 0
