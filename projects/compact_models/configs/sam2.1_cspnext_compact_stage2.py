# Second stage of the compact SAM 2.1: 384 px, from the weights of the first (load_from) or, here,
# from the published ones.
_base_ = ['sam2.1_cspnext_compact_train.py']

image_size = 384

model = dict(
    image_size=image_size,
    checkpoint='sam2.1_cspnext_compact',
    trunk_checkpoint=None,
    align=False,
)

*_steps, _pack = _base_.train_pipeline
train_pipeline = [*_steps, dict(_pack, image_size=image_size)]
with_masks = dict(_base_.with_masks, pipeline=train_pipeline)
with_skeletons = dict(_base_.with_skeletons, pipeline=train_pipeline)
_repeated = _base_.train_dataloader.dataset.datasets[0]
train_dataloader = dict(
    dataset=dict(datasets=[dict(_repeated, dataset=with_masks), with_skeletons])
)
_load = dict(type='LoadPartialPoses')
val_dataloader = dict(
    dataset=dict(pipeline=[_load, dict(type='PackPartialPoses', image_size=image_size)])
)
optim_wrapper = dict(optimizer=dict(lr=3e-4))
custom_hooks = [dict(_base_.custom_hooks[0], minutes=30), *_base_.custom_hooks[1:]]
