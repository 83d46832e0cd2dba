"""Models of MMPose and MMDetection in the loop: python -m tests.model_table prints their table.

Every model is built from its config in the installed package, with random weights, and runs in
`bmp_custom_example` on a small image.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline import load_pipeline
from pipeline.api import LoadedPipeline
from pipeline.structures import People
from tests.small_models import small_detector

BODY, COCO = 'mmpose::body_2d_keypoint', 'td-hm_{}_8xb64-210e_coco-256x192.py'
HEATMAP = f'{BODY}/topdown_heatmap'
HAND = 'mmpose::hand_2d_keypoint/topdown_heatmap'
WHOLE_BODY = 'mmpose::wholebody_2d_keypoint/rtmpose/ubody'
# Model -> config and number of keypoints.
POSES: dict[str, tuple[str, int]] = {
    'RTMPose-t': (f'{BODY}/rtmpose/coco/rtmpose-t_8xb256-420e_coco-256x192.py', 17),
    'HRNet-w32': (f'{HEATMAP}/coco/{COCO.format("hrnet-w32")}', 17),
    'ViTPose-S': (f'{HEATMAP}/coco/{COCO.format("ViTPose-small")}', 17),
    'SimCC MobileNetV2': (
        f'{BODY}/simcc/coco/simcc_mobilenetv2_wo-deconv-8xb64-210e_coco-256x192.py', 17,
    ),
    'DeepPose R-50 RLE': (
        f'{BODY}/topdown_regression/coco/td-reg_res50_rle-8xb64-210e_coco-256x192.py', 17,
    ),
    'RTMPose-t, whole body': (
        f'{WHOLE_BODY}/rtmpose-t_8xb64-270e_coco-ubody-wholebody-256x192.py', 133,
    ),
    'RTMPose-t, Halpe': (
        f'{BODY}/rtmpose/body8/rtmpose-t_8xb1024-700e_body8-halpe26-256x192.py', 26,
    ),
    'HRNet-w32, CrowdPose': (
        f'{HEATMAP}/crowdpose/td-hm_hrnet-w32_8xb64-210e_crowdpose-256x192.py', 14,
    ),
    'MobileNetV2, MPII': (f'{HEATMAP}/mpii/td-hm_mobilenetv2_8xb64-210e_mpii-256x256.py', 16),
    'R-50, AP-10K animals': (
        'mmpose::animal_2d_keypoint/topdown_heatmap/ap10k/'
        'td-hm_res50_8xb64-210e_ap10k-256x256.py', 17,
    ),
    'MobileNetV2, COCO hand': (
        f'{HAND}/coco_wholebody_hand/td-hm_mobilenetv2_8xb32-210e_coco-wholebody-hand-256x256.py',
        21,
    ),
    'MobileNetV2, OneHand10K': (
        f'{HAND}/onehand10k/td-hm_mobilenetv2_8xb64-210e_onehand10k-256x256.py', 21,
    ),
}  # fmt: skip
# Model -> config, and whether it predicts masks.
DETECTORS: dict[str, tuple[str, bool]] = {
    'RTMDet-tiny': ('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py', False),
    'RTMDet-Ins-tiny': ('mmdet::rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py', True),
    'YOLOX-tiny': ('mmdet::yolox/yolox_tiny_8xb8-300e_coco.py', False),
    'Faster R-CNN R-50': ('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', False),
    'Mask R-CNN R-50': ('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', True),
    'DINO R-50': ('mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py', False),
    'Mask2Former R-50': ('mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py', True),
}
BOTTOM_UP = {
    'RTMO-s': f'{BODY}/rtmo/coco/rtmo-s_8xb32-600e_coco-640x640.py',
    'DEKR HRNet-w32': f'{BODY}/dekr/coco/dekr_hrnet-w32_8xb10-140e_coco-512x512.py',
}
SMALL: dict[str, Any] = {
    'detector.config': 'compact/rtmdet-ins_compact.py',
    'detector.score_threshold': 0.0,
    'detector.max_people': 2,
    'pose.config': 'compact/vitpose_compact.py',
    'pose.flip_test': False,
    'segmenter.config': 'compact/sam2.1_hiera_compact.yaml',
    'segmenter.prompt.visibility_threshold': 0.0,
    'runtime.device': 'cpu',
} | {f'{stage}.checkpoint': None for stage in ('detector', 'pose', 'segmenter')}
IMAGE = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)


def load(seed: int = 0, **options: Any) -> LoadedPipeline:
    torch.manual_seed(seed)
    return load_pipeline('bmp_custom_example', SMALL | options)


def run_pose(config: str, **options: Any) -> People:
    run = load(**{'pose.config': config, 'loop.max_rounds': 1}, **options)
    return run(IMAGE, boxes=[[5, 5, 70, 115], [85, 10, 155, 118]])


def run_detector(config: str, folder: Path) -> People:
    """The first of eight random networks whose boxes are not all empty; which, varies by CPU."""
    options = {'detector.config': small_detector(config, folder)}
    return next(filter(len, (load(seed, **options)(IMAGE) for seed in range(8))))


def pose_row(name: str, people: People) -> str:
    kept = people.keypoint_set
    used = "COCO's 17" if kept.has_coco else f'all {kept.num}'
    return f'| {name} | `{POSES[name][0]}` | {kept.num} | {used} |'


def detector_row(name: str, people: People) -> str:
    output = 'boxes and masks' if people.detector_masks.areas.any() else 'boxes'
    return f'| {name} | `{DETECTORS[name][0]}` | {output} |'


def lines() -> Iterator[str]:
    yield '| pose model | config | keypoints | the loop uses |\n|---|---|---|---|'
    for name, (config, _) in POSES.items():
        yield pose_row(name, run_pose(config))
    yield '\n| detector | config | output |\n|---|---|---|'
    for name, (config, _) in DETECTORS.items():
        with tempfile.TemporaryDirectory() as folder:
            yield detector_row(name, run_detector(config, Path(folder)))


if __name__ == '__main__':
    for line in lines():
        sys.stdout.write(f'{line}\n')
