"""Parts of the segmenter training, and a run on a tiny set made up here."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch')
cv2 = pytest.importorskip('cv2')
coco_mask = pytest.importorskip('pycocotools.mask')
if importlib.util.find_spec('sam2') is None:
    pytest.skip('the stock sam2 package is not installed', allow_module_level=True)

from pipeline.training import train_sam  # noqa: E402
from pipeline.training.sam_config import SamTrainConfig, load_train_config  # noqa: E402
from pipeline.training.sam_data import AugmentConfig, Canvas, CanvasSampler, load_people  # noqa: E402
from pipeline.training.sam_dense import dense_targets  # noqa: E402
from pipeline.training.sam_eval import evaluate_prompts, spread_keypoints  # noqa: E402
from pipeline.training.sam_losses import (  # noqa: E402
    LossWeights,
    dice_loss,
    focal_loss,
    mask_iou,
    prompt_loss,
)
from pipeline.training.sam_prompts import (  # noqa: E402
    PromptConfig,
    correction_points,
    sample_prompts,
)

COMPACT = Path(__file__).parents[1] / 'configs' / 'compact'


def annotation(image_id, left):
    """A 30 x 60 px person at x = `left`, y = 20 of an 80 x 100 px photo."""
    mask = np.zeros((100, 80), np.uint8)
    mask[20:80, left : left + 30] = 1
    rle = coco_mask.encode(np.asfortranarray(mask))
    keypoints = np.zeros((17, 3))
    keypoints[[0, 1, 5, 6]] = [
        [left + 15, 25, 2],
        [left + 18, 24, 2],
        [left + 25, 40, 2],
        [left + 5, 40, 1],
    ]
    return {
        'image_id': image_id,
        'bbox': [left, 20, 30, 60],
        'iscrowd': 0,
        'has_mask': True,
        'has_keypoints': True,
        'keypoints': keypoints.ravel().tolist(),
        'segmentation': {'size': rle['size'], 'counts': rle['counts'].decode()},
    }


@pytest.fixture
def data(tmp_path):
    """Two photos with two people each, one for training and one held out, and a background."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for image_id, subset in enumerate(['train', 'val']):
        pixels = rng.integers(0, 90, (100, 80, 3), dtype=np.uint8)
        for left in (3, 45):
            pixels[20:80, left : left + 30] += 150
            annotations.append(annotation(image_id, left))
        cv2.imwrite(str(tmp_path / f'{subset}.png'), pixels)
        images.append({'id': image_id, 'file_name': f'{subset}.png', 'subset': subset})
    annotations.append({**annotation(0, 20), 'iscrowd': 1})
    file = tmp_path / 'annotations.json'
    file.write_text(json.dumps({'images': images, 'annotations': annotations}))
    (tmp_path / 'backgrounds').mkdir()
    cv2.imwrite(str(tmp_path / 'backgrounds' / 'empty.png'), np.zeros((60, 90, 3), np.uint8))
    return file


def settings(data, **changes):
    config = SamTrainConfig(
        model_config=str(COMPACT / 'sam2.1_hiera_compact.yaml'),
        annotations=str(data),
        backgrounds=str(data.parent / 'backgrounds'),
        work_dir=str(data.parent / 'run'),
        budget_minutes=1.0,
        phases=((64, 0.5), (96, 1.0)),
        images_per_step=(2, 2),
        prompts_per_image=2,
        warmup_steps=1,
        log_every=1,
    )
    return dataclasses.replace(config, **changes)


def sampler(data, **config):
    backgrounds = [data.parent / 'backgrounds' / 'empty.png']
    return CanvasSampler(load_people(data, 'train'), backgrounds, AugmentConfig(**config))


def test_people_of_a_subset_without_crowds(data):
    (group,) = load_people(data, 'train')
    assert [person.box.tolist() for person in group] == [[3, 20, 33, 80], [45, 20, 75, 80]]
    with pytest.raises(ValueError, match="'test'"):
        load_people(data, 'test')


