"""Training of the compact promptable SAM: pasted people, masks known in part, kinds of prompts,
dense heads, and its configs run by the training tool."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from mmengine.structures import InstanceData

from pipeline.boxes import box_of_mask
from pipeline.segmenters.build_sam2 import build_sam2_model
from pipeline.segmenters.sam2_forward import (
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    POINT_PADDING,
    POINT_POSITIVE,
)
from pipeline.segmenters.sam2_preprocess import boxes_of
from pipeline.training.launch import LaunchOptions, build_runner
from pipeline.training.pose2seg.clicks import PoseMaskRefine
from pipeline.training.pose2seg.prediction import parse_eval_prompts
from projects.compact_models.cutouts import Layer
from projects.compact_models.segmenter import augment as aug
from projects.compact_models.segmenter.clicks import PartialClickSimulator, PartialPeople
from projects.compact_models.segmenter.dense import dense_targets, level_loss
from projects.compact_models.segmenter.first_prompts import FirstPrompts, draw_first
from projects.compact_models.segmenter.losses import (
    PartialLossWeights,
    partial_prompt_losses,
    projection_loss,
)
from projects.compact_models.segmenter.model import CompactSam
from projects.compact_models.segmenter.partial_data import (
    LoadPartialPoses,
    PackPartialPoses,
    PartialPoseDataset,
)
from projects.compact_models.segmenter.skeletons import (
    UNKNOWN,
    draw_skeleton,
    partial_masks,
)
from tests.toy_people import STANDING

pytestmark = pytest.mark.usefixtures('mmengine_scope')

ROOT = Path(__file__).parents[3]
COMPACT = str(ROOT / 'configs/compact/sam2.1_cspnext_compact.yaml')
STAGES = sorted((ROOT / 'projects/compact_models/configs').glob('sam2.1_cspnext_compact_*.py'))
HEIGHT, WIDTH, K = 120, 160, 17


def person(number, image_id, box, has_mask=True):
    """A rectangle with the keypoints of a standing person; without a mask the box alone."""
    x, y, w, h = box
    spots = np.concatenate([STANDING * [w - 1, h - 1] + [x, y], np.full((K, 1), 2.0)], 1)
    return {
        'id': number, 'image_id': image_id, 'category_id': 1, 'iscrowd': 0, 'bbox': box,
        'segmentation': [[x, y, x + w, y, x + w, y + h, x, y + h]] if has_mask else [],
        'keypoints': spots.ravel().tolist(),
    }  # fmt: skip


@pytest.fixture
def data(tmp_path):
    """Six dark images with bright people, each in a grey of its own; two are held out.

    In images 2 and 5 one of the two has no mask.
    """
    rng = np.random.default_rng(0)
    images, rows = [], []
    for number in range(6):
        pixels = rng.integers(0, 40, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        for index, left in enumerate((12, 90)[: 1 + number % 2 + (number == 2)]):
            pixels[20:110, left : left + 45] = 120 + 20 * number + 10 * index
            has_mask = not (number in (2, 5) and index)
            rows.append(person(len(rows) + 1, number, [left, 20, 45, 90], has_mask))
        cv2.imwrite(str(tmp_path / f'{number}.png'), pixels)
        images.append({
            'id': number, 'file_name': f'{number}.png', 'height': HEIGHT, 'width': WIDTH,
            'subset': 'train' if number < 4 else 'val', 'fully_annotated': number != 3,
        })  # fmt: skip
    content = {'images': images, 'annotations': rows}
    (tmp_path / 'annotations.json').write_text(json.dumps(content))
    return tmp_path


def people_set(data, **settings):
    return {
        'type': 'PartialPoseDataset', 'ann_file': str(data / 'annotations.json'),
        'data_prefix': {'img': str(data)}, 'subset': 'train', **settings,
    }  # fmt: skip


def loaded(data, index, **settings):
    return LoadPartialPoses()(DATASETS.build(people_set(data, **settings)).get_data_info(index))


def test_items_are_images_or_people(data):
    images = DATASETS.build(people_set(data))
    people = DATASETS.build(people_set(data, one_by_one=True))
    numbers = [[p['ann_id'] for p in images[i]['people']] for i in range(len(images))]
    alone = [[p['ann_id'] for p in people[i]['people']] for i in range(len(people))]
    assert max(map(len, numbers)) == 2
    assert alone == [[number] for image in numbers for number in image]


# Pasted people and closer looks


def test_the_true_mask_of_a_closer_look_is_that_of_the_window(data):
    zoom = aug.CropPose(scale=(1.5, 1.5), stretch=1.0, shift=0.0, prob=1.0)
    pack = PackPartialPoses(image_size=64)
    for image, shape in ((0, (120, 135)), (None, (120, 160))):
        np.random.seed(0)
        results = loaded(data, 0, one_by_one=True)
        whole = coco_mask.area(results['people'][0]['rle'])
        results = results if image is None else zoom(results)
        sample = pack(results)['data_samples']
        (rle,) = sample.rles
        assert tuple(rle['size']) == tuple(sample.ori_shape) == results['img'].shape[:2]
        assert coco_mask.area(rle) == whole
        assert results['img'].shape[0] == shape[0]
    # Known in part: there is no true mask.
    results = loaded(data, 2, one_by_one=True, from_keypoints=2)
    results['people'][0]['rle'] = None
    assert pack(zoom(results))['data_samples'].rles == [None]


@pytest.mark.parametrize('steps', [('paste',), ('zoom',), ('zoom', 'paste'), ('paste', 'zoom')])
def test_masks_and_keypoints_stay_with_the_pixels(data, steps):
    made = {
        'paste': aug.PastePoses(people_set(data), prob=1.0, max_people=3, min_visible=0.0),
        'zoom': aug.CropPose(prob=1.0),
    }
    pasted = 0
    for seed in range(25):
        np.random.seed(seed)
        results = loaded(data, (0, 1, 3)[seed % 3])  # in image 2 one person has no mask
        before = results['img'].shape
        for step in steps:
            results = made[step](results)
        masks = results['masks']
        assert len(masks) == len(results['keypoints']) == len(results['visibility'])
        assert len(masks) == len(results['people'])
        assert (masks > 0).sum(0).max() <= 1, 'a pixel has one person'
        pasted += len(masks) > 2
        if 'zoom' in steps:
            assert results['img'].shape[0] <= before[0] and results['img'].shape[1] <= before[1]
        # People are bright and the rest is dark; edges are blended.
        core = [cv2.erode(mask, np.ones((5, 5), np.uint8)) > 0 for mask in masks]
        anybody = masks.any(0).astype(np.uint8)
        far = cv2.dilate(anybody, np.ones((7, 7), np.uint8)) == 0
        assert all((results['img'][c] > 75).all() for c in core)
        assert not far.any() or (results['img'][far] < 75).all()
        for mask, points, visibility in zip(
            masks, results['keypoints'], results['visibility'], strict=True
        ):
            near = cv2.dilate(mask, np.ones((5, 5), np.uint8))
            x, y = points[visibility > 0].round().astype(int).T
            assert near[y, x].all()
    assert pasted or 'paste' not in steps


def test_who_is_pasted_over_loses_pixels_and_keypoints_and_may_be_dropped(data):
    results = loaded(data, 0)
    layer = Layer(np.full((90, 30, 3), 250, np.uint8), np.ones((90, 30), np.float32), 12, 20)
    row = {'keypoints': np.full((1, K, 2), 30, np.float32), 'people': [{'ann_id': 99}],
           'visibility': np.ones((1, K), np.float32)}  # fmt: skip
    covered = STANDING[:, 0] * 44 < 29.5
    changed = aug.paste(dict(results), layer, row, min_visible=0.2)
    assert [mask.sum() for mask in changed['masks']] == [15 * 90, 30 * 90]
    assert np.array_equal(changed['visibility'][0] == 0, covered)
    dropped = aug.paste(dict(results), layer, row, min_visible=0.4)
    assert [each['ann_id'] for each in dropped['people']] == [99]
    # A person that would be hardly visible is not pasted.
    outside = Layer(layer.image_bgr, layer.alpha, WIDTH - 3, 20)
    assert aug.paste(dict(results), outside, row, min_visible=0.2)['masks'].shape[0] == 1


def test_pasted_people_are_scaled_to_those_of_the_image(data):
    paste = aug.PastePoses(people_set(data), prob=1.0, max_people=1, size=(0.5, 0.5))
    np.random.seed(0)
    found = [paste(loaded(data, 0)) for _ in range(10)]
    sizes = [np.diff(box_of_mask(r['masks'][-1]).reshape(2, 2), axis=0) for r in found]
    assert max(size[0, 1] for size in sizes) == 45 and max(size[0, 0] for size in sizes) <= 23


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: aug.CropPose(scale=(2.0, 1.0)), 'CropPose: scale'),
        (lambda: aug.CropPose(stretch=0.5), 'stretch = 0.5'),
        (lambda: aug.PastePoses({}, prob=2), 'PastePoses: prob = 2'),
        (lambda: aug.PastePoses({}, max_people=0), 'max_people = 0'),
        (lambda: PackPartialPoses(64, max_objects=2, min_objects=3), 'min_objects = 3'),
        (lambda: PartialPoseDataset('x', from_keypoints=1), 'from_keypoints must be 2 or more'),
        (lambda: FirstPrompts(keypoints=0), 'chances of kinds'),
        (lambda: FirstPrompts(counts=(0, -1)), 'chances of counts'),
        (lambda: FirstPrompts(orders=('best',)), "orders has \\['best'\\]"),
        (lambda: FirstPrompts(orders=()), 'orders has nothing'),
        (lambda: FirstPrompts(jitter=-1), 'prompts.jitter must be in'),
        (lambda: FirstPrompts(box_jitter=2), 'prompts.box_jitter must be in'),
        (lambda: parse_eval_prompts(['mask']), "got 'mask'"),
        (lambda: parse_eval_prompts([]), 'must not be empty'),
        (lambda: CompactSam(COMPACT, image_size=64, dense_weight=1.0), 'freeze_image_encoder'),
        (lambda: CompactSam(COMPACT, image_size=64, correction_prob=2), 'correction_prob must'),
        (lambda: CompactSam(COMPACT, image_size=64, loss_stride=3), 'loss_stride must'),
        (lambda: CompactSam(COMPACT, align=True, checkpoint='x.pt'), 'align=True is for random'),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Masks known in part


def test_bones_are_the_person_and_the_rest_of_the_box_is_unknown():
    hw = (100, 120)
    boxes = np.array([[10, 10, 50, 90], [30, 10, 70, 90]], np.float32)
    points = [STANDING * (box[2:] - box[:2]) + box[:2] for box in boxes]
    visible = np.ones(K, bool)
    visible[9] = False
    bones = [draw_skeleton(p, visible, 40.0, hw) for p in points]
    masks = partial_masks(
        boxes,
        bones,
    )
    assert set(np.unique(masks)) == {0, 1, UNKNOWN}
    for mask, bone, other, box in zip(masks, bones, bones[::-1], boxes.astype(int), strict=True):
        outside = np.ones(hw, bool)
        outside[box[1] : box[3], box[0] : box[2]] = False
        assert not mask[outside].any()
        only, both = (bone > 0) & (other == 0), (bone > 0) & (other > 0)
        assert (mask[only & ~outside] == 1).all() and (mask[both & ~outside] == UNKNOWN).all()
        assert (mask[(other > 0) & (bone == 0)] == 0).all()
    # The hidden wrist and its forearm are not drawn; the middle of the torso is.
    x, y = points[0][9].round().astype(int)
    (alone,) = partial_masks(boxes[:1], bones[:1])
    assert alone[y, x] == UNKNOWN and alone[36, 30] == 1


def test_people_without_a_mask_join_where_their_keypoints_suffice(data):
    assert len(loaded(data, 2)['people']) == 1
    results = loaded(data, 2, from_keypoints=4)
    whole, partly = results['masks']
    assert set(np.unique(whole)) == {0, 1} and set(np.unique(partly)) == {0, 1, UNKNOWN}
    assert box_of_mask(partly).tolist() == [90, 20, 135, 110]
    images = DATASETS.build(people_set(data, only={'fully_annotated': True}))
    assert len(images) == 3
    packed = PackPartialPoses(80, max_objects=4, min_objects=4)(results)
    people = packed['data_samples'].gt_instances
    assert len(people) == 4 and len(set(people.seeds.tolist())) == 4
    assert not (people.masks & people.unknown).any() and people.unknown.flatten(1).any(1).any()


def test_unknown_pixels_do_not_count_and_sides_do():
    target = torch.zeros(1, 1, 8, 8)
    target[..., 2:6, 4] = 1
    known = torch.ones(1, 1, 8, 8)
    known[..., 2:6, 2:7] = 0
    known[..., 2:6, 4] = 1
    outputs = [torch.full((1, 1, 8, 8), -30.0) for _ in range(3)]
    outputs[0][..., 2:6, 4] = 30  # the bones alone
    outputs[1][..., 2:6, 2:7] = 30  # all of the box
    outputs[2][..., 2:6, :] = 30  # beyond the box
    thin, full, wide = (
        partial_prompt_losses(
            (x, torch.ones(1, 1), torch.zeros(1, 1)), target, PartialLossWeights(), known
        )
        for x in outputs
    )
    for name in ('focal', 'dice'):
        assert thin[name].item() == pytest.approx(0, abs=1e-5)
        assert full[name].item() == pytest.approx(0, abs=1e-5)
        assert wide[name] > 0.05
    # Both axes: heights agree; of the five columns the bones reach one.
    assert thin['projection'].item() == pytest.approx((1 - 3 / 7) / 2, abs=1e-5)
    assert full['projection'].item() == pytest.approx(0, abs=1e-5)
    assert all(part['iou'] == 0 for part in (thin, full, wide))
    assert projection_loss(outputs[1], target).item() > 0.2


# Kinds of prompts


def crowd(count=400, visible=K):
    mask = torch.zeros(count, 64, 64, dtype=torch.bool)
    mask[:, 10:50, 20:44] = True
    points = torch.from_numpy(STANDING * [24, 40] + [20, 10]).float().expand(count, -1, -1)
    visibility = torch.zeros(count, K)
    visibility[:, :visible] = 1
    return PartialPeople(mask, points, visibility, range(count), torch.zeros_like(mask))


def test_prompts_are_mixed_as_the_chances_say():
    people = crowd()
    simulator = PartialClickSimulator(people, PoseMaskRefine())
    config = FirstPrompts(keypoints=2, keypoints_and_box=1, box=1, counts=(0, 0, 3, 0, 1))
    points, labels = draw_first(simulator, config)
    assert points.shape == (400, 7, 2) and labels.shape == (400, 7)
    has_box = (labels == BOX_TOP_LEFT).any(1)
    count = (labels == POINT_POSITIVE).sum(1)
    assert 0.4 < has_box.float().mean() < 0.6 and 0.17 < (count == 0).float().mean() < 0.33
    assert set(count.tolist()) == {0, 3, 5}
    assert 0.65 < (count[count > 0] == 3).float().mean() < 0.85
    assert labels[has_box][:, :2].tolist() == [[BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]] * int(
        has_box.sum()
    )
    corners = points[has_box][:, :2].flatten(1)
    assert (corners == torch.tensor([20.0, 10, 44, 50])).all()
    # The order of inference: nose and eyes come first where all are equally visible.
    first = points[~has_box & (count == 3)][0, :3]
    assert torch.equal(first, people.keypoints[0, :3])
    assert (labels[~has_box][:, 5:] == POINT_PADDING).all()
    assert torch.equal(simulator.used.sum(1)[count > 0], count[count > 0])


def test_orders_and_jitter_differ_from_person_to_person_and_repeat_with_the_seed():
    settings = {'orders': ('random',), 'jitter': 0.02, 'counts': (1,)}
    first, again = (
        draw_first(PartialClickSimulator(crowd(), PoseMaskRefine()), FirstPrompts(**settings))[0]
        for _ in range(2)
    )
    assert torch.equal(first, again)
    nearest = torch.cdist(first[:, 0], crowd(1).keypoints[0])
    assert set(nearest.argmin(1).tolist()) == set(range(K))
    assert 0.2 < nearest.amin(1).mean() < 1.5  # 0.02 of a side of 31 px in both directions


def test_sides_of_boxes_move_by_little_and_much():
    settings = {'keypoints': 0, 'box': 1, 'box_jitter': 0.2}
    points, _ = draw_first(
        PartialClickSimulator(crowd(), PoseMaskRefine()), FirstPrompts(**settings)
    )
    corners = points[:, :2].flatten(1)
    off = (corners - torch.tensor([20.0, 10, 44, 50])).abs().mean(1) / (24 * 40) ** 0.5
    # A normal number is 0.8 of its deviation off in the mean; the deviation is 0 to 0.2.
    assert 0.06 < off.mean() < 0.1 and off.quantile(0.1) < 0.025 and off.quantile(0.9) > 0.12
    assert (corners[:, 2:] >= corners[:, :2]).all()


def test_who_has_no_keypoint_is_prompted_with_pixels():
    people = crowd(visible=0)
    points, labels = draw_first(PartialClickSimulator(people, PoseMaskRefine()), FirstPrompts())
    assert points.shape == (400, 3, 2) and (labels == POINT_POSITIVE).all()
    x, y = points.long().unbind(-1)
    assert people.masks[0][y, x].all()


def test_boxes_can_be_evaluated(data):
    names = [prompt.name for prompt in parse_eval_prompts((1, None, 'box', 'box+3'))]
    assert names == ['1', 'all', 'box', 'box+3']
    model = CompactSam(
        COMPACT, image_size=64, mask_prompt_from_keypoints=True, eval_counts=(3, 'box', 'box+3')
    )
    sample = PackPartialPoses(64)(loaded(data, 0))
    batch = model.data_preprocessor(pseudo_collate([sample]))
    found = model.eval()(**batch, mode='predict')[0].predictions
    masks = {name: rows[0]['rle']['counts'] for name, rows in found.items()}
    assert list(masks) == ['3', 'box', 'box+3'] and len(set(masks.values())) == 3


# Dense heads


def instances(masks, keypoints=None, visibility=None):
    masks = torch.as_tensor(masks)
    count = len(masks)
    return InstanceData(
        masks=masks,
        unknown=torch.zeros_like(masks),
        keypoints=torch.zeros(count, K, 2) if keypoints is None else keypoints,
        visibility=torch.zeros(count, K) if visibility is None else visibility,
    )


def test_dense_targets_are_masks_sides_and_keypoints():
    masks = np.zeros((2, 32, 32), bool)
    masks[0, 8:24, 4:20] = True
    masks[1, 24:32, 20:32] = True
    keypoints, visibility = torch.zeros(2, K, 2), torch.zeros(2, K)
    keypoints[0, 5], visibility[0, 5] = torch.tensor([10.0, 14.0]), 1
    targets = dense_targets(instances(masks, keypoints, visibility), 8)
    assert torch.equal(targets.person[0] > 0, torch.from_numpy(masks.any(0)[2::4, 2::4]))
    assert (targets.sides[:, 3, 2] * 32).tolist() == [6, 6, 10, 10]
    assert (targets.sides[:, 7, 6] * 32).tolist() == [6, 6, 6, 2]
    assert targets.known.min() == 1
    assert targets.heat[5].argmax() == 3 * 8 + 2 and targets.heat[5, 3, 2] == 1
    assert torch.equal(targets.labelled[5] > 0, torch.from_numpy(masks[0, 2::4, 2::4]))
    assert not targets.labelled[:5].any() and not targets.heat[6:].any()
    assert boxes_of(torch.from_numpy(masks)).tolist() == [[4, 8, 20, 24], [20, 24, 32, 32]]
    people = instances(masks)
    people.unknown = torch.zeros(2, 32, 32, dtype=torch.bool)
    people.unknown[0, 8:24, 0:4] = True
    wider = dense_targets(people, 8)
    assert (wider.sides[:, 3, 2] * 32).tolist() == [10, 6, 10, 10]
    assert torch.equal(wider.known[0] == 0, people.unknown[0, 2::4, 2::4])


def test_the_level_loss_is_least_where_the_output_is_right():
    masks = np.zeros((1, 32, 32), bool)
    masks[0, 8:24, 4:20] = True
    targets = dense_targets(instances(masks, visibility=torch.ones(1, K)), 8)
    right = torch.cat([
        targets.person * 40 - 20, targets.sides, torch.logit(targets.heat, eps=1e-6),
    ])[None]  # fmt: skip
    least = level_loss(right, [targets])
    for channel, change in ((0, -30), (1, 2), (5, 20)):
        wrong = right.clone()
        wrong[:, channel] += change
        assert level_loss(wrong, [targets]) > least + 0.01
    assert torch.isfinite(level_loss(right, [dense_targets(instances(masks & False), 8)]))


# The configs


def test_every_stage_has_its_size_in_all_places():
    from mmengine.config import Config

    sizes = []
    for path in STAGES:
        config = Config.fromfile(str(path))
        pipelines = [part.get('dataset', part).pipeline
                     for part in config.train_dataloader.dataset.datasets]  # fmt: skip
        packed = [
            steps[-1].image_size for steps in (*pipelines, config.val_dataloader.dataset.pipeline)
        ]
        assert packed == [config.image_size] * 3 == [config.model.image_size] * 3
        assert (config.model.checkpoint is None) == config.model.align
        sizes.append(config.image_size)
    assert sorted(sizes) == [192, 192, 256, 384, 384]


OVERRIDES = {
    'image_size': 64, 'model.image_size': 64, 'model.correction_prob': 1.0,
    'train_dataloader.batch_size': 2, 'train_cfg.max_iters': 4, 'train_cfg.val_interval': 4,
    'default_hooks.checkpoint.interval': 2, 'log_level': 'ERROR',
}  # fmt: skip


def run(data, work_dir, monkeypatch, resume=None, **changes):
    monkeypatch.setenv('COMPACT_SAM_DATA', str(data))
    overrides = {**OVERRIDES, **changes}
    steps = [{'type': 'LoadPartialPoses'}, {'type': 'PackPartialPoses', 'image_size': 64}]
    overrides['val_dataloader.dataset.pipeline'] = steps
    for place in ('0.dataset', '1'):
        overrides[f'train_dataloader.dataset.datasets.{place}.pipeline.6.image_size'] = 64
    # The learning rate must not depend on the clock here.
    overrides['custom_hooks.0.minutes'] = 1e6
    options = LaunchOptions(work_dir=work_dir, resume=resume, overrides=overrides)
    runner = build_runner(STAGES[-1], options)
    runner.train()
    return runner


def test_the_recipe_trains_resumes_and_exports_sam_alone(data, tmp_path, monkeypatch):
    assert STAGES[-1].stem.endswith('_train')
    whole = run(data, tmp_path / 'whole', monkeypatch)
    run(data, tmp_path / 'parts', monkeypatch, **{'train_cfg.max_iters': 2})
    rest = run(data, tmp_path / 'parts', monkeypatch, resume='latest')
    assert whole.iter == rest.iter == 4
    weights = whole.model.state_dict()
    assert any(name.startswith('dense.') for name in weights)
    for name, value in rest.model.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert whole.message_hub.get_scalar('val/pose2seg/people').current() == 2
    for name in ('iou_3', 'iou_box', 'iou_box+3'):
        assert 0 <= whole.message_hub.get_scalar(f'val/pose2seg/{name}').current() <= 1
    exported = torch.load(tmp_path / 'whole' / 'sam.pt', weights_only=True)['model']
    assert not any('dense' in name for name in exported)
    build_sam2_model(COMPACT, tmp_path / 'whole' / 'sam.pt', 'cpu', image_size=64)
