# Second stage of the compact pose model: people pasted in front of the person. Same work directory
# and time budget as the first; stop that at about two thirds of its time, then --resume.
_base_ = ['vitpose_compact_train.py']

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'projects.compact_models.pose.paste_people'],
    allow_failed_imports=False,
)

_load, _box, *_rest = _base_.train_pipeline
train_pipeline = [
    _load,
    _box,
    dict(
        type='PastePeople',
        cutouts='{{$COMPACT_CUTOUTS:data/cutouts}}',
        prob=0.2,
        max_people=2,
    ),
    *_rest,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
