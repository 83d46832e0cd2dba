# Last stage of the compact pose model: poses as in vitpose_compact_train.py, and the second look at
# boxes, learned from what the compact detector finds in the training images (prepare_box_data.py).
_base_ = ['vitpose_compact_train.py']

custom_imports = dict(
    imports=[
        *_base_.custom_imports.imports,
        'projects.compact_models.pose.detected_people',
        'projects.compact_models.pose.person_box_target',
        'pipeline.poses.pmpose_box_head',
        'projects.compact_models.training.muon',
    ],
    allow_failed_imports=False,
)

load_from = 'work_dirs/pose/weights.pth'

# What the detector found is off by itself: little is added to that.
box_pipeline = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='RandomFlip', direction='horizontal'),
    dict(
        type='RandomBBoxTransform',
        shift_factor=0.08,
        scale_factor=(0.85, 1.2),
        rotate_prob=0.0,
    ),
    dict(type='TopdownAffine', input_size=_base_.input_size, use_udp=True),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='GenerateTarget', encoder=_base_.codec),
    dict(type='PersonBoxTarget'),
    dict(type='PackPoseInputs', pack_transformed=True),
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        ignore_keys=['CLASSES'],
        datasets=[
            # There are almost four times as many detections, two in five of them with a pose.
            dict(type='RepeatDataset', times=3, dataset=_base_.train_dataloader.dataset),
            dict(
                type='DetectedPeopleDataset',
                data_root='{{$COMPACT_DETECTOR_DATA:work_dirs/detector_data}}',
                data_mode='topdown',
                ann_file='{{$COMPACT_BOX_DATA:work_dirs/box_data.json}}',
                data_prefix=dict(img=''),
                pipeline=box_pipeline,
            ),
        ],
    ),
)
# Muon learns more in as many steps than AdamW (LOG.md); it needs no bound on gradients.
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='MuonAdamW', lr=1e-3, weight_decay=0.05), clip_grad=None
)
