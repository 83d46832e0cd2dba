"""Train the compact detector from a teacher, or resume its training with the same command.

The targets are the teacher's scores and boxes at every point, and annotated masks.

Example:
    python projects/compact_models/trainers/train_detector.py --data DATA --teacher rtmdet_nano.py \
        rtmdet_nano.pth --init checkpoints/rtmdet-ins_compact.pth --work-dir work_dirs/detector
    python projects/compact_models/trainers/train_detector.py --data DATA \
        --evaluate work_dirs/detector/weights.pth
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # this checkout, installed or not

from projects.compact_models.detector.distilled import build_teacher
from projects.compact_models.trainers.command import make_parser, prepare_process, run
from projects.compact_models.trainers.detector_data import (
    DetectorAugmentation,
    DetectorSampler,
    Images,
    load_images,
)
from projects.compact_models.trainers.detector_evaluate import evaluate_detector
from projects.compact_models.trainers.detector_losses import TeacherLosses
from projects.compact_models.trainers.loop import has_bfloat16, to_channels_last

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / 'configs/compact/rtmdet-ins_compact.py'
META = {'classes': ['person'], 'palette': [[220, 20, 60]]}


class DetectorTask:
    """Batches and losses of the detector; a `loop.Task`."""

    def __init__(self, images: Images, teacher: nn.Module, crop: int) -> None:
        self.make_batch = DetectorSampler(images, DetectorAugmentation(crop=crop)).make_batch
        self.compute_losses = TeacherLosses(teacher)


def build_model(config: Path, weights: Path | None) -> nn.Module:
    """Detector of an MMDetection config, with weights of a file or random ones."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    import projects.compact_models.detector.depthwise_conv  # noqa: F401  (registers a convolution)
    from pipeline.weights.loading import load_into, load_state

    register_all_modules()
    settings = Config.fromfile(config).model
    if has_bfloat16():
        settings.backbone.conv_cfg = settings.neck.conv_cfg = {'type': 'CpuDepthwiseConv2d'}
    model: nn.Module = MODELS.build(settings)
    if weights is not None:
        load_into(model, load_state(weights)[0], weights)
    return to_channels_last(model)


def pack_weights(state: dict[str, Tensor]) -> dict[str, Any]:
    """Content of a checkpoint that MMDetection and `publish_checkpoint.py` read."""
    return {'state_dict': state, 'meta': {'dataset_meta': META}}


def main() -> None:
    """Train or evaluate."""
    parser = make_parser(
        __doc__, CONFIG, samples=400_000, batch_size=24, lr=1e-3, evaluate_samples=20_000
    )
    parser.add_argument('--teacher', type=Path, nargs=2, metavar=('CONFIG', 'WEIGHTS'))
    parser.add_argument('--crop', type=int, default=320, help='side in px (default: %(default)s)')
    args = parser.parse_args()
    if not args.evaluate and not args.teacher:
        parser.error('give --teacher CONFIG WEIGHTS')
    prepare_process(args.nice)
    annotations, backgrounds = (args.data / f'{n}.json' for n in ('annotations', 'backgrounds'))
    sets = {'val': load_images(annotations, 'val', args.max_images)}
    if args.dev:
        sets['dev'] = load_images(args.dev)

    def make_task() -> DetectorTask:
        more = backgrounds if backgrounds.exists() else None
        images = load_images(annotations, 'train', args.max_images, more)
        teacher = build_teacher(*map(str, args.teacher))
        return DetectorTask(images, to_channels_last(teacher), args.crop)

    run(
        args, sets=sets, build_model=build_model, evaluate=evaluate_detector,
        make_task=make_task, pack_weights=pack_weights,
    )  # fmt: skip


if __name__ == '__main__':
    main()
