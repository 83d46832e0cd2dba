# Third stage of the compact detector: crops that hold the largest people whole at the size of use.
# Same work directory and time budget; --resume.
_base_ = ['rtmdet-ins_compact_stage2.py']

crop_size = (384, 384)
_load, _annotations, _resize, _crop, *_augment, _pad, _filter, _pack = _base_.train_pipeline
train_pipeline = [
    _load,
    _annotations,
    dict(_resize, scale=(448, 448), ratio_range=(0.5, 1.3)),
    dict(_crop, crop_size=crop_size),
    *_augment,
    dict(_pad, size=crop_size),
    _filter,
    _pack,
]
train_dataloader = dict(batch_size=3, dataset=dict(pipeline=train_pipeline))
