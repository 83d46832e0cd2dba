"""Train the compact segmenter, or resume its training with the same command.

Example:
    python projects/compact_models/trainers/train_segmenter.py --data DATA \
        --init checkpoints/sam2.1_cspnext_compact.pt --work-dir work_dirs/segmenter
    python projects/compact_models/trainers/train_segmenter.py --data DATA \
        --evaluate work_dirs/segmenter/weights.pt
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # this checkout, installed or not

from pipeline.segmenters.build_sam2 import build_sam2_model
from pipeline.segmenters.sam2_forward import decode_prompts, embed_images
from pipeline.segmenters.sam2_mask_prompt import draw_mask_prompt
from pipeline.training.pose2seg.losses import mask_iou
from projects.compact_models.detector.depthwise_conv import CpuDepthwiseConv2d
from projects.compact_models.segmenter.losses import PartialLossWeights, partial_prompt_losses
from projects.compact_models.trainers.command import make_parser, prepare_process, run
from projects.compact_models.trainers.crops import normalize
from projects.compact_models.trainers.loop import has_bfloat16, to_channels_last
from projects.compact_models.trainers.pose_data import KINDS, People, load_people
from projects.compact_models.trainers.segmenter_data import (
    STRIDE,
    S,
    SegmenterBatch,
    SegmenterSampler,
    choose_keypoints,
    cut_window,
    make_prompt,
    pad_prompts,
)

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / 'configs/compact/sam2.1_cspnext_compact.yaml'
WEIGHTS = PartialLossWeights(focal=10.0, dice=2.0, iou=0.5, object_score=0.1, focal_alpha=0.5)
TRAINED = ('image_encoder.', 'sam_prompt_encoder.', 'sam_mask_decoder.')
MARGIN = 1.25  # of the window in `bmp_compact`
EVALUATED = ('keypoints', 'box', 'both')


class SegmenterTask:
    """Batches and losses of the segmenter; a `loop.Task`."""

    def __init__(self, people: People) -> None:
        self.make_batch = SegmenterSampler(people).make_batch

    def compute_losses(self, model: nn.Module, batch: SegmenterBatch) -> dict[str, Tensor]:
        """Losses of the masks of all prompts."""
        outputs = run_prompts(model, batch.images, batch.points, batch.labels, batch.image_index)
        with torch.autocast('cpu', enabled=False):
            found = tuple(value.float() for value in outputs)
            logits = _resize(found[0], S // STRIDE)
            losses = partial_prompt_losses(
                (logits, found[1], found[2]), batch.targets, WEIGHTS, batch.known
            )
            is_whole = batch.known.flatten(1).amin(1) == 1
            overlap = mask_iou(logits.detach(), batch.targets)[:, 0]
            iou = (overlap * is_whole).sum() / is_whole.sum().clamp(min=1)
        return {**{f'loss_{name}': value for name, value in losses.items()}, 'iou': iou}


def run_prompts(
    model: nn.Module, images: Tensor, points: Tensor, labels: Tensor, image_index: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Mask logits (N, 1, S / 4, S / 4), predicted IoU, and object score of N prompts."""
    sam: Any = model
    return decode_prompts(
        sam, embed_images(sam, images), image_index=image_index,
        point_coords=points, point_labels=labels, mask_inputs=draw_mask_prompt(points, labels, S),
        multimask_output=False,
    )  # fmt: skip


def _resize(logits: Tensor, side: int) -> Tensor:
    return functional.interpolate(logits, (side, side), mode='bilinear', align_corners=False)


def build_model(config: Path, weights: Path | None) -> nn.Module:
    """SAM 2 with the input size of `bmp_compact`, with weights of a file or random ones."""
    model: nn.Module = build_sam2_model(
        str(config), weights, 'cpu', image_size=S, dynamic_multimask=False
    )
    if has_bfloat16():
        for module in model.modules():
            if type(module) is nn.Conv2d and module.groups == module.in_channels > 1:
                module.__class__ = CpuDepthwiseConv2d
    return to_channels_last(model)


def trained_parameters(model: nn.Module) -> list[nn.Parameter]:
    """All but the memory of videos, which the loop never runs."""
    return [p for name, p in model.named_parameters() if name.startswith(TRAINED)]


def pack_weights(state: dict[str, Tensor]) -> dict[str, Any]:
    """Content of a checkpoint that `sam2` and `publish_checkpoint.py` read."""
    return {'model': state}


@torch.no_grad()
def evaluate_segmenter(model: nn.Module, people: People, name: str) -> dict[str, float]:
    """Mean IoU in windows of 1.25 times the box: three spread keypoints, the box, both."""
    model.eval()
    overlaps: dict[str, list[float]] = {kind: [] for kind in EVALUATED}
    for row in np.flatnonzero(people.kind == KINDS.index('person')):
        if people.true_masks[row] is None or not (people.keypoints[row, :, 2] > 0).any():
            continue
        box = people.person_boxes[row]
        center, reach = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]).max() * MARGIN / 2
        window = cut_window(people, int(row), np.concatenate([center - reach, center + reach]))
        points = choose_keypoints(window, 'distance+confidence')[:3]
        corners = window.box.reshape(2, 2)
        prompts = [
            make_prompt(points, None), make_prompt(points[:0], corners),
            make_prompt(points, corners),
        ]  # fmt: skip
        image = normalize(window.image[None, ..., ::-1])
        logits = run_prompts(model, image, *pad_prompts(prompts), torch.zeros(3).long())[0]
        target = torch.from_numpy(window.mask.copy())[None, None].float()
        found = mask_iou(_resize(logits.float(), S), target.expand(3, -1, -1, -1))[:, 0]
        for kind, value in zip(EVALUATED, found.tolist(), strict=True):
            overlaps[kind].append(value)
    figures = {f'{name}_iou_{kind}': float(np.mean(v)) for kind, v in overlaps.items()}
    return {f'{name}_people': len(overlaps['box']), **figures}


def main() -> None:
    """Train or evaluate; a sample is a prompt."""
    parser = make_parser(__doc__, CONFIG, samples=500_000, lr=6e-4, evaluate_samples=25_000)
    args = parser.parse_args()
    prepare_process(args.nice)
    read = partial(
        load_people, args.data / 'annotations.json',
        max_images=args.max_images, kinds=('person',), with_masks=True,
    )  # fmt: skip
    sets = {'val': read(subset='val', min_keypoints=1)}
    if args.dev:
        sets['dev'] = load_people(args.dev, min_keypoints=1, with_masks=True)
    run(
        args, sets=sets, build_model=build_model, evaluate=evaluate_segmenter,
        make_task=lambda: SegmenterTask(read(subset='train', min_keypoints=4)),
        pack_weights=pack_weights, parameters=trained_parameters, weights_name='weights.pt',
    )  # fmt: skip


if __name__ == '__main__':
    main()
