# Small version of the PMPose recipe, an example for custom data: the embedded model with OKS maps
# as targets, COCO-format files in data/practice, 3 epochs. For the data see
# ../detector/rtmdet-ins_compact_practice.py.
#
#   python tools/train.py configs/pose/pmpose_compact_practice.py
#   python tools/train.py configs/pose/pmpose_compact_practice.py --work-dir work_dirs/frozen \
#       --cfg-options model.freeze_backbone=True
_base_ = '../compact/vitpose_compact.py'

custom_imports = dict(
    imports=['pipeline.registry'],
    allow_failed_imports=False,
)

data_root = '{{$BMP_DATA:data}}/practice/'
work_dir = 'work_dirs/pose_practice'
load_from = 'vitpose_compact'

env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=1))

oks_codec = dict(type='OKSArgMaxHeatmap', input_size=(144, 192), heatmap_size=(36, 48))
codec = dict(_delete_=True, **oks_codec)
model = dict(
    type='FreezableTopdownPoseEstimator',
    freeze_backbone=False,
    head=dict(
        # The loss on OKS maps needs a probability map. Not sparsemax: it has no gradient where it
        # is 0, and trains well only from nearly correct heatmaps.
        activation='softmax',
        normalize=1.0,
        loss=dict(_delete_=True, type='OKSHeatmapLoss', smoothing_weight=0.05),
        decoder=dict(_delete_=True, **oks_codec),
    ),
)

train_pipeline = [
    dict(type='LoadImage'),
    dict(type='KeepVisibilityLevels'),
    dict(type='GetBBoxCenterScale'),
    dict(type='MaskBackground', alpha=0.25, dilate_prob=0.5, erode_prob=0.5),
    dict(type='RandomFlip', direction='horizontal'),
    dict(type='RandomHalfBody'),
    dict(type='RandomBBoxTransform'),
    dict(type='RandomEdgesBlackout', prob=0.2, ratio=(0.1, 0.3), context=1.5),
    dict(type='TopdownAffine', input_size=(144, 192), use_udp=True),
    dict(type='RandomPatchesBlackout', prob=0.1, grid=(8, 6), ratio=0.2),
    dict(type='GenerateTarget', encoder=oks_codec),
    dict(type='PackPoseInputs', pack_transformed=True),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root + 'train/',
        data_mode='topdown',
        ann_file='annotations.json',
        data_prefix=dict(img=''),
        pipeline=train_pipeline,
    ),
)
val_data = dict(data_root=data_root + 'val/', ann_file='annotations.json', data_prefix=dict(img=''))
val_dataloader = dict(
    _base_.test_dataloader, dataset=dict(_base_.test_dataloader.dataset, **val_data)
)
test_dataloader = val_dataloader
val_evaluator = dict(_base_.test_evaluator, ann_file=data_root + 'val/annotations.json')
test_evaluator = val_evaluator

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3, val_interval=1)
val_cfg = dict()
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.99), weight_decay=0.1, fused=True),
    clip_grad=dict(max_norm=5.0),
    constructor='LayerDecayConstructor',
    paramwise_cfg=dict(
        num_layers=4,
        layer_decay_rate=0.75,
        custom_keys=dict(pos_embed=dict(decay_mult=0.0)),
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=5, by_epoch=False),
    dict(type='MultiStepLR', begin=0, end=3, milestones=[2], gamma=0.1, by_epoch=True),
]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=3),
    checkpoint=dict(
        type='CheckpointHook', interval=1, max_keep_ckpts=2, save_best='coco/AP', rule='greater'
    ),
)
custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.05, update_buffers=True),
]
log_processor = dict(type='LogProcessor', window_size=10, num_digits=4)
