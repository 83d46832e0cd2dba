# Compact pose model, trained from scratch: a small ViT behind a convolutional stem, 192 x 144 px,
# with the PMPose head (heatmaps, presence, visibility, expected OKS) and box refinement.
# Inference settings. Train it with vitpose_compact_train.py, then vitpose_compact_boxes.py.
default_scope = 'mmpose'
custom_imports = dict(
    imports=[
        'pipeline.poses.conv_stem_vit',
        'pipeline.poses.mask_background',
        'pipeline.poses.pmpose_box_head',
    ],
    allow_failed_imports=False,
)

# What MMPose's inferencer and tools/test.py ask for.
dataset_type = 'CocoDataset'
data_mode = 'topdown'
visualizer = dict(
    type='PoseLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer'
)
default_hooks = dict(visualization=dict(type='PoseVisualizationHook', enable=False))

# (width, height)
input_size = (144, 192)
codec = dict(type='UDPHeatmap', input_size=input_size, heatmap_size=(36, 48), sigma=1.5)

model = dict(
    type='TopdownPoseEstimator',
    data_preprocessor=dict(
        type='PoseDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type='ConvStemViT',
        img_size=(192, 144),
        stem_channels=(16, 32, 64),
        stem_blocks=(1, 2, 2),
        embed_dims=128,
        depth=4,
        num_heads=4,
    ),
    head=dict(
        type='PMPoseBoxHead',
        in_channels=128,
        out_channels=17,
        deconv_out_channels=(64, 64),
        activation='softmax',
        # 2 pi sigma^2: the peak of a perfectly predicted Gaussian becomes 1.
        normalize=14.137,
        branch_channels=48,
        branch_pools=((3, 3), (2, 3), (2, 1)),
        box_channels=32,
        keypoint_score='oks',
        loss=dict(type='SpatialCrossEntropyLoss'),
        decoder=codec,
        init_cfg=[],
    ),
    test_cfg=dict(flip_test=True, flip_mode='heatmap', shift_heatmap=False),
)

test_pipeline = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='MaskBackground', alpha=0.25, continue_on_failure=True),
    dict(type='TopdownAffine', input_size=input_size, use_udp=True),
    dict(type='PackPoseInputs'),
]
# Point `data_root`, `ann_file` and `data_prefix` at any COCO keypoint file to score the model on
# it with ground-truth boxes: --cfg-options test_dataloader.dataset.ann_file=... and so on.
test_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type=dataset_type,
        data_root='',
        data_mode=data_mode,
        ann_file='{{$COMPACT_POSE_DATA:work_dirs/pose/data}}/val.json',
        data_prefix=dict(img='{{$COMPACT_POSE_IMAGES:data/people/}}'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(type='CocoMetric', score_mode='bbox_keypoint', nms_mode='none')
test_cfg = dict()
