# Second stage of the compact SAM 2.1: 192 px, from the weights of the first or, as here, from the
# published ones.
#   python tools/train.py configs/compact/sam2.1_hiera_compact_stage2.py --threads 1 \
#       [--cfg-options load_from=work_dirs/sam2.1_hiera_compact_train/weights.pth]
_base_ = ['sam2.1_hiera_compact_train.py']

image_size = 192

model = dict(
    image_size=image_size, checkpoint='sam2.1_hiera_compact', align=False, dense_weight=0.5
)

_load, _zoom, *_steps, _pack = _base_.train_pipeline
train_pipeline = [
    _load,
    dict(_zoom, prob=0.6),
    *_steps,
    dict(_pack, image_size=image_size, max_objects=4, min_objects=4),
]
with_masks = dict(_base_.with_masks, pipeline=train_pipeline)
with_skeletons = dict(_base_.with_skeletons, pipeline=train_pipeline)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        datasets=[dict(type='RepeatDataset', times=2, dataset=with_masks), with_skeletons]
    ),
)
val_dataloader = dict(
    dataset=dict(pipeline=[_load, dict(type='PackPromptedPoses', image_size=image_size)])
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
custom_hooks = [dict(_base_.custom_hooks[0], minutes=60), *_base_.custom_hooks[1:]]