@pytest.mark.parametrize(
    'config',
    [
        {'paste_prob': 0.0, 'background_prob': 0.0},
        {'paste_prob': 1.0, 'background_prob': 0.0},
        {'background_prob': 1.0},
    ],
)
def test_canvas_masks_exclude_each_other_and_fit_the_pixels(data, config):
    for seed in range(8):
        canvas = sampler(data, **config).sample(np.random.default_rng(seed), 64)
        assert canvas.image.shape == (64, 64, 3) and len(canvas.masks) == len(canvas.keypoints)
        assert canvas.masks.sum(axis=0).max() == 1
        inside = canvas.image[canvas.masks.any(axis=0)].mean()
        assert inside > canvas.image[~canvas.masks.any(axis=0)].mean() + 20
        for mask, keypoints in zip(canvas.masks, canvas.keypoints, strict=True):
            points = keypoints[keypoints[:, 2] > 0, :2].astype(int)
            near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8))
            assert all(near[y, x] for x, y in points)


def test_first_prompts_name_their_target(data):
    config = PromptConfig(jitter=0.0, box_only_prob=0.3, negative_prob=1.0, absent_prob=0.0)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        canvas = sampler(data, paste_prob=1.0).sample(rng, 64)
        prompts = sample_prompts(rng, canvas, 4, config)
        assert prompts.targets.shape == (4, 1, 64, 64) and bool(prompts.present.all())
        for points, labels, target in zip(
            prompts.points, prompts.labels, prompts.targets, strict=True
        ):
            near = cv2.dilate(target[0].numpy(), np.ones((5, 5), np.uint8))
            positive = points[labels == 1].long()
            assert all(near[y, x] for x, y in positive.tolist())
            assert len(positive) or (labels == 2).any()


def test_nobody_is_prompted_only_where_the_photo_is_person_free(data):
    config = PromptConfig(absent_prob=1.0)
    rng = np.random.default_rng(0)
    free = sampler(data, background_prob=1.0).sample(rng, 64)
    prompts = sample_prompts(rng, free, 3, config)
    assert not prompts.present.any() and not prompts.targets.any()
    taken = sampler(data, background_prob=0.0).sample(rng, 64)
    assert bool(sample_prompts(rng, taken, 3, config).present.all())


def test_corrections_click_into_the_error():
    target = torch.zeros(3, 1, 4, 4)
    target[:, :, 1, 2] = 1
    logits = torch.full((3, 1, 4, 4), -1.0)
    logits[1, 0, 1, 2] = logits[1, 0, 3, 0] = 1.0
    logits[2, 0, 1, 2] = 1.0
    points, labels = correction_points(logits, target)
    # A missed pixel, a surplus pixel, and nothing wrong: then a click inside the target.
    assert points[:, 0].tolist() == [[9.5, 5.5], [1.5, 13.5], [9.5, 5.5]]
    assert labels[:, 0].tolist() == [1, 0, 1]


def test_losses_on_known_masks():
    target = torch.zeros(1, 1, 4, 4)
    target[..., :2] = 1
    right, wrong = 20 * (target * 2 - 1), -20 * (target * 2 - 1)
    logits = torch.cat([right, wrong], dim=1)
    targets = target.expand(1, 2, 4, 4)
    assert mask_iou(logits, targets).tolist() == [[1.0, 0.0]]
    assert dice_loss(logits, targets)[0].tolist() == pytest.approx([0, 1 - 1 / 17], abs=1e-6)
    # Half of the pixels have weight 0.25, the others 0.75; cross entropy is 20 where wrong.
    assert focal_loss(logits, targets)[0].tolist() == pytest.approx([0, 10], abs=1e-5)
    # The best candidate counts for the masks, all of them for the predicted IoU.
    outputs = (logits, torch.tensor([[0.9, 0.3]]), torch.zeros(1, 1))
    loss = prompt_loss(outputs, target, torch.ones(1, 1), LossWeights(object_score=0))
    assert loss.item() == pytest.approx(0.2, abs=1e-5)
    absent = prompt_loss(outputs, target, torch.zeros(1, 1), LossWeights())
    assert absent.item() == pytest.approx(np.log(2), abs=1e-5)


