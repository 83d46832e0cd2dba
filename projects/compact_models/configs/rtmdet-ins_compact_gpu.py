# All stages of the compact detector's training in one, for a GPU: images packed in a few files
# (pack_images.py), decoded once and kept on the GPU, cropped and assigned there in whole batches.
# Data and teacher are those of rtmdet-ins_compact_train.py.
# Newest averaged weights: weights.pth in the work directory.
_base_ = ['rtmdet-ins_compact_train.py']

custom_imports = dict(
    imports=[
        'projects.compact_models.detector.packed',
        'projects.compact_models.detector.interval_head',
        'projects.compact_models.packed.crops',
        'projects.compact_models.packed.loop',
        'projects.compact_models.training.plain_weights_hook',
        'projects.compact_models.training.time_budget_hook',
    ],
    allow_failed_imports=False,
)

packed = '{{$BMP_PACKED:work_dirs/packed}}'
work_dir = 'work_dirs/detector_gpu'

model = dict(
    type='PackedRTMDet',
    data_preprocessor=dict(type='PackedPreprocessor'),
    # The stock convolutions: the others are for bfloat16 on a CPU.
    backbone=dict(conv_cfg=None),
    neck=dict(conv_cfg=None),
    bbox_head=dict(mask_interval=1),
)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=2e-3))
train_dataloader = dict(
    _delete_=True,
    batch_size=None,
    num_workers=0,
    sampler=None,
    collate_fn=dict(type='torch.utils.data.default_convert'),
    dataset=dict(
        type='PackedCrops',
        paths=packed + '/part_*.pt',
        batch_size=64,
        crop=384,
        scale=(0.5, 1.3),
        remove_prob=0.2,
        device='cuda',
    ),
)
train_cfg = dict(type='WholeBatchLoop', val_interval=2000)
# There is no sampler.
default_hooks = dict(sampler_seed=None)
custom_hooks = [dict(_base_.custom_hooks[0], minutes=25), *_base_.custom_hooks[1:]]
