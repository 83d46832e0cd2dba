# MaskPose-b 1.0.0 as released: ViTPose-B on crops whose background is dimmed by the person's mask,
# 21 keypoints (17 of COCO, then thorax or neck, upper neck, head top, pelvis). The newer model is
# maskpose_b.py.
_base_ = [
    '_base_/coco_mpii_aic_21.py',
    'mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_ViTPose-base_8xb64-210e_coco-256x192.py',
]

custom_imports = dict(
    imports=[
        'mmpose.engine.optim_wrappers.layer_decay_optim_wrapper',
        'pipeline.poses.mask_background',
    ],
    allow_failed_imports=False,
)

model = dict(head=dict(out_channels=21))

# Test: ground-truth boxes and masks. The mask of a person is `mask` (H, W), or COCO's
# `segmentation`. Without a mask, the crop is not dimmed.
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='MaskBackground', alpha=0.2, continue_on_failure=True),
    dict(type='TopdownAffine', input_size=(192, 256), use_udp=True),
    dict(type='PackPoseInputs'),
]
test_dataloader = dict(
    dataset=dict(metainfo=_base_.dataset_info, bbox_file=None, pipeline=test_pipeline)
)
val_dataloader = test_dataloader
# COCO evaluation uses the first 17 keypoints.
coco_view = dict(num_keypoints=17, mapping=[(i, i) for i in range(17)])
test_evaluator = dict(pred_converter=coco_view, gt_converter=coco_view)
val_evaluator = test_evaluator

# Training as published: start from ViTPose-b-multi (load_from), 210 epochs, the three datasets in
# equal parts.
train_pipeline = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(
        type='MaskBackground',
        alpha=0.2,
        continue_on_failure=True,
        dilate_prob=0.5,
        dilate_amount=0.1,
        erode_prob=0.5,
        erode_amount=0.5,
    ),
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='RandomHalfBody'),
    dict(type='RandomBBoxTransform'),
    dict(type='TopdownAffine', input_size=(192, 256), use_udp=True),
    dict(type='GenerateTarget', encoder=_base_.codec),
    dict(type='PackPoseInputs'),
]
train_dataloader = dict(
    batch_size=64,
    sampler=dict(
        _delete_=True,
        type='MultiSourceSampler',
        batch_size=64,
        source_ratio=[1, 1, 1],
        shuffle=True,
    ),
    dataset=dict(
        _delete_=True,
        type='CombinedDataset',
        metainfo=_base_.dataset_info,
        datasets=_base_.train_sets,
        pipeline=train_pipeline,
        test_mode=False,
    ),
)
