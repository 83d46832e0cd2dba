"""The compact pose model and its box refinement: branch, head, targets, place in the loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from mmpose.apis import inference_topdown, init_model

from pipeline.loop import LoopConfig, PersonPipeline
from pipeline.poses.box_branch import BoxBranch, BoxOutputs, flip_boxes
from pipeline.poses.box_losses import box_losses, box_targets
from pipeline.poses.conv_stem_vit import ConvStemViT
from pipeline.poses.mmpose_estimator import build_mmpose_estimator
from pipeline.poses.pmpose_box_head import PMPoseBoxHead
from pipeline.structures import Detections, Image, Poses
from tests.oracles import OracleDetector, OraclePoses, OracleSegmenter
from tests.unit.test_loop import HIDDEN_BY, ground_truth, noise_image

COMPACT = Path(__file__).parents[2] / 'configs/compact'


pytestmark = pytest.mark.usefixtures('mmpose_scope')


@pytest.fixture(scope='module')
def model() -> Any:
    torch.manual_seed(0)
    return init_model(str(COMPACT / 'vitpose_compact.py'), device='cpu')


@pytest.mark.parametrize('kwargs', [{'img_size': (190, 144)}, {'embed_dims': 130}])
def test_backbone_refuses_sizes_that_do_not_divide(kwargs: Any) -> None:
    with pytest.raises(ValueError, match='multiple'):
        ConvStemViT(**kwargs)


def test_backbone_gives_one_map_at_a_sixteenth() -> None:
    backbone = ConvStemViT(img_size=(64, 48), stem_channels=(4, 4, 8), embed_dims=16, depth=1)
    (feature,) = backbone(torch.randn(2, 3, 64, 48))
    assert feature.shape == (2, 16, 4, 3)


def peaked(first: int, second: int, places: int) -> torch.Tensor:
    logits = torch.full((1, 2, places), -50.0)
    logits[0, 0, first] = logits[0, 1, second] = 50.0
    return logits


def test_boxes_are_decoded_from_the_distributions() -> None:
    outputs = BoxOutputs(peaked(1, 4, 5), peaked(0, 2, 9), torch.zeros(1))
    assert outputs.boxes[0].tolist() == pytest.approx([0.25, 0.0, 1.0, 0.25])
    assert flip_boxes(outputs.boxes)[0].tolist() == pytest.approx([0.0, 0.0, 0.75, 0.25])


@pytest.mark.parametrize(
    ('known', 'judged', 'iou', 'score_loss'),
    [
        pytest.param(1.0, 1.0, 0.5, float(np.log(2)), id='a person'),
        # log 2 whatever the target is: the logit is 0.
        pytest.param(0.0, 1.0, 0.0, float(np.log(2)), id='no person'),
        pytest.param(0.0, 0.0, 0.0, 0.0, id='not judged'),
    ],
)
def test_losses_by_hand(known: float, judged: float, iou: float, score_loss: float) -> None:
    outputs = BoxOutputs(peaked(0, 4, 5), peaked(0, 4, 5), torch.zeros(1))
    true = torch.tensor([[0.0, 0.0, 1.0, 0.5]])
    losses = box_losses(outputs, true, torch.tensor([known]), torch.tensor([judged]))
    assert float(losses['box_iou']) == pytest.approx(iou)
    assert float(losses['loss_box_iou']) == pytest.approx(known * 0.5)
    assert float(losses['loss_box_score']) == pytest.approx(score_loss)
    assert (float(losses['loss_box_sides']) > 0) == bool(known)


def rectangles(count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps (B, 1, 24, 18) that are 1 inside a rectangle, and the rectangles as shares."""
    low, high = rng.uniform(0.05, 0.4, (count, 2)), rng.uniform(0.6, 0.95, (count, 2))
    boxes = torch.from_numpy(np.concatenate([low, high], axis=1)).float()
    y, x = torch.linspace(0, 1, 24)[:, None], torch.linspace(0, 1, 18)
    x1, y1, x2, y2 = (v[:, None, None] for v in boxes.T)
    return ((x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)).float()[:, None], boxes


def test_the_branch_learns_box_sides_and_presence() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    branch = BoxBranch(1, 1, 16, ((3, 3), (2, 3), (2, 1)))
    optimizer = torch.optim.AdamW(branch.parameters(), lr=5e-3)
    for _ in range(120):
        maps, boxes = rectangles(16, rng)
        is_there = torch.from_numpy(rng.integers(0, 2, 16)).float()
        maps = maps * is_there[:, None, None, None]
        coarse = torch.nn.functional.avg_pool2d(maps, 2)
        losses = box_losses(branch(coarse, maps), boxes, is_there, torch.ones(16))
        optimizer.zero_grad()
        sum(v for k, v in losses.items() if k.startswith('loss')).backward()  # type: ignore[union-attr]
        optimizer.step()
    branch.eval()
    maps, boxes = rectangles(16, rng)
    with torch.no_grad():
        found = branch(torch.nn.functional.avg_pool2d(maps, 2), maps)
        empty = branch(torch.zeros(1, 1, 12, 9), torch.zeros(1, 1, 24, 18))
    one = torch.ones(16)
    assert float(box_losses(found, boxes, one, one)['box_iou']) > 0.85
    assert float(found.score_logits.min()) > 0 > float(empty.score_logits[0])