def test_keypoints_are_spread_and_visible_first():
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[[0, 1, 5, 11, 15]] = [[5, 0, 2], [6, 0, 2], [5, 10, 2], [5, 22, 2], [5, 40, 1]]
    assert spread_keypoints(keypoints, 3).tolist() == [[5, 10], [5, 22], [5, 0]]
    assert spread_keypoints(keypoints * [1, 1, 0], 3).shape == (0, 2)
    assert spread_keypoints(keypoints, 0).shape == (0, 2)


def test_dense_targets_are_the_masks_and_the_sides_of_their_boxes():
    masks = np.zeros((2, 8, 8), bool)
    masks[0, 2:6, 1:5] = True
    masks[1, 6:8, 5:8] = True
    canvas = Canvas(np.zeros((8, 8, 3), np.uint8), masks, np.zeros((2, 17, 3), np.float32), True)
    person, box, known = dense_targets([canvas])
    assert torch.equal(person[0, 0] > 0, torch.from_numpy(masks.any(0)))
    assert (box[0, :, 3, 2] * 8).tolist() == [1, 1, 2, 2]
    assert box[0, :, 0, 0].tolist() == [0, 0, 0, 0]
    assert known.flatten().tolist() == [1]


def test_the_first_share_trains_the_encoder_alone(data):
    config = settings(data, dense_weight=0.5, dense_share=0.5, dense_images=3)
    state = train_sam.TrainState(config)
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    assert state.dense_only and state.num_images == 3
    train_sam._train_step(state, sampler(data), config)
    changed = {n for n, v in state.model.state_dict().items() if not torch.equal(v, before[n])}
    assert any(name.startswith('image_encoder.trunk') for name in changed)
    assert not any(name.startswith('sam_mask_decoder.transformer') for name in changed)
    state.elapsed_s = 45.0
    state.resize_model()
    assert not state.dense_only and state.num_images == 2
    _, iou = train_sam._train_step(state, sampler(data), config)
    assert 0 <= iou <= 1


def test_training_runs_resumes_and_writes_weights(data):
    config = settings(data, budget_minutes=0.05)
    train_sam.train_sam(config)
    work_dir = Path(config.work_dir)
    assert {path.name for path in work_dir.iterdir()} >= {'state.pt', 'best.pt'}
    state = train_sam.TrainState(config)
    state.load(work_dir / 'state.pt')
    assert state.progress == 1 and state.model.image_size == 96 and state.step > 0
    held_out = load_people(data, 'val')
    assert set(evaluate_prompts(state.averaged, held_out, True)) == {
        '1 keypoint',
        '3 keypoints',
        'box',
    }


def test_a_resumed_run_repeats_the_next_step(data, tmp_path):
    config = settings(data)
    source = sampler(data)
    first = train_sam.TrainState(config)
    for _ in range(2):
        train_sam._train_step(first, source, config)
        first.step += 1
    first.save(tmp_path / 'state.pt')
    second = train_sam.TrainState(dataclasses.replace(config, seed=config.seed))
    second.load(tmp_path / 'state.pt')
    losses = [train_sam._train_step(state, source, config) for state in (first, second)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_weights_move_to_the_next_image_size(data):
    state = train_sam.TrainState(settings(data))
    weights = {name: value.clone() for name, value in state.model.state_dict().items()}
    state.elapsed_s = 45.0
    state.resize_model()
    assert state.model.image_size == state.averaged.image_size == 96
    assert all(
        torch.equal(value, weights[name]) for name, value in state.model.state_dict().items()
    )


def test_shipped_config_is_valid():
    assert load_train_config(COMPACT / 'sam2.1_hiera_compact_train.py').phases[-1][0] == 384


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('learning_rat = 1', 'unknown learning_rat'),
        ('augment = dict(paste = 1)', 'augment: unknown paste'),
    ],
)
def test_unknown_settings_fail(tmp_path, text, message):
    path = tmp_path / 'config.py'
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_train_config(path)


def test_bad_settings_are_named(data):
    with pytest.raises(ValueError, match='phases'):
        settings(data, phases=((64, 0.5),))
    with pytest.raises(ValueError, match='images_per_step is'):
        settings(data, images_per_step=(2, 0))
    with pytest.raises(ValueError, match='dense_share'):
        settings(data, dense_share=0.2)
