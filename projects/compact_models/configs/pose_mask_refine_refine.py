# PoseMaskRefine on the compact SAM 2.1 (docs/user_guide/training_pose2seg.md):
# python tools/train.py projects/compact_models/configs/pose_mask_refine_refine.py --threads 1
_base_ = ['pose_mask_refine_base.py']

model = dict(clicks=dict(first_click='most_visible', keypoint_prob=1.0, choice='random'))
