# Goes on from vitpose_compact_train.py with people pasted in front of the person.
# python tools/prepare_cutouts.py PHOTOS data/cutouts
# python tools/train.py configs/compact/vitpose_compact_stage2.py --work-dir work_dirs/pose --resume
# The same work directory and time budget: stop the first stage at about two thirds of its time.
_base_ = ['vitpose_compact_train.py']

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'pipeline.poses.paste_people'],
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
