"""Train the compact pose model, or resume its training with the same command.

Example:
    python projects/compact_models/trainers/find_detections.py DATA/annotations.json found.json
    python projects/compact_models/trainers/train_pose.py --data DATA --detections found.json \
        --init checkpoints/vitpose_compact.pth --work-dir work_dirs/pose
    python projects/compact_models/trainers/train_pose.py --data DATA \
        --evaluate work_dirs/pose/weights.pth
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

from projects.compact_models.trainers.loop import (
    add_settings,
    prepare_process,
    read_settings,
    train,
)
from projects.compact_models.trainers.pose_augment import PoseSampler
from projects.compact_models.trainers.pose_data import People, load_people
from projects.compact_models.trainers.pose_evaluate import evaluate_pose
from projects.compact_models.trainers.pose_losses import compute_losses

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / 'configs/compact/vitpose_compact.py'


class PoseTask:
    """Batches and losses of the pose model; a `loop.Task`."""

    def __init__(self, people: People) -> None:
        self.make_batch = PoseSampler(people).make_batch
        self.compute_losses = compute_losses


def build_model(config: Path, weights: Path | None) -> nn.Module:
    """Pose model of an MMPose config, with weights of a file or random ones."""
    from mmengine.config import Config
    from mmpose.registry import MODELS
    from mmpose.utils import register_all_modules

    from pipeline.weights_io import load_into, load_state

    register_all_modules()
    model: nn.Module = MODELS.build(Config.fromfile(config).model)
    if weights is not None:
        load_into(model, load_state(weights)[0], weights)
    return model


def pack_weights(state: dict[str, Tensor]) -> dict[str, Any]:
    """Content of a checkpoint that MMPose and `publish_checkpoint.py` read."""
    from mmpose.datasets.datasets.utils import parse_pose_metainfo

    from pipeline.training.plain_weights_hook import plain

    meta = parse_pose_metainfo({'from_file': 'configs/_base_/datasets/coco.py'})
    return {'state_dict': state, 'meta': {'dataset_meta': plain(meta)}}


def evaluate(model: nn.Module, sets: dict[str, People]) -> dict[str, float]:
    """Figures of a model on several sets of people."""
    figures: dict[str, float] = {}
    for name, people in sets.items():
        figures.update(evaluate_pose(model, people, name))
    return figures


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--data', type=Path, required=True, help='folder with annotations.json and its photos')
    add('--detections', type=Path, help='of find_detections.py; without it no boxes are refined')
    add('--dev', type=Path, help='COCO keypoint file for more figures, beside its images/')
    add('--init', type=Path, help='first weights (default: random)')
    add('--config', type=Path, default=CONFIG)
    add('--evaluate', type=Path, help='print the figures of these weights, train nothing')
    add('--max-photos', type=int, help='read only so many photos; for tests')
    add('--nice', type=int, default=0, help='lower the priority by this')
    add_settings(parser)
    args = parser.parse_args()
    if not args.evaluate and not args.work_dir:
        parser.error('give --work-dir, or --evaluate WEIGHTS')
    return args


def main() -> None:
    """Train or evaluate."""
    args = parse_args()
    prepare_process(args.nice)
    read = partial(load_people, detections=args.detections, max_photos=args.max_photos)
    annotations = args.data / 'annotations.json'
    sets = {'val': read(annotations, subset='val')}
    if args.dev:
        sets['dev'] = load_people(args.dev, min_keypoints=1)
    if args.evaluate:
        figures = evaluate(build_model(args.config, args.evaluate), sets)
        print(json.dumps(figures, indent=1))  # noqa: T201
        return
    task = PoseTask(read(annotations, subset='train'))
    torch.manual_seed(args.seed)
    train(
        build_model(args.config, args.init), task, read_settings(args),
        evaluate=partial(evaluate, sets=sets), pack_weights=pack_weights, restart=args.restart,
    )  # fmt: skip


if __name__ == '__main__':
    main()
