# Third stage of the compact SAM 2.1: one person per crop, 192 px, as with
# `segmenter.crop_segmentation`, from the weights of the second stage (load_from) or, as here, from
# the published ones.
_base_ = ['sam2.1_cspnext_compact_train.py']

image_size = 192

model = dict(
    image_size=image_size,
    checkpoint='sam2.1_cspnext_compact',
    trunk_checkpoint=None,
    align=False,
    # The box of the crop is known most of the time.
    prompts=dict(keypoints=0.45, keypoints_and_box=0.4, box=0.15, box_jitter=0.1),
)

_load, _crop, *_steps, _pack = _base_.train_pipeline
train_pipeline = [
    _load,
    dict(_crop, prob=0.9, scale=(1.1, 2.6)),
    *_steps,
    dict(_pack, image_size=image_size),
]
with_masks = dict(_base_.with_masks, one_by_one=True, pipeline=train_pipeline)
with_skeletons = dict(_base_.with_skeletons, one_by_one=True, pipeline=train_pipeline)
_repeated = _base_.train_dataloader.dataset.datasets[0]
train_dataloader = dict(
    batch_size=10,
    dataset=dict(datasets=[dict(_repeated, dataset=with_masks), with_skeletons]),
)
val_dataloader = dict(
    dataset=dict(
        one_by_one=True,
        pipeline=[
            _load,
            dict(_crop, prob=1.0, scale=(1.5, 1.5), stretch=1.0, shift=0.0),
            dict(type='PackPartialPoses', image_size=image_size),
        ],
    )
)
optim_wrapper = dict(optimizer=dict(lr=6e-4))
custom_hooks = [dict(_base_.custom_hooks[0], minutes=100), *_base_.custom_hooks[1:]]
