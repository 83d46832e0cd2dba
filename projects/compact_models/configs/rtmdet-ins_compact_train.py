# First stage of the compact detector: small crops, so more steps in the same time. The commands of
# all stages are in ../README.md.
# BMP_TEACHER: OpenMMLab's RTMDet-nano for persons (its .py and .pth, without the ending). Without
# it the model learns from the annotations alone.
# Newest averaged weights: weights.pth in the work directory.
_base_ = ['../../../configs/compact/rtmdet-ins_compact.py', '_base_/time_budget.py']

custom_imports = dict(
    imports=[
        'pipeline.datasets.transforms',
        'projects.compact_models.detector.distilled',
        'projects.compact_models.detector.interval_head',
        'pipeline.training.bf16_optim_wrapper',
        'projects.compact_models.detector.depthwise_conv',
        'projects.compact_models.training.plain_weights_hook',
        'projects.compact_models.training.time_budget_hook',
    ],
    allow_failed_imports=False,
)

data_root = '{{$COMPACT_DETECTOR_DATA:data/compact_detector}}/'
teacher = '{{$BMP_TEACHER:none}}'
work_dir = 'work_dirs/detector'
# Small crops: more steps in the same time. rtmdet-ins_compact_stage2.py goes on with larger ones.
crop_size = (192, 192)

# Steps without masks (mask_interval) use no mask layers.
find_unused_parameters = True

fast_conv = dict(type='CpuDepthwiseConv2d')
model = dict(
    type='DistilledRTMDet',
    teacher=dict(config=teacher + '.py', checkpoint=teacher + '.pth')
    if teacher != 'none'
    else None,
    teacher_feature_weight=3.0,
    backbone=dict(conv_cfg=fast_conv),
    neck=dict(conv_cfg=fast_conv),
    bbox_head=dict(type='MaskIntervalHead', mask_interval=4),
    train_cfg=dict(
        assigner=dict(type='DynamicSoftLabelAssigner', topk=13),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
)

optim_wrapper = dict(
    type='Bf16OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.99), weight_decay=0.05, fused=True),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0, bypass_duplicate=True),
    clip_grad=dict(max_norm=10.0),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=True),
    dict(type='RandomResize', scale=(240, 240), ratio_range=(0.6, 1.7), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, allow_negative_crop=True),
    dict(type='RemoveRandomInstances', prob=0.2),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Pad', size=crop_size, pad_val=dict(img=(114, 114, 114))),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(3, 3), keep_empty=False),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'painted'),
    ),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        metainfo=_base_.test_dataloader.dataset.metainfo,
        data_root=data_root,
        ann_file='train.json',
        data_prefix=dict(img=''),
        filter_cfg=dict(filter_empty_gt=False, min_size=16),
        pipeline=train_pipeline,
    ),
)

val_dataloader = dict(
    _base_.test_dataloader, dataset=dict(_base_.test_dataloader.dataset, data_root=data_root)
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='CocoMetric',
    ann_file=data_root + 'val.json',
    metric='bbox',
    format_only=False,
)
val_cfg = dict(type='ValLoop')
test_evaluator = val_evaluator
test_cfg = dict(type='TestLoop')

default_hooks = dict(
    logger=dict(type='LoggerHook', interval=20),
    # No parameter scheduler: see TimeBudgetHook.
    param_scheduler=None,
    checkpoint=dict(_base_.checkpoint_hook, save_best='coco/bbox_mAP'),
)
custom_hooks = [
    # Learning rate: warm-up, then a cosine over wall-clock time; stops when the time is over.
    dict(type='TimeBudgetHook', minutes=100, warmup_iters=200),
    # Averaged weights are what is validated and kept as the best.
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.001, gamma=500, update_buffers=True),
    dict(type='PlainWeightsHook'),
]
