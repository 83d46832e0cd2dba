"""Training data of PoseMaskRefine: people from COCO files, and image, masks and keypoints moving
together."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch

from pipeline.keypoints import COCO_FLIP
from pipeline.training.pose2seg import transforms as tf
from pipeline.training.pose2seg.dataset import PoseMaskDataset

HEIGHT, WIDTH, K = 160, 220, 17


def disc_sample(rng):
    """An image with two people: a disc of its own colour at each keypoint, and masks of discs."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    masks = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    cells = rng.permutation(70)[: 2 * K]
    keypoints = np.stack([18 + 20 * (cells % 10), 18 + 20 * (cells // 10)], 1).astype(np.float32)
    keypoints = keypoints.reshape(2, K, 2)
    for person in range(2):
        for index, (x, y) in enumerate(keypoints[person].astype(int)):
            cv2.circle(image, (int(x), int(y)), 6, color_of(person, index), -1)
            cv2.circle(masks[person], (int(x), int(y)), 6, 1, -1)
    return {
        'img': image,
        'masks': masks,
        'keypoints': keypoints,
        'visibility': np.ones((2, K), np.float32),
        'img_id': 7,
        'img_path': 'photo.png',
        'people': [
            {'ann_id': number, 'rle': coco_mask.encode(np.asfortranarray(mask))}
            for number, mask in enumerate(masks, start=1)
        ],
    }


def color_of(person, index):
    return (40 + 12 * index, 250 - 12 * index, 60 + 120 * person)


def same_color(pixel, color):
    return np.abs(pixel.astype(int) - np.array(color)).max() <= 30


TRANSFORMS = {
    'flip': [tf.FlipPose(prob=1.0)],
    'affine': [tf.AffinePose(degrees=25, shear=20)],
    'all': [tf.FlipPose(0.5), tf.AffinePose()],
}


@pytest.mark.parametrize('name', TRANSFORMS)
def test_image_masks_and_keypoints_move_together(name):
    checked = 0
    for seed in range(12):
        np.random.seed(seed)
        results = disc_sample(np.random.default_rng(seed))
        for transform in TRANSFORMS[name]:
            results = transform(results)
        flipped = name == 'flip' or (name == 'all' and is_flipped(results))
        for person in range(2):
            for index in range(K):
                if not results['visibility'][person, index]:
                    continue
                x, y = results['keypoints'][person, index].round().astype(int)
                meant = COCO_FLIP[index] if flipped else index
                pixel = results['img'][y, x]
                assert same_color(pixel, color_of(person, meant)), (seed, person, index, pixel)
                assert results['masks'][person, y, x] == 1
                checked += 1
    assert checked > 12 * 2 * K // 5


def is_flipped(results):
    """Whether a left point has the colour of its right one."""
    for person, index in np.argwhere(results['visibility'] > 0):
        if COCO_FLIP[index] != index:
            x, y = results['keypoints'][person, index].round().astype(int)
            return not same_color(results['img'][y, x], color_of(person, index))
    raise AssertionError('no keypoint left')


def test_the_square_holds_masks_and_keypoints_where_inference_looks_for_them():
    for seed in range(4):
        results = disc_sample(np.random.default_rng(seed))
        packed = tf.PackPromptedPoses(96)(dict(results))
        people = packed['data_samples'].gt_instances
        assert packed['inputs'].shape == (3, HEIGHT, WIDTH)
        assert people.masks.shape == (2, 96, 96) and people.masks.dtype == torch.bool
        expected = torch.from_numpy(results['keypoints']) * torch.tensor([96 / WIDTH, 96 / HEIGHT])
        assert torch.allclose(people.keypoints, expected)
        columns, rows = people.keypoints.floor().long().unbind(-1)
        assert all(people.masks[i, rows[i], columns[i]].all() for i in range(2))


def test_keypoints_outside_the_image_are_not_visible():
    results = disc_sample(np.random.default_rng(0))
    moved = tf.warp(results, np.array([[1.0, 0, 100], [0, 1, 0]]))
    outside = moved['keypoints'][..., 0] > WIDTH - 1
    assert outside.any() and not outside.all()
    assert np.array_equal(moved['visibility'] == 0, outside)


def test_colour_changes_leave_geometry_alone():
    np.random.seed(0)
    results = disc_sample(np.random.default_rng(0))
    before = {name: results[name].copy() for name in ('img', 'masks', 'keypoints', 'visibility')}
    grey = tf.GrayscalePose(1.0)(tf.JitterPose(0.1, 0.1, 0.1)(results))
    assert (grey['img'] == grey['img'][..., :1]).all()
    assert np.abs(grey['img'].mean() - before['img'].mean()) < 30
    assert all(np.array_equal(grey[n], before[n]) for n in ('masks', 'keypoints', 'visibility'))


def test_packing_limits_people_and_drops_small_ones():
    results = disc_sample(np.random.default_rng(0))
    np.random.seed(0)
    seen = set()
    for _ in range(20):
        sample = tf.PackPromptedPoses(64, max_objects=1)(dict(results))['data_samples']
        assert len(sample.gt_instances) == 1
        seen.add(sample.gt_instances.ann_ids[0])
    assert seen == {1, 2}
    results['masks'] = results['masks'].copy()
    results['masks'][0] = 0
    results['masks'][0, 3, 3] = 1
    sample = tf.PackPromptedPoses(64)(dict(results))['data_samples']
    assert sample.gt_instances.ann_ids == [2] and sample.num_dropped == 1
    results['masks'][:] = 0
    assert tf.PackPromptedPoses(64)(dict(results)) is None


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: tf.FlipPose(1.2), 'FlipPose.prob must be in .* got 1.2'),
        (lambda: tf.AffinePose(degrees=-1), 'degrees = -1'),
        (lambda: tf.AffinePose(shear=90), 'shear = 90'),
        (lambda: tf.JitterPose(brightness=2), 'JitterPose.brightness must be in .* got 2'),
        (lambda: tf.PackPromptedPoses(64, max_objects=0), 'max_objects must be >= 1, got 0'),
        (lambda: tf.PackPromptedPoses(64, min_area=0), 'min_area must be >= 1, got 0'),
        (lambda: PoseMaskDataset('', visibility='v'), 'visibility must be one of'),
        (lambda: PoseMaskDataset('', hidden_visibility=2.0), 'hidden_visibility must be in'),
        (lambda: PoseMaskDataset('', min_area=0), 'min_area must be 1 px or more'),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def square(x, y, side):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def person(number, **changes):
    keypoints = np.zeros((K, 3))
    keypoints[:3] = [[12, 12, 2], [14, 12, 1], [0, 0, 0]]
    return {
        'id': number, 'image_id': 1, 'category_id': 1, 'iscrowd': 0, 'bbox': [10, 10, 20, 20],
        'area': 400, 'segmentation': square(10, 10, 20), 'keypoints': keypoints.ravel().tolist(),
        **changes,
    }  # fmt: skip


@pytest.fixture
def annotations(tmp_path):
    """An image with all kinds of people, and one with no people to train on."""
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((50, 60, 3), 90, np.uint8))
    mask = np.zeros((50, 60), np.uint8)
    mask[5:30, 5:30] = 1
    rle = coco_mask.encode(np.asfortranarray(mask))
    rows = [
        person(1),
        person(2, iscrowd=1, segmentation={'size': [50, 60], 'counts': [0, 3000]}),
        person(3, segmentation=[]),
        person(4, segmentation=square(10, 10, 3)),
        person(5, segmentation={'size': rle['size'], 'counts': rle['counts'].decode()}),
        person(6, keypoints=[0] * 51),
        person(7, visibility=[0.1, 0.9] + [0.0] * 15),
        person(8, image_id=2, iscrowd=1),
        person(9, keypoints=None, segmentation=[[10, 10, 30, 30]]),
    ]
    size = {'height': 50, 'width': 60}
    images = [{'id': 1, 'file_name': 'a.png', **size}, {'id': 2, 'file_name': 'b.png', **size}]
    path = tmp_path / 'people.json'
    path.write_text(json.dumps({'images': images, 'annotations': rows}))
    return path


def dataset(annotations, **settings):
    return PoseMaskDataset(
        str(annotations), data_prefix={'img': str(annotations.parent)}, **settings
    )


def test_people_with_masks_are_kept_and_the_others_counted(annotations, caplog):
    found = dataset(annotations)
    (image,) = [found.get_data_info(i) for i in range(len(found))]
    assert [row['ann_id'] for row in image['people']] == [1, 5, 6, 7]
    assert coco_mask.area(image['people'][1]['rle']) == 625
    content = json.loads(annotations.read_text())
    content['annotations'] = [person(8, image_id=2, iscrowd=1)]
    annotations.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r'no people to train on.*1 crowd regions'):
        dataset(annotations)


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        ({}, [0.1, 0.9, 0.0]),
        ({'visibility': 'flags'}, [1.0, 0.3, 0.0]),
        ({'visibility': 'flags', 'hidden_visibility': 0.7}, [1.0, 0.7, 0.0]),
    ],
)
def test_visibility_comes_from_the_model_or_from_the_flags(annotations, settings, expected):
    image = dataset(annotations, **settings).get_data_info(0)
    assert image['people'][-1]['visibility'][:3].tolist() == pytest.approx(expected)
    assert image['people'][0]['visibility'][0] == 1.0


def test_only_people_with_usable_keypoints_are_evaluated(annotations):
    image = dataset(annotations, need_keypoints=True).get_data_info(0)
    assert [row['ann_id'] for row in image['people']] == [1, 5, 7]
    with pytest.raises(KeyError, match='visibility'):
        dataset(annotations, visibility='model')


def test_an_image_passes_the_whole_pipeline(annotations):
    steps = [tf.LoadPoseImage(), tf.FlipPose(), tf.AffinePose(), tf.JitterPose(),
             tf.GrayscalePose(), tf.PackPromptedPoses(48, max_objects=3)]  # fmt: skip
    np.random.seed(3)
    item = dataset(annotations, pipeline=steps)[0]
    people = item['data_samples'].gt_instances
    assert item['inputs'].dtype == torch.uint8 and 1 <= len(people) <= 3
    assert bool(people.masks.flatten(1).any(1).all())


def test_an_image_of_another_size_is_rejected(annotations):
    cv2.imwrite(str(annotations.parent / 'a.png'), np.zeros((30, 30, 3), np.uint8))
    with pytest.raises(ValueError, match='30 x 30 px, the annotation file says 60 x 50'):
        dataset(annotations, pipeline=[tf.LoadPoseImage()], test_mode=True)[0]
