# MaskPose-b on COCO, MPII and AI Challenger: 23 keypoints, dimmed backgrounds, masks corrupted to
# resemble those of a detector. Starts from ViTPose-b; 210 epochs of 8 x 128 crops.
#
#   python tools/train.py configs/pose/maskpose_b_coco_mpii_aic.py --check
#   torchrun --nproc_per_node 8 tools/train.py configs/pose/maskpose_b_coco_mpii_aic.py --amp bf16
#
# Other sizes: copy this file, write ../models/maskpose_s.py (l, h) below, and its weights.
_base_ = '../models/maskpose_b.py'

custom_imports = dict(
    imports=['pipeline.registry'],
    allow_failed_imports=False,
)

data_root = '{{$BMP_DATA:data}}/'
load_from = 'vitpose-b'

model = dict(
    type='FreezableTopdownPoseEstimator',
    freeze_backbone=False,
    # Weights come from load_from.
    backbone=dict(init_cfg=None),
)

# How often a crop comes from each dataset. Here by their sizes, as published; [1, 1, 1] draws them
# equally often.
source_ratio = [149813, 22246, 378352]
train_sets = [
    dict(dataset, data_root=data_root + folder)
    for dataset, folder in zip(_base_.train_sets, ('coco/', 'mpii/', 'aic/'), strict=True)
]
train_dataloader = dict(
    num_workers=8,
    sampler=dict(source_ratio=source_ratio),
    dataset=dict(datasets=train_sets),
)
val_dataloader = dict(dataset=dict(data_root=data_root + 'coco/'))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'coco/annotations/person_keypoints_val2017.json')
test_evaluator = val_evaluator

# The constructor disables weight decay for biases and norms. MMPose's constructor ignores
# custom_keys.
optim_wrapper = dict(
    constructor='LayerDecayConstructor',
    paramwise_cfg=dict(custom_keys=dict(_delete_=True, pos_embed=dict(decay_mult=0.0))),
)
default_hooks = dict(
    checkpoint=dict(interval=1, max_keep_ckpts=3, save_best='coco/AP', rule='greater')
)
