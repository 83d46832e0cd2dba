# Second stage of the compact detector: larger crops, people pasted over each other. Same work
# directory and time budget as the first; stop that at about two thirds of its time, then --resume.
_base_ = ['rtmdet-ins_compact_train.py']

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'projects.compact_models.detector.copy_paste'],
    allow_failed_imports=False,
)

crop_size = (320, 320)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=True),
    dict(type='RandomResize', scale=(384, 384), ratio_range=(0.6, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, allow_negative_crop=True),
    dict(
        type='CopyPastePeople',
        cutouts='{{$COMPACT_CUTOUTS:data/cutouts}}',
        prob=0.3,
        max_people=3,
    ),
    dict(type='RemoveRandomInstances', prob=0.2),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Pad', size=crop_size, pad_val=dict(img=(114, 114, 114))),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(3, 3), keep_empty=False),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'painted'),
    ),
]
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
