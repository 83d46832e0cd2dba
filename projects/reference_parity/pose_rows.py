"""Head, codec, losses and mask dimming against the recorded numbers of the reference."""

from __future__ import annotations

from typing import Any

import mmpose.codecs
import mmpose.models  # noqa: F401
import numpy as np
import torch
from mmengine.structures import InstanceData, PixelData
from mmpose.codecs.utils import get_heatmap_maximum
from mmpose.registry import KEYPOINT_CODECS, MODELS
from mmpose.structures import PoseDataSample

from pipeline.openmmlab import scope_of
from pipeline.poses.oks_losses import OKSHeatmapLoss

from . import recordings
from .as_in_bmp import MaskBackgroundAsInBMP, redrawn_outline
from .multi_head import L1LogLoss, OKSLossPerKeypoint, balanced_weights
from .rows import (
    EXACT,
    LOSS_RELATIVE,
    NETWORK,
    PMPOSE_PX,
    SCORES,
    Array,
    Comparison,
)

BRANCHES = {'prob': 'presence', 'vis': 'visibility', 'oks': 'oks'}
SCALARS = ('conf', 'probs', 'visible', 'oks')


def tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(array.copy())


def released_head(cfg: dict[str, Any], weights: str) -> Any:
    """The head of a recorded config, built as it is, with its stored weights."""
    with scope_of('mmpose'):
        head = MODELS.build(cfg)
    head.load_state_dict(recordings.state_of(weights), strict=True)
    return head.eval()


@torch.no_grad()
def pmpose_head() -> Comparison:
    c = Comparison('pmpose_head')
    c.add('flip indices', c.facts['flip_indices'], c.arrays['flip_indices'], EXACT)
    with scope_of('mmpose'):
        codec = KEYPOINT_CODECS.build(c.facts['head_cfg']['decoder'])
    for prefix in ('noflip', 'flip'):
        compare_decoding(c, codec, prefix)
    if 'feat' in c.arrays:
        compare_network(c)
    return c


def compare_decoding(c: Comparison, codec: Any, prefix: str) -> None:
    """Keypoints of the recorded heat maps."""
    maps = c.arrays[f'{prefix}_heatmaps']
    c.add(f'{prefix}: arg max', peaks_of(maps), c.arrays[f'{prefix}_argmax'], EXACT)
    points, peaks = (np.concatenate(rows) for rows in zip(*map(codec.decode, maps), strict=True))
    c.add(f'{prefix}: decoded, input px', points, c.arrays[f'{prefix}_keypoints'], PMPOSE_PX)
    c.add(f'{prefix}: decoded scores', peaks, c.arrays[f'{prefix}_keypoints_conf'], SCORES)


def compare_network(c: Comparison) -> None:
    head = released_head(c.facts['head_cfg'], 'pmpose_head')
    for suffix in ('', '_flip'):
        feature = tensor(c.arrays[f'feat{suffix}'])
        outputs = head.forward((feature,))
        c.add('logits', head._logits(feature), c.arrays[f'logits{suffix}'], NETWORK)
        c.add('heat maps after sparsemax', outputs.heatmaps, c.arrays[f'htm{suffix}_raw'], NETWORK)
        for name, field in BRANCHES.items():
            recorded = c.arrays[f'{name}{suffix}_raw'][..., 0, 0]
            c.add(f'{field} branch', getattr(outputs, field), recorded, SCORES)
        if suffix:
            back = outputs.unflip(c.facts['flip_indices'], shift_heatmap=False).heatmaps
            c.add('heat maps flipped back', back, c.arrays['htm_flip_back'], NETWORK)
    for prefix in ('noflip', 'flip'):
        compare_predictions(c, head, prefix)


