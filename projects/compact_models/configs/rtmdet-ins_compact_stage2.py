# Second stage of the compact detector: larger crops, people pasted over each other. Same work
# directory and time budget as the first; stop that at about two thirds of its time, then --resume.
_base_ = ['rtmdet-ins_compact_train.py']

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'projects.compact_models.detector.copy_paste'],
    allow_failed_imports=False,
)

crop_size = (320, 320)
_load, _annotations, _resize, _crop, *_augment, _pad, _filter, _pack = _base_.train_pipeline
train_pipeline = [
    _load,
    _annotations,
    dict(_resize, scale=(384, 384), ratio_range=(0.6, 1.5)),
    dict(_crop, crop_size=crop_size),
    dict(
        type='CopyPastePeople',
        cutouts='{{$COMPACT_CUTOUTS:data/cutouts}}',
        prob=0.3,
        max_people=3,
    ),
    *_augment,
    dict(_pad, size=crop_size),
    _filter,
    _pack,
]
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
