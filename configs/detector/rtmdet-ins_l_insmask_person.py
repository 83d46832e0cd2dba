# RTMDet-Ins-L for the loop: one class (person); painted people are background. Starts from
# MMDetection's COCO weights; 300 epochs, the last 20 without painting.
#
#   python tools/train.py configs/detector/rtmdet-ins_l_insmask_person.py --check
#   torchrun --nproc_per_node 8 tools/train.py configs/detector/rtmdet-ins_l_insmask_person.py
#
# The learning rate is for 8 processes of 16 images, as published (the stock recipe: 0.004 for 8 of
# 32). --cfg-options auto_scale_lr.enable=True adapts it to any other number of processes.
_base_ = 'mmdet::rtmdet/rtmdet-ins_l_8xb32-300e_coco.py'

custom_imports = dict(
    imports=['pipeline.registry'],
    allow_failed_imports=False,
)

data_root = '{{$BMP_DATA:data}}/coco/'
# Images without people are omitted (filter_empty_gt).
person = dict(classes=('person',), palette=[(220, 20, 60)])
base_lr = 0.004 * 16 / 32
load_from = 'rtmdet-ins_l_coco'

model = dict(
    # Stock layers; people without a mask train box and class, and losses are in float32.
    bbox_head=dict(type='RTMDetInsPartialMaskHead', num_classes=1),
    test_cfg=dict(max_per_img=40),
)

# fill: 'black' (as in the loop), 'mean', grey or (r, g, b). dilation: largest difference in px
# between the painted region and the mask, to imitate predicted masks.
removal = dict(
    type='RemoveRandomInstances',
    prob=0.5,
    min_instances=1,
    max_instances=5,
    fill='black',
    dilation=(-3, 6),
    min_visible=0.1,
)
# poly2mask=False is faster, but drops people with run-length encoded masks.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=True),
    removal,
    dict(type='RandomResize', scale=(1280, 1280), ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(640, 640), recompute_bbox=True, allow_negative_crop=True),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Pad', size=(640, 640), pad_val=dict(img=(114, 114, 114))),
    # keep_empty=False: an image with all people painted is kept as background.
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
    dict(type='PackDetInputs'),
]
train_pipeline_stage2 = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True, poly2mask=True),
    dict(type='RandomResize', scale=(640, 640), ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(640, 640), recompute_bbox=True, allow_negative_crop=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Pad', size=(640, 640), pad_val=dict(img=(114, 114, 114))),
    dict(type='PackDetInputs'),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    # Disabled: batches mix portrait and landscape images; all are cropped to one size.
    batch_sampler=None,
    dataset=dict(data_root=data_root, metainfo=person, pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=person))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=base_lr))
auto_scale_lr = dict(enable=False, base_batch_size=128)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, by_epoch=False, begin=0, end=1000),
    dict(
        type='CosineAnnealingLR',
        eta_min=base_lr * 0.05,
        begin=150,
        end=300,
        T_max=150,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(
    checkpoint=dict(interval=1, max_keep_ckpts=3, save_best='coco/segm_mAP', rule='greater')
)
custom_hooks = [
    dict(
        type='EMAHook',
        ema_type='ExpMomentumEMA',
        momentum=0.0002,
        update_buffers=True,
        priority=49,
    ),
    dict(type='PipelineSwitchHook', switch_epoch=280, switch_pipeline=train_pipeline_stage2),
]