def compare_predictions(c: Comparison, head: Any, prefix: str) -> None:
    feats: Any = (tensor(c.arrays['feat']),)
    if prefix == 'flip':
        feats = [feats, (tensor(c.arrays['feat_flip']),)]
    samples = [PoseDataSample(metainfo={'flip_indices': c.facts['flip_indices']})]
    settings = {**c.facts[f'test_cfg_{prefix}'], 'output_heatmaps': True}
    found, fields = head.predict(feats, samples * len(c.arrays['feat']), settings)
    maps = np.stack([field.heatmaps.numpy() for field in fields])
    c.add(f'{prefix}: heat maps', maps, c.arrays[f'{prefix}_heatmaps'], NETWORK)
    c.add(f'{prefix}: arg max', peaks_of(maps), c.arrays[f'{prefix}_argmax'], EXACT)
    points = np.concatenate([row.keypoints for row in found])
    c.add(f'{prefix}: keypoints, input px', points, c.arrays[f'{prefix}_keypoints'], PMPOSE_PX)
    for name in (*(f'keypoints_{s}' for s in SCALARS), 'keypoint_scores'):
        scores = np.concatenate([row.get(name) for row in found])
        c.add(f'{prefix}: {name}', scores, c.arrays[f'{prefix}_{name}'], SCORES)


def peaks_of(maps: Array) -> Array:
    """Arg max of every map (N, K, H, W), as x, y."""
    return np.stack([get_heatmap_maximum(rows)[0] for rows in maps])


def mask_background() -> Comparison:
    c = Comparison('mask_background')
    masks = c.arrays['masks'].astype(bool)
    redrawn = np.stack([redrawn_outline(mask) for mask in masks])
    c.add('masks redrawn as polygons', redrawn, c.arrays['poly_mask'], EXACT)
    image = c.arrays['image_bgr']
    for name in [k for k in c.arrays if k.startswith('out_alpha_')]:
        alpha = float(name.removeprefix('out_alpha_').removesuffix('_first2'))
        dim = MaskBackgroundAsInBMP(alpha)
        recorded = c.arrays[name]
        results = [dim({'img': image.copy(), 'mask': m})['img'] for m in masks[: len(recorded)]]
        c.add(f'alpha {alpha:g}: dimmed images', np.stack(results), recorded, EXACT)
    for alpha in (0.2, 0.25):
        ramp = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (8, 1, 1))
        dim = MaskBackgroundAsInBMP(alpha)  # loses the last row and column
        dimmed = dim({'img': ramp, 'mask': np.ones((8, 256), bool)})['img'][..., 0]
        c.add('look-up tables', dimmed[0], c.arrays[f'lut_inside_{alpha}'], EXACT)
        c.add('look-up tables', dimmed[-1], c.arrays[f'lut_outside_{alpha}'], EXACT)
    return c


def oks_target_maps() -> Comparison:
    c = Comparison('oks_target_maps')
    cfg = recordings.facts('oks_losses')['head_cfg']['decoder']
    with scope_of('mmpose'):
        codec = KEYPOINT_CODECS.build(cfg)
    labels = ('keypoint_weights', 'annotated', 'in_image')
    columns = (c.arrays[k] for k in ('keypoints_input_px', 'annotated_in', 'visibility_in'))
    for i, (points, annotated, visible) in enumerate(zip(*columns, strict=True)):
        encoded = codec.encode(points[None], annotated[None], visible[None])
        c.add('OKS maps', encoded['heatmaps'], c.arrays['target_heatmaps'][i], NETWORK)
        for name in labels:
            ours = encoded[name if name.startswith('keypoint') else f'keypoints_{name}'][0]
            c.add(name.replace('_', ' '), ours, c.arrays[f'target_{name}'][i], EXACT)
        c.add('visibility', encoded['keypoints_visibility'][0], visible, EXACT)
        decoded, scores = codec.decode(c.arrays['target_heatmaps'][i])
        peaks = c.arrays['decoded_scores'][i]
        c.add('decoded scores', scores[0], peaks, SCORES)
        full = peaks > 0  # decoded points of empty maps mean nothing
        recorded = c.arrays['decoded_keypoints'][i][full]
        c.add('decoded, input px', decoded[0][full], recorded, PMPOSE_PX)
    return c


