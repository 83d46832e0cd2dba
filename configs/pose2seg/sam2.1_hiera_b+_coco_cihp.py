# SAM 2.1 B+ fine-tuned by PoseMaskRefine, published recipe (docs/user_guide/training_pose2seg.md):
# torchrun --nproc_per_node 8 tools/train.py configs/pose2seg/sam2.1_hiera_b+_coco_cihp.py
# One GPU: add --accumulate 8. It also runs without a GPU.
custom_imports = dict(
    imports=['pipeline.training.pose2seg.parts', 'pipeline.training.bf16_optim_wrapper'],
    allow_failed_imports=False,
)
default_scope = 'mmengine'

data_root = 'data'
image_size = 1024

model = dict(
    type='PromptedSam',
    config='sam2.1_hiera_b+',
    checkpoint='sam2.1_hiera_base_plus',
    image_size=image_size,
    freeze_image_encoder=True,
    clicks=dict(
        first_click='most_visible',
        num_corrections=7,
        keypoint_prob=1.0,
        choice='most_visible',
        gt_prob=0.1,
        visibility_threshold=0.5,
        method='k_most_visible',
    ),
    losses=dict(focal=20.0, dice=1.0, iou=1.0, object_score=1.0),
)

train_pipeline = [
    dict(type='LoadPoseImage'),
    dict(type='FlipPose', prob=0.5),
    dict(type='AffinePose', degrees=25, shear=20),
    dict(type='JitterPose', brightness=0.1, contrast=0.03, saturation=0.03),
    dict(type='JitterPose', brightness=0.1, contrast=0.05, saturation=0.05),
    dict(type='GrayscalePose', prob=0.05),
    # As published; more people per image share its embedding and cost little.
    dict(type='PackPromptedPoses', image_size=image_size, max_objects=1),
]
coco_train = dict(
    type='PoseMaskDataset',
    ann_file='coco/annotations/person_keypoints_train2017.json',
    data_root=data_root,
    data_prefix=dict(img='coco/train2017'),
    pipeline=train_pipeline,
)
cihp_train = dict(
    type='PoseMaskDataset',
    ann_file='cihp/annotations/cihp_train_keypoints.json',  # by tools/predict_keypoints.py
    data_root=data_root,
    data_prefix=dict(img='cihp/Training/Images'),
    visibility='model',
    pipeline=train_pipeline,
)
train_dataloader = dict(
    batch_size=1,
    num_workers=10,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='RepeatDataset',
        times=2,
        dataset=dict(type='ConcatDataset', datasets=[coco_train, cihp_train]),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='PoseMaskDataset',
        ann_file='coco/annotations/person_keypoints_val2017.json',
        data_root=data_root,
        data_prefix=dict(img='coco/val2017'),
        need_keypoints=True,
        test_mode=True,
        pipeline=[
            dict(type='LoadPoseImage'),
            dict(type='PackPromptedPoses', image_size=image_size),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='PromptMetric')
test_evaluator = val_evaluator

max_epochs = 15
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='Bf16OptimWrapper',
    constructor='TrainedPartsConstructor',
    optimizer=dict(type='AdamW', lr=5e-6, weight_decay=0.1),
    clip_grad=dict(max_norm=0.1),
    # Used only with freeze_image_encoder=False: 3e-6 for the image encoder, lower for earlier
    # blocks of its trunk.
    paramwise_cfg=dict(layer_decay_rate=0.9, custom_keys=dict(image_encoder=dict(lr_mult=0.6))),
)
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs,
        end=max_epochs,
        eta_min_ratio=0.1,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
custom_hooks = [dict(type='ExportSamHook')]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50),
    checkpoint=dict(
        type='CheckpointHook',
        interval=1,
        max_keep_ckpts=2,
        save_best='pose2seg/iou_3',
        rule='greater',
    ),
)
randomness = dict(seed=123)
