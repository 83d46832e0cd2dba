"""Train the compact pose model, or resume its training with the same command.

Example:
    python projects/compact_models/trainers/find_detections.py DATA/annotations.json found.json
    python projects/compact_models/trainers/train_pose.py --data DATA --detections found.json \
        --init checkpoints/vitpose_compact.pth --work-dir work_dirs/pose
    python projects/compact_models/trainers/train_pose.py --data DATA \
        --evaluate work_dirs/pose/weights.pth
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # this checkout, installed or not

from projects.compact_models.trainers.command import make_parser, prepare_process, run
from projects.compact_models.trainers.loop import to_channels_last
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

    from pipeline.weights.loading import load_into, load_state

    register_all_modules()
    model: nn.Module = MODELS.build(Config.fromfile(config).model)
    if weights is not None:
        load_into(model, load_state(weights)[0], weights)
    return to_channels_last(model)


def pack_weights(state: dict[str, Tensor]) -> dict[str, Any]:
    """Content of a checkpoint that MMPose and `publish_checkpoint.py` read."""
    from mmpose.datasets.datasets.utils import parse_pose_metainfo

    from projects.compact_models.training.plain_weights_hook import plain

    meta = parse_pose_metainfo({'from_file': 'configs/_base_/datasets/coco.py'})
    return {'state_dict': state, 'meta': {'dataset_meta': plain(meta)}}


def main() -> None:
    """Train or evaluate."""
    parser = make_parser(__doc__, CONFIG)
    parser.add_argument(
        '--detections', type=Path, help='of find_detections.py; without it boxes are not trained'
    )
    args = parser.parse_args()
    prepare_process(args.nice)
    read = partial(
        load_people, args.data / 'annotations.json',
        detections=args.detections, max_images=args.max_images,
    )  # fmt: skip
    sets = {'val': read(subset='val')}
    if args.dev:
        sets['dev'] = load_people(args.dev, min_keypoints=1)
    run(
        args, sets=sets, build_model=build_model, evaluate=evaluate_pose,
        make_task=lambda: PoseTask(read(subset='train')), pack_weights=pack_weights,
    )  # fmt: skip


if __name__ == '__main__':
    main()
