# The 21-point convention as MMPose metainfo: metainfo=dict(from_file='.../coco_mpii_aic_21.py'),
# or inherit this file and write metainfo=_base_.dataset_info. The facts are in
# pipeline/keypoint_sets.py.
from importlib import import_module

dataset_info = import_module('pipeline.keypoint_sets').dataset_info(21)
