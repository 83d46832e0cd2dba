# Small version of the detector recipe, an example for custom data: the embedded model, COCO-format
# files in data/practice, 4 epochs, masked-out people in the first 3 epochs.
#
#   python tools/make_synthetic_crowd.py data/practice/train --num-images 48 --people 2 5 \
#       --size 320 240
#   python tools/make_synthetic_crowd.py data/practice/val --num-images 8 --people 2 5 \
#       --size 320 240 --seed 1
#   python tools/train.py configs/detector/rtmdet-ins_compact_practice.py
_base_ = '../compact/rtmdet-ins_compact.py'

custom_imports = dict(imports=['pipeline.registry'], allow_failed_imports=False)

data_root = '{{$BMP_DATA:data}}/practice/'
work_dir = 'work_dirs/detector_practice'
load_from = 'rtmdet-ins_compact'
crop_size = (192, 192)

env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=1))
# A batch may have no people.
find_unused_parameters = True

model = dict(
    bbox_head=dict(type='RTMDetInsPartialMaskHead'),
    train_cfg=dict(
        assigner=dict(type='DynamicSoftLabelAssigner', topk=13),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
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
    dict(type='PackDetInputs'),
]
stage2 = [step for step in train_pipeline if step['type'] != 'RemoveRandomInstances']
person = _base_.test_dataloader.dataset.metainfo
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        metainfo=person,
        data_root=data_root + 'train/',
        ann_file='annotations.json',
        data_prefix=dict(img=''),
        filter_cfg=dict(filter_empty_gt=False, min_size=16),
        pipeline=train_pipeline,
    ),
)
val_data = dict(data_root=data_root + 'val/', ann_file='annotations.json')
val_dataloader = dict(
    _base_.test_dataloader, dataset=dict(_base_.test_dataloader.dataset, **val_data)
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='CocoMetric', ann_file=data_root + 'val/annotations.json', metric=['bbox', 'segm']
)
test_evaluator = val_evaluator

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, betas=(0.9, 0.99), weight_decay=0.05, fused=True),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0, bypass_duplicate=True),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=5, by_epoch=False),
    dict(
        type='CosineAnnealingLR',
        begin=0,
        end=4,
        T_max=4,
        eta_min=1e-5,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=3),
    checkpoint=dict(
        type='CheckpointHook',
        interval=1,
        max_keep_ckpts=2,
        save_best='coco/bbox_mAP',
        rule='greater',
    ),
)
custom_hooks = [
    dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.05, update_buffers=True),
    dict(type='PipelineSwitchHook', switch_epoch=3, switch_pipeline=stage2),
]
log_processor = dict(type='LogProcessor', window_size=50, num_digits=4)
