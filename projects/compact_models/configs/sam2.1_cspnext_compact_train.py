# First stage of the compact SAM 2.1, 256 px: the image encoder starts from the compact detector,
# the rest from random weights. The commands of all stages are in ../README.md.
# COMPACT_SAM_DATA: folder with annotations.json (COCO; fields `subset`, `fully_annotated`) and its
# images. Newest averaged weights: work_dirs/sam2.1_cspnext_compact_train/weights.pth and sam.pt.
_base_ = ['_base_/time_budget.py']

custom_imports = dict(
    imports=[
        'pipeline.training.pose2seg.parts',
        'projects.compact_models.segmenter.augment',
        'projects.compact_models.segmenter.model',
        'projects.compact_models.segmenter.partial_data',
        'projects.compact_models.training.plain_weights_hook',
        'projects.compact_models.training.time_budget_hook',
    ],
    allow_failed_imports=False,
)
default_scope = 'mmengine'

data_root = '{{$COMPACT_SAM_DATA:data/people}}'
image_size = 256

model = dict(
    type='CompactSam',
    config='configs/compact/sam2.1_cspnext_compact.yaml',
    checkpoint=None,
    trunk_checkpoint='rtmdet-ins_compact',
    align=True,
    image_size=image_size,
    freeze_image_encoder=False,
    mask_prompt_from_keypoints=True,
    multimask_max_points=0,
    detach_logits=True,
    # As in the pipeline: three keypoints, with a box or without.
    prompts=dict(
        keypoints=0.55,
        keypoints_and_box=0.3,
        box=0.15,
        counts=(0.1, 0.1, 0.65, 0.1, 0.05),
        orders=('k_most_visible', 'distance+confidence', 'distance+confidence', 'random'),
        jitter=0.015,
        box_jitter=0.12,
    ),
    clicks=dict(num_corrections=1, gt_prob=0.0, method='k_most_visible'),
    correction_prob=0.1,
    losses=dict(focal=10.0, dice=2.0, iou=0.5, object_score=0.1, focal_alpha=0.5),
    loss_stride=2,
    dense_weight=0.5,
    eval_counts=(1, 2, 3, 5, 'box+3', 'box'),
)

people = dict(
    type='PartialPoseDataset',
    data_root=data_root,
    ann_file='annotations.json',
    data_prefix=dict(img=''),
)
# More people to paste; their images are those of training.
paste = dict(type='PastePoses', people=dict(**people, subset='train'), prob=0.6, max_people=2)
pack = dict(type='PackPartialPoses', image_size=image_size)
train_pipeline = [
    dict(type='LoadPartialPoses'),
    dict(type='CropPose', scale=(1.1, 4.0), prob=0.5),
    paste,
    dict(type='FlipPose', prob=0.5),
    dict(type='JitterPose', brightness=0.25, contrast=0.25, saturation=0.3),
    dict(type='GrayscalePose', prob=0.05),
    # Most images have one or two people: more images are worth more than more prompts.
    dict(**pack, max_objects=2, min_objects=2),
]
with_masks = dict(**people, subset='train', pipeline=train_pipeline)
# Images in which every person has a box: people without a mask are partly known.
with_skeletons = dict(**with_masks, only=dict(fully_annotated=True), from_keypoints=4)
train_dataloader = dict(
    batch_size=6,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        type='ConcatDataset',
        datasets=[dict(type='RepeatDataset', times=3, dataset=with_masks), with_skeletons],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='pseudo_collate'),
    dataset=dict(
        **people,
        subset='val',
        need_keypoints=True,
        test_mode=True,
        pipeline=[dict(type='LoadPartialPoses'), pack],
    ),
)
val_evaluator = dict(type='PromptMetric', with_ap=False)
train_cfg = dict(val_interval=500)
val_cfg = dict(type='ValLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='TrainedPartsConstructor',
    optimizer=dict(type='AdamW', lr=6e-4, betas=(0.9, 0.99), weight_decay=0.05, fused=True),
    # It knows people already.
    paramwise_cfg=dict(custom_keys={'image_encoder.trunk': dict(lr_mult=0.5)}),
    clip_grad=dict(max_norm=1.0),
)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50),
    # No parameter scheduler: see TimeBudgetHook.
    param_scheduler=None,
    checkpoint=dict(_base_.checkpoint_hook, interval=500, save_best='pose2seg/iou_3'),
)
custom_hooks = [
    # Learning rate: warm-up, then a cosine over wall-clock time; stops when the time is over.
    dict(type='TimeBudgetHook', minutes=60, warmup_iters=150),
    # Averaged weights are what is validated and kept as the best.
    dict(
        type='EMAHook',
        ema_type='MomentumAnnealingEMA',
        momentum=0.002,
        gamma=10,
        update_buffers=True,
    ),
    dict(type='PlainWeightsHook'),
    dict(type='ExportSamHook'),
]
