"""Train the compact detector from a teacher, or resume its training with the same command.

The targets are the teacher's scores and boxes at every point, and annotated masks.

Example:
    python projects/compact_models/trainers/train_detector.py --data DATA --teacher rtmdet_nano.py \
        rtmdet_nano.pth --init checkpoints/rtmdet-ins_compact.pth --work-dir work_dirs/detector
    python projects/compact_models/trainers/train_detector.py --data DATA \
        --evaluate work_dirs/detector/weights.pth
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # this checkout, installed or not

from pipeline.detectors.rtmdet_distilled import build_teacher
from projects.compact_models.trainers.detector_data import (
    DetectorAugmentation,
    DetectorSampler,
    Photos,
    load_photos,
)
from projects.compact_models.trainers.detector_evaluate import evaluate_detector
from projects.compact_models.trainers.detector_losses import TeacherLosses
from projects.compact_models.trainers.loop import (
    add_settings,
    has_bfloat16,
    prepare_process,
    read_settings,
    train,
)

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / 'configs/compact/rtmdet-ins_compact.py'
META = {'classes': ['person'], 'palette': [[220, 20, 60]]}


class DetectorTask:
    """Batches and losses of the detector; a `loop.Task`."""

    def __init__(self, photos: Photos, teacher: nn.Module, crop: int) -> None:
        self.make_batch = DetectorSampler(photos, DetectorAugmentation(crop=crop)).make_batch
        self.compute_losses = TeacherLosses(teacher)


def build_model(config: Path, weights: Path | None) -> nn.Module:
    """Detector of an MMDetection config, with weights of a file or random ones."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    import pipeline.training.depthwise_conv  # noqa: F401  (registers a convolution)
    from pipeline.weights_io import load_into, load_state

    register_all_modules()
    settings = Config.fromfile(config).model
    if has_bfloat16():
        settings.backbone.conv_cfg = settings.neck.conv_cfg = {'type': 'CpuDepthwiseConv2d'}
    model: nn.Module = MODELS.build(settings)
    if weights is not None:
        load_into(model, load_state(weights)[0], weights)
    return model.to(memory_format=torch.channels_last)  # type: ignore[no-any-return,call-overload]


def pack_weights(state: dict[str, Tensor]) -> dict[str, Any]:
    """Content of a checkpoint that MMDetection and `publish_checkpoint.py` read."""
    return {'state_dict': state, 'meta': {'dataset_meta': META}}


def evaluate(model: nn.Module, sets: dict[str, Photos]) -> dict[str, float]:
    """Figures of a model on several sets of photos."""
    figures: dict[str, float] = {}
    for name, photos in sets.items():
        figures.update(evaluate_detector(model, photos, name))
    return figures


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--data', type=Path, required=True, help='folder with annotations.json and its photos')
    add('--teacher', type=Path, nargs=2, metavar=('CONFIG', 'WEIGHTS'))
    add('--dev', type=Path, help='COCO file for more figures, beside its images/')
    add('--init', type=Path, help='first weights (default: random)')
    add('--config', type=Path, default=CONFIG)
    add('--crop', type=int, default=320, help='side of the crops in px (default: %(default)s)')
    add('--evaluate', type=Path, help='print the figures of these weights, train nothing')
    add('--max-photos', type=int, help='read only so many photos; for tests')
    add('--nice', type=int, default=0, help='lower the priority by this')
    add_settings(parser, samples=400_000, batch_size=24, lr=1e-3, evaluate_samples=20_000)
    args = parser.parse_args()
    if not args.evaluate and not (args.work_dir and args.teacher):
        parser.error('give --work-dir and --teacher, or --evaluate WEIGHTS')
    return args


def main() -> None:
    """Train or evaluate."""
    args = parse_args()
    prepare_process(args.nice)
    annotations = args.data / 'annotations.json'
    sets = {'val': load_photos(annotations, 'val', args.max_photos)}
    if args.dev:
        sets['dev'] = load_photos(args.dev)
    if args.evaluate:
        figures = evaluate(build_model(args.config, args.evaluate), sets)
        print(json.dumps(figures, indent=1))  # noqa: T201
        return
    backgrounds = args.data / 'backgrounds.json'
    photos = load_photos(
        annotations, 'train', args.max_photos, backgrounds if backgrounds.exists() else None
    )
    model = build_model(args.config, args.init)
    teacher = build_teacher(str(args.teacher[0]), str(args.teacher[1]))
    task = DetectorTask(photos, teacher.to(memory_format=torch.channels_last), args.crop)
    torch.manual_seed(args.seed)
    train(
        model, task, read_settings(args),
        evaluate=partial(evaluate, sets=sets), pack_weights=pack_weights, restart=args.restart,
    )  # fmt: skip


if __name__ == '__main__':
    main()
