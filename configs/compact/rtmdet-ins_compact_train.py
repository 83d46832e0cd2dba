# python tools/prepare_compact_data.py PHOTOS data/compact_detector
# python tools/train.py configs/compact/rtmdet-ins_compact_train.py --threads 1
# A stopped run goes on with the same command and --resume.
_base_ = ['rtmdet-ins_compact.py']

custom_imports = dict(
    imports=[
        'pipeline.datasets.transforms',
        'pipeline.detectors.rtmdet_ins_partial',
        'pipeline.training.bf16_optim_wrapper',
    ],
    allow_failed_imports=False,
)

data_root = '{{$COMPACT_DETECTOR_DATA:data/compact_detector}}/'
work_dir = 'work_dirs/detector'
max_epochs = 4
warmup_iters = 200
crop_size = (256, 256)

randomness = dict(seed=0)
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=1))
log_level = 'INFO'
load_from = None
resume = False

model = dict(
    bbox_head=dict(type='RTMDetInsPartialMaskHead'),
    train_cfg=dict(
        assigner=dict(type='DynamicSoftLabelAssigner', topk=13),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
)

optim_wrapper = dict(
    type='CpuBf16OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.99), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0, bypass_duplicate=True),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=warmup_iters, by_epoch=False),
    dict(
        type='CosineAnnealingLR',
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        eta_min=2e-5,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=True),
    dict(type='RandomResize', scale=(300, 300), ratio_range=(0.6, 1.7), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, allow_negative_crop=True),
    dict(type='RemoveRandomInstances', prob=0.2),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Pad', size=crop_size, pad_val=dict(img=(114, 114, 114))),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(3, 3), keep_empty=False),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        metainfo=dict(classes=('person',), palette=[(220, 20, 60)]),
        data_root=data_root,
        ann_file='train.json',
        data_prefix=dict(img=''),
        filter_cfg=dict(filter_empty_gt=False, min_size=16),
        pipeline=train_pipeline,
    ),
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=3)

test_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    persistent_workers=False,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        metainfo=dict(classes=('person',), palette=[(220, 20, 60)]),
        data_root=data_root,
        ann_file='val.json',
        data_prefix=dict(img=''),
        test_mode=True,
        pipeline=_base_.test_pipeline,
    ),
)
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
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=20),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=200, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
custom_hooks = [
    dict(
        type='EMAHook',
        ema_type='ExpMomentumEMA',
        momentum=0.001,
        gamma=500,
        update_buffers=True,
        priority=49,
    )
]
