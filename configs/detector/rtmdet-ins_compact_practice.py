# The detector's recipe in small, for a first try and as an example of own data: the embedded model,
# COCO-format files in data/practice, 4 epochs, painted people in the first 3 of them.
#
#   python tools/make_synthetic_crowd.py data/practice/train --num-images 48 --people 2 5 \
#       --size 320 240
#   python tools/make_synthetic_crowd.py data/practice/val --num-images 8 --people 2 5 \
#       --size 320 240 --seed 1
#   python tools/train.py configs/detector/rtmdet-ins_compact_practice.py
_base_ = '../../projects/compact_models/configs/rtmdet-ins_compact_train.py'

data_root = '{{$BMP_DATA:data}}/practice/'
work_dir = 'work_dirs/detector_practice'
load_from = 'rtmdet-ins_compact'

stage2 = [step for step in _base_.train_pipeline if step['type'] != 'RemoveRandomInstances']
train_dataloader = dict(
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(data_root=data_root + 'train/', ann_file='annotations.json'),
)
val_dataloader = dict(
    dataset=dict(data_root=data_root + 'val/', ann_file='annotations.json'),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'val/annotations.json', metric=['bbox', 'segm'])
test_evaluator = val_evaluator

train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=4, val_interval=1)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=2e-4))
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
    logger=dict(interval=3),
    param_scheduler=dict(_delete_=True, type='ParamSchedulerHook'),
    checkpoint=dict(
        _delete_=True,
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
log_processor = dict(by_epoch=True)