@pytest.mark.filterwarnings('ignore')
def test_mmpose_users_get_keypoints_and_boxes_in_pixels(model: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    boxes = np.array([[50, 20, 80, 100], [50, 20, 150, 80]], np.float32)
    found = inference_topdown(model, image, boxes)[0].pred_instances
    assert found.keypoints.shape == (1, 17, 2)
    for name in ('keypoint_scores', 'keypoints_visible', 'keypoints_probs', 'keypoints_oks'):
        assert found[name].shape == (1, 17), name
        assert ((found[name] >= 0) & (found[name] <= 1)).all(), name
    np.testing.assert_array_equal(found.keypoint_scores, found.keypoints_oks)
    assert found.person_bboxes.shape == (1, 4) and found.person_bbox_scores.shape == (1,)
    # Untrained, all sides lie near the middle of the crop, which is that of the box.
    np.testing.assert_allclose(found.person_bboxes.reshape(2, 2).mean(0), [65, 60], atol=8)


def test_a_mirrored_crop_has_the_mirrored_box(model: Any) -> None:
    torch.manual_seed(1)
    feature = torch.randn(1, 128, 12, 9)
    plain, mirrored = model.head((feature,)), model.head((feature.flip(3),))
    flip = list(range(17))
    both = plain.average(mirrored.unflip(flip, shift_heatmap=False))
    again = mirrored.average(plain.unflip(flip, shift_heatmap=False))
    torch.testing.assert_close(both.boxes, flip_boxes(again.boxes))
    torch.testing.assert_close(both.box_scores, again.box_scores)


def test_the_head_fits_released_settings() -> None:
    sizes = {'in_channels': 8, 'out_channels': 17, 'deconv_out_channels': (4, 4)}
    found = PMPoseBoxHead(**sizes).eval()((torch.zeros(2, 8, 16, 12),))
    assert found.boxes.shape == (2, 4) and found.box_scores.shape == (2,)


def test_samples_without_a_box_train_the_pose_only() -> None:
    labels = {'person_box_known': torch.ones(1), 'person_box_judged': torch.ones(1)}
    labels['person_box'] = torch.tensor([[0.1, 0.2, 0.7, 0.8]])
    samples = [SimpleNamespace(gt_instance_labels=InstanceData(**each)) for each in (labels, {})]
    boxes, known, judged = box_targets(samples, torch.device('cpu'))
    assert known.tolist() == judged.tolist() == [1, 0]
    assert boxes[0].tolist() == pytest.approx([0.1, 0.2, 0.7, 0.8])


def test_boxes_change_only_with_refine_boxes() -> None:
    torch.manual_seed(0)
    path = str(COMPACT / 'vitpose_compact.py')
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    boxes = Detections.from_boxes([[10, 5, 50, 90], [100, 60, 127, 95]], image.shape[:2])
    plain = build_mmpose_estimator(path, None)
    moving = build_mmpose_estimator(path, None, refine_boxes=True)
    moving.model.load_state_dict(plain.model.state_dict())
    assert plain(image, boxes).boxes.tolist() == boxes.boxes.tolist()
    moved = moving(image, boxes)
    assert (moved.boxes != boxes.boxes).any(1).all()
    assert (moved.boxes >= 0).all() and (moved.boxes <= [128, 96, 128, 96]).all()
    assert ((moved.box_scores > 0) & (moved.box_scores < 1)).all()
    np.testing.assert_array_equal(moved.keypoints, plain(image, boxes).keypoints)
    empty = Detections.from_boxes([], image.shape[:2])
    assert len(moving(image, empty)) == 0


def test_refine_boxes_needs_a_box_head() -> None:
    zoo = 'mmpose::body_2d_keypoint/topdown_heatmap/coco/'
    config = f'{zoo}td-hm_ViTPose-small_8xb64-210e_coco-256x192.py'
    with pytest.raises(ValueError, match='cannot refine boxes'):
        build_mmpose_estimator(config, None, refine_boxes=True)


class MovingPoses(OraclePoses):
    """An estimator that moves every box by a pixel and halves its score."""

    def __call__(self, image: Image, detections: Detections) -> Poses:
        poses = super().__call__(image, detections)
        return replace(poses, boxes=poses.boxes + 1, box_scores=poses.box_scores / 2)


@pytest.mark.parametrize('refine', [False, True])
def test_the_loop_keeps_both_boxes_and_does_not_change_user_boxes(refine: bool) -> None:
    config = LoopConfig(boxes='detector', refine=refine, refine_min_side=1)
    detector, segmenter = OracleDetector(ground_truth(), HIDDEN_BY), OracleSegmenter(ground_truth())
    pipeline = PersonPipeline(detector, MovingPoses(ground_truth()), segmenter, config)
    people = pipeline(noise_image())
    assert len(people) == 4
    np.testing.assert_array_equal(people.boxes, people.detector_boxes + 1)
    true = ground_truth().box_scores[[0, 1, 3, 4]]
    np.testing.assert_allclose(people.box_scores, true / 2)
    user_boxes = Detections.from_boxes(ground_truth().boxes[:1], ground_truth().image_shape)
    people = pipeline(noise_image(), user_boxes)
    np.testing.assert_array_equal(people.boxes[0], user_boxes.boxes[0])
    assert people.box_scores[0] == 1
