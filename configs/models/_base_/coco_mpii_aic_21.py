# COCO, MPII and AI Challenger as one training set of 21 keypoints. Expects COCO-style files with
# masks in `segmentation`; people without a mask are trained on undimmed.
from importlib import import_module

_base_ = '../../keypoints/coco_mpii_aic_21.py'

_points = import_module('pipeline.keypoints').COCO_MPII_AIC_21
_converters = [
    dict(type='KeypointConverter', num_keypoints=21, mapping=list(mapping))
    for mapping in (_points.coco, _points.mpii, _points.aic)
]
train_sets = [
    dict(
        type='CocoDataset',
        data_root='data/coco/',
        ann_file='annotations/person_keypoints_train2017.json',
        data_prefix=dict(img='train2017/'),
        pipeline=[_converters[0]],
    ),
    dict(
        type='CocoDataset',
        metainfo=dict(from_file='configs/_base_/datasets/mpii.py'),
        data_root='data/mpii/',
        ann_file='annotations/mpii_sam_train.json',
        data_prefix=dict(img='images/'),
        pipeline=[_converters[1]],
    ),
    dict(
        type='AicDataset',
        data_root='data/aic/',
        ann_file='annotations/aic_sam_train.json',
        data_prefix=dict(img='ai_challenger_keypoint_train_20170902/keypoint_train_images/'),
        pipeline=[_converters[2]],
    ),
]
del _points, _converters
