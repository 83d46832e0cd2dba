# PoseMaskRefine on the compact SAM 2.1 (see docs/pose2seg.md):
# python tools/train.py configs/pose2seg/sam2.1_cspnext_compact_refine.py --threads 1
_base_ = ['sam2.1_cspnext_compact_base.py']

model = dict(clicks=dict(first_click='most_visible', keypoint_prob=1.0, choice='random'))
