# First stage of the compact pose model. The commands of all stages are in ../README.md. A finished
# run goes on with more time: --resume --cfg-options custom_hooks.0.minutes=120.
# Newest averaged weights: weights.pth in the work directory.
_base_ = ['../../../configs/compact/vitpose_compact.py', '_base_/time_budget.py']

custom_imports = dict(
    imports=[
        'pipeline.poses.conv_stem_vit',
        'pipeline.poses.mask_background',
        'pipeline.poses.pmpose_head',
        'projects.compact_models.pose.cut_by_image_edge',
        'pipeline.training.bf16_optim_wrapper',
        'projects.compact_models.training.plain_weights_hook',
        'projects.compact_models.training.time_budget_hook',
    ],
    allow_failed_imports=False,
)

data_root = '{{$COMPACT_POSE_DATA:work_dirs/pose/data}}'

optim_wrapper = dict(
    type='Bf16OptimWrapper',
    optimizer=dict(type='AdamW', lr=1.2e-3, betas=(0.9, 0.99), weight_decay=0.05, fused=True),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
train_cfg = dict(val_interval=1500)
val_cfg = dict()

train_pipeline = [
    dict(type='LoadImage'),
    # Close-ups: teaches the presence branch, whose targets COCO does not have.
    dict(type='CutByImageEdge', prob=0.3),
    dict(type='GetBBoxCenterScale'),
    # The mask of the annotator is made to look like that of a detector (MaskPose).
    dict(
        type='MaskBackground',
        alpha=0.25,
        continue_on_failure=True,
        prob=0.3,
        dilate_prob=0.5,
        dilate_amount=0.1,
        erode_prob=0.5,
        erode_amount=0.5,
    ),
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='RandomHalfBody', prob=0.2),
    dict(
        type='RandomBBoxTransform',
        shift_factor=0.12,
        scale_factor=(0.75, 1.3),
        rotate_factor=40.0,
        rotate_prob=0.5,
    ),
    dict(type='TopdownAffine', input_size=_base_.input_size, use_udp=True),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='GenerateTarget', encoder=_base_.codec),
    dict(type='PackPoseInputs', pack_transformed=True),
]
train_dataloader = dict(
    # Small: the run is short of steps, not of samples per step.
    batch_size=16,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        data_mode='topdown',
        ann_file='train.json',
        data_prefix=dict(img=''),
        pipeline=train_pipeline,
    ),
)
val_dataloader = _base_.test_dataloader
val_evaluator = _base_.test_evaluator

default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50),
    # No parameter scheduler: see TimeBudgetHook.
    param_scheduler=None,
    checkpoint=dict(_base_.checkpoint_hook, save_best='coco/AP'),
)
custom_hooks = [
    # Learning rate: warm-up, then a cosine over wall-clock time; stops when the time is over.
    dict(type='TimeBudgetHook', minutes=60, warmup_iters=150),
    # Averaged weights are what is validated and kept as the best.
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.002, update_buffers=True),
    dict(type='PlainWeightsHook'),
]
