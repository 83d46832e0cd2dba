# COCO, MPII and AI Challenger as one training set of 23 keypoints.
from importlib import import_module

_base_ = ['coco_mpii_aic.py', '../../keypoints/coco_mpii_aic_23.py']

_points = import_module('pipeline.keypoint_sets').COCO_MPII_AIC_23
train_sets = [
    dict(data, pipeline=[dict(type='KeypointConverter', num_keypoints=23, mapping=list(mapping))])
    for data, mapping in zip(
        _base_.train_sets, (_points.coco, _points.mpii, _points.aic), strict=True
    )
]
del _points
