# The detector of BBoxMaskPose v2: MMDetection's RTMDet-Ins-L, 40 people at most, as released.
_base_ = 'mmdet::rtmdet/rtmdet-ins_l_8xb32-300e_coco.py'

model = dict(test_cfg=dict(max_per_img=40))
