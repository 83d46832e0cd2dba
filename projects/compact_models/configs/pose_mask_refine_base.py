# Common part of the small study of PoseMaskRefine (projects/studies): the compact SAM 2.1, frozen
# image encoder, stored embeddings. Evaluated as it is, it is the base line of the study.
custom_imports = dict(
    imports=[
        'pipeline.training.pose2seg.parts',
        'projects.compact_models.segmenter.model',
        'projects.compact_models.segmenter.partial_data',
        'projects.compact_models.segmenter.embedding_cache',
    ],
    allow_failed_imports=False,
)
default_scope = 'mmengine'

data_root = 'data'  # train/annotations.json, train/images; dev/person_keypoints.json
image_size = 192
max_iters = 250

model = dict(
    type='CompactSam',
    config='configs/compact/sam2.1_cspnext_compact.yaml',
    checkpoint='sam2.1_cspnext_compact',
    image_size=image_size,
    # COCO's flags make most keypoints equally visible, and ties would go to nose and eyes: spread
    # keypoints say more. The same order in training and evaluation.
    clicks=dict(method='distance+confidence'),
    # The losses that the compact model was trained with, so that only the clicks are new to it.
    losses=dict(focal=10.0, dice=2.0, focal_alpha=0.5),
    multimask_max_points=0,
    detach_logits=True,
    mask_prompt_from_keypoints=True,
    cache_embeddings=True,
)

load = dict(type='LoadPartialPoses')
pack = dict(type='PackPartialPoses', image_size=image_size)
people = dict(type='PartialPoseDataset', data_root=data_root, need_keypoints=True)
train_set = dict(**people, ann_file='train/annotations.json', data_prefix=dict(img='train'))
dev_set = dict(**people, ann_file='dev/person_keypoints.json', data_prefix=dict(img='dev/images'))
loader = dict(num_workers=0, collate_fn=dict(type='pseudo_collate'))
in_order = dict(**loader, batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False))

train_dataloader = dict(
    **loader,
    batch_size=8,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(**train_set, subset='train', pipeline=[load, dict(**pack, max_objects=2)]),
)
val_dataloader = dict(
    **in_order, dataset=dict(**train_set, subset='val', test_mode=True, pipeline=[load, pack])
)
test_dataloader = dict(**in_order, dataset=dict(**dev_set, test_mode=True, pipeline=[load, pack]))
val_evaluator = dict(type='PromptMetric')
test_evaluator = dict(type='PromptMetric')

train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='TrainedPartsConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.1),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, end=20),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=20, T_max=max_iters - 20, eta_min=1e-5),
]
custom_hooks = [
    dict(type='EmbeddingCacheHook', folder='work_dirs/pose2seg/embeddings', max_gb=1.0),
    dict(type='ExportSamHook'),
]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=20),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=max_iters, max_keep_ckpts=2),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
