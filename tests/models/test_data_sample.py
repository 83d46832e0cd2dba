from __future__ import annotations

import numpy as np
import pytest
from mmengine.structures import InstanceData
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.structures import merge_data_samples, split_instances
from mmpose.visualization import PoseLocalVisualizer

from pipeline.structures import People
from tests.toy_people import people_in

# MMEngine, MMCV and matplotlib warn about themselves when imported or drawing.
pytestmark = pytest.mark.filterwarnings('ignore')

SHAPE = (200, 300)
PAIR = [(10, 20, 60, 180), (40, 15, 100, 190)]


def test_fields_of_a_data_sample() -> None:
    people = people_in(PAIR, SHAPE)
    sample = people.to_data_sample()
    assert sample.ori_shape == sample.img_shape == SHAPE
    found = sample.pred_instances
    assert len(found) == 2
    columns = {
        'bboxes': people.boxes,
        'bbox_scores': people.box_scores,
        'scores': people.scores,
        'keypoints': people.keypoints,
        'keypoint_scores': people.keypoint_scores,
        'keypoints_visible': people.visibility,
        'keypoints_probs': people.presence,
        'mask_scores': people.mask_scores,
        'mask_sources': people.mask_sources,
        'detector_bboxes': people.detector_boxes,
        'rounds': people.rounds,
    }
    for name, column in columns.items():
        np.testing.assert_array_equal(found[name], column)
        assert found[name].dtype == column.dtype
        assert not np.shares_memory(found[name], column)
    assert found.mask_rles == people.masks.to_rle()
    assert 'masks' not in found


def test_dense_masks_on_request() -> None:
    people = people_in(PAIR, SHAPE)
    masks = people.to_data_sample(with_masks=True).pred_instances.masks
    assert masks.shape == (2, *SHAPE) and masks.dtype == bool
    for i in range(2):
        np.testing.assert_array_equal(masks[i], people.masks.dense(i))


def test_instances_are_indexed_and_concatenated() -> None:
    found = people_in(PAIR, SHAPE).to_data_sample().pred_instances
    best = found[found.scores > 0.6]
    assert len(best) == len(best.mask_rles) == 1
    assert len(InstanceData.cat([found, best])) == 3


@pytest.mark.parametrize('number', [0, 2])
def test_mmpose_functions_and_visualizer_accept_it(number: int) -> None:
    sample = people_in(PAIR[:number], SHAPE).to_data_sample()
    rows = split_instances(sample.pred_instances)
    assert len(rows) == number
    assert all(len(row['keypoints']) == 17 for row in rows)
    assert len(merge_data_samples([sample, sample]).pred_instances) == 2 * number
    visualizer = PoseLocalVisualizer()
    meta = parse_pose_metainfo({'from_file': 'configs/_base_/datasets/coco.py'})
    visualizer.set_dataset_meta(meta)
    image = np.full((*SHAPE, 3), 90, np.uint8)
    drawn = visualizer.add_datasample('image', image, sample, draw_gt=False, draw_bbox=True)
    assert drawn.shape == image.shape
    assert (drawn != image).any() == (number > 0)


def test_no_people() -> None:
    found = People.empty(*SHAPE, 23).to_data_sample(with_masks=True).pred_instances
    assert len(found) == 0
    assert found.keypoints.shape == (0, 23, 2)
    assert found.masks.shape == (0, *SHAPE)
