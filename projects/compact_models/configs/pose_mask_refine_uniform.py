# The same budget with SAM's own clicks: a random pixel of the person first, then random pixels of
# the error.
# python tools/train.py projects/compact_models/configs/pose_mask_refine_uniform.py --threads 1
_base_ = ['pose_mask_refine_base.py']

model = dict(clicks=dict(first_click='uniform', keypoint_prob=0.0))