def losses() -> Comparison:
    c = Comparison('losses')
    if 'output' in c.arrays:
        for smoothing, tag in ((0.05, 'sw005'), (0.20, 'sw020')):
            compare_oks_loss(c, smoothing, tag)
    with scope_of('mmpose'):
        bce = MODELS.build({'type': 'BCELoss', 'use_target_weight': True, 'use_sigmoid': True})
        mse = MODELS.build({'type': 'MSELoss', 'use_target_weight': True})
    probability = [c.arrays[f'bce_{k}'] for k in ('prob', 'target', 'weight')]
    compare_loss(c, 'BCELoss', bce, probability, 'bce_value', 'bce_grad')
    compare_loss(c, 'MSELoss', mse, probability, 'mse_value', 'mse_grad')
    values = [c.arrays[f'l1log_{k}'] for k in ('output', 'target', 'weight')]
    for tag, weighted in (('weighted', True), ('unweighted', False)):
        loss = L1LogLoss(use_target_weight=weighted)
        compare_loss(c, f'L1LogLoss {tag}', loss, values, f'l1log_{tag}', f'l1log_{tag}_grad')
    return c


def compare_oks_loss(c: Comparison, smoothing: float, tag: str) -> None:
    arrays = [c.arrays[k] for k in ('output', 'target', 'weights')]
    name = f'OKSHeatmapLoss {smoothing:g}'
    loss = OKSHeatmapLoss(smoothing_weight=smoothing)
    alone = OKSLossPerKeypoint(smoothing_weight=smoothing)
    for per, compute in (('perpixel', loss.per_pixel), ('perkeypoint', alone.per_keypoint)):
        key = f'oksloss_{tag}_{per}'
        if key in c.arrays:
            value = compute(*map(tensor, arrays))
            c.add(f'{name} {per}', value, c.arrays[key], LOSS_RELATIVE, relative=True)
    key = f'oksloss_{tag}_perpixel_mean'
    compare_loss(c, f'{name} mean', loss, arrays, key, f'{key}_grad')
    unweighted = loss(*map(tensor, arrays[:2]))
    recorded = c.arrays[f'{key}_noweight'][0]
    c.add(f'{name} no weights', unweighted, recorded, LOSS_RELATIVE, relative=True)
    recorded = c.arrays[f'oksloss_{tag}_default'][0]
    value = alone(*map(tensor, arrays))
    c.add(f'{name} mean over keypoints', value, recorded, LOSS_RELATIVE, relative=True)


def compare_loss(
    c: Comparison, name: str, loss: Any, arrays: list[Array], value: str, gradient: str
) -> None:
    first, *rest = map(tensor, arrays)
    first.requires_grad_()
    result = loss(first, *rest)
    (found,) = torch.autograd.grad(result, first)
    c.add(name, result.detach(), c.arrays[value][0], LOSS_RELATIVE, relative=True)
    c.add(f'{name} gradient', found, c.arrays[gradient], LOSS_RELATIVE, relative=True)


def packed_targets() -> list[PoseDataSample]:
    """Samples with the recorded target maps, as `PackPoseInputs` makes them."""
    arrays, _ = recordings.load('oks_target_maps')
    names = {
        'keypoint_weights': 'target_keypoint_weights',
        'keypoints_annotated': 'target_annotated',
        'keypoints_in_image': 'target_in_image',
        'keypoints_visibility': 'visibility_in',
    }
    samples = []
    for i, maps in enumerate(arrays['target_heatmaps']):
        sample = PoseDataSample()
        sample.gt_fields = PixelData(heatmaps=tensor(maps))
        labels = {k: tensor(arrays[v][i : i + 1].astype(np.float32)) for k, v in names.items()}
        sample.gt_instance_labels = InstanceData(**labels)
        samples.append(sample)
    return samples


def multihead_loss() -> Comparison:
    c = Comparison('multihead_loss')
    cfg = recordings.facts('oks_losses')['head_cfg']
    samples = packed_targets()
    for mode in ('eval', 'train'):
        head = released_head(cfg, 'multihead_loss').train(mode == 'train')
        compare_training_step(c, head, samples, mode)
    if 'okst_weight' in c.arrays:
        compare_oks_targets(c, released_head(cfg, 'multihead_loss'))
    return c


