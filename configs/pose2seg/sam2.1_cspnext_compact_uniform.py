# The same budget with SAM's own clicks: a random pixel of the person first, then random pixels of
# the error.
# python tools/train.py configs/pose2seg/sam2.1_cspnext_compact_uniform.py --threads 1
_base_ = ['sam2.1_cspnext_compact_base.py']

model = dict(clicks=dict(first_click='uniform', keypoint_prob=0.0))
