# Third stage of the compact SAM 2.1: 256 px, from the weights of the second.
#   python tools/train.py configs/compact/sam2.1_hiera_compact_stage3.py --threads 1 \
#       --cfg-options load_from=work_dirs/sam2.1_hiera_compact_stage2/weights.pth
_base_ = ['sam2.1_hiera_compact_stage2.py']

image_size = 256

model = dict(image_size=image_size)

*_steps, _pack = _base_.train_pipeline
train_pipeline = [*_steps, dict(_pack, image_size=image_size)]
with_masks = dict(_base_.with_masks, pipeline=train_pipeline)
with_skeletons = dict(_base_.with_skeletons, pipeline=train_pipeline)
train_dataloader = dict(
    dataset=dict(datasets=[dict(type='RepeatDataset', times=2, dataset=with_masks), with_skeletons])
)
_load = dict(type='LoadPosePhoto')
val_dataloader = dict(
    dataset=dict(pipeline=[_load, dict(type='PackPromptedPoses', image_size=image_size)])
)
optim_wrapper = dict(optimizer=dict(lr=2.5e-4))
custom_hooks = [dict(_base_.custom_hooks[0], minutes=30), *_base_.custom_hooks[1:]]
