# The detector of BBoxMaskPose: MMDetection's RTMDet-Ins-L, 40 people at most, as released.
# The number of classes follows the checkpoint: 80 (COCO) or 1 (person).
_base_ = 'mmdet::rtmdet/rtmdet-ins_l_8xb32-300e_coco.py'

model = dict(test_cfg=dict(max_per_img=40))
