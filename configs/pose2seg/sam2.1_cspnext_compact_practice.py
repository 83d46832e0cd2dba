# Small version of PoseMaskRefine, an example for custom data: the embedded SAM 2.1 with the
# published augmentation and clicks, COCO-format files in data/practice, 3 epochs. For the data
# see ../detector/rtmdet-ins_compact_practice.py.
#
#   python tools/train.py configs/pose2seg/sam2.1_cspnext_compact_practice.py
_base_ = 'sam2.1_hiera_b+_coco_cihp.py'

data_root = '{{$BMP_DATA:data}}/practice/'
work_dir = 'work_dirs/pose2seg_practice'
image_size = 256
max_epochs = 3

model = dict(
    config='configs/compact/sam2.1_cspnext_compact.yaml',
    checkpoint='sam2.1_cspnext_compact',
    image_size=image_size,
    clicks=dict(num_corrections=3, method='distance+confidence'),
    # The embedded model hardly uses prompt tokens: prompts are drawn as masks, also at inference.
    mask_prompt_from_keypoints=True,
    multimask_max_points=0,
    detach_logits=True,
    losses=dict(focal=10.0, dice=2.0, focal_alpha=0.5),
)

train_pipeline = [
    *_base_.train_pipeline[:-1],
    dict(type='PackPromptedPoses', image_size=image_size, max_objects=3),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True,
        type='PoseMaskDataset',
        ann_file='train/annotations.json',
        data_root=data_root,
        data_prefix=dict(img='train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        ann_file='val/annotations.json',
        data_root=data_root,
        data_prefix=dict(img='val'),
        pipeline=[
            dict(type='LoadPoseImage'),
            dict(type='PackPromptedPoses', image_size=image_size),
        ],
    ),
)
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=1e-4), clip_grad=dict(max_norm=1.0))
param_scheduler = [dict(_base_.param_scheduler[0], T_max=max_epochs, end=max_epochs)]
default_hooks = dict(logger=dict(interval=4))