def compare_oks_targets(c: Comparison, head: Any) -> None:
    """Targets of the OKS branch for maps near the ground truth."""
    weights = c.arrays['okst_weight']
    targets = head.oks_targets(
        *(tensor(c.arrays[k]) for k in ('okst_gt_heatmaps', 'okst_dt_heatmaps', 'okst_weight'))
    )
    c.add('OKS of maps near the ground truth', targets, c.arrays['okst_target_oks'], SCORES)
    error = head._decoded(tensor(c.arrays['okst_dt_heatmaps'])) - head._decoded(
        tensor(c.arrays['okst_gt_heatmaps'])
    )
    distance = error.square().sum(-1).sqrt() * tensor(weights)
    c.add('distance to the ground truth, px', distance, c.arrays['okst_target_error_px'], PMPOSE_PX)
    c.add('people with a keypoint', weights.any(1), c.arrays['okst_instance_weight'], EXACT)


LOSSES = ('loss_kpt', 'loss_probability', 'loss_visibility', 'loss_oks', 'mae_oks', 'acc_pose')


def compare_training_step(
    c: Comparison, head: Any, samples: list[PoseDataSample], mode: str
) -> None:
    feature = tensor(c.arrays['feat']).requires_grad_()
    before = {k: v.clone() for k, v in head.state_dict().items()}
    found = head.loss((feature,), samples)
    for name in LOSSES:
        recorded = c.arrays[f'{mode}_{name}'][0]
        c.add(f'{mode}: {name}', found[name].detach(), recorded, LOSS_RELATIVE, relative=True)
    sum(v for k, v in found.items() if k.startswith('loss_')).backward()
    c.add(f'{mode}: gradient of the features', feature.grad, c.arrays[f'{mode}_grad_feat'],
          LOSS_RELATIVE, relative=True)  # fmt: skip
    for key in [k for k in c.arrays if k.startswith(f'{mode}_grad_') and k != f'{mode}_grad_feat']:
        gradient = head.get_parameter(key.removeprefix(f'{mode}_grad_')).grad
        c.add(f'{mode}: gradients of weights', gradient, c.arrays[key], 10 * LOSS_RELATIVE,
              relative=True)  # fmt: skip
    if mode == 'train':
        for kind in ('mean', 'var'):
            ours = head.state_dict()[f'deconv_layers.1.running_{kind}']
            c.add('train: batch norm', ours, c.arrays[f'train_running_{kind}_after'], NETWORK)
        head.load_state_dict(before)  # the statistics of one forward pass, not of two
    compare_targets(c, head, feature.detach(), samples, mode)


def compare_targets(
    c: Comparison, head: Any, feature: torch.Tensor, samples: list[PoseDataSample], mode: str
) -> None:
    """Predictions, targets and weights of every branch."""
    with torch.no_grad():
        outputs = head.forward((feature,))
    c.add(f'{mode}: heat maps', outputs.heatmaps, c.arrays[f'{mode}_heatmaps'], NETWORK)
    labels = {
        name: torch.cat([s.gt_instance_labels.get(name) for s in samples])
        for name in samples[0].gt_instance_labels.keys()
    }
    annotated, inside = labels['keypoints_annotated'], labels['keypoints_in_image']
    visible, seen = labels['keypoints_visibility'], annotated * inside
    ground_truth = torch.stack([s.gt_fields.heatmaps for s in samples])
    branches = {
        'probability': (outputs.presence, inside, annotated),
        'visibility': (outputs.visibility, visible, balanced_weights(visible, annotated)),
        'oks': (outputs.oks, head.oks_targets(ground_truth, outputs.heatmaps, seen), seen),
    }
    for name, values in branches.items():
        for kind, ours in zip(('pred', 'target', 'weight'), values, strict=True):
            c.add(f'{mode}: {name} {kind}', ours, c.arrays[f'{mode}_{name}_{kind}'], SCORES)
    weights = labels['keypoint_weights']
    c.add(f'{mode}: heat-map weight', weights, c.arrays[f'{mode}_heatmap_weight'], EXACT)
