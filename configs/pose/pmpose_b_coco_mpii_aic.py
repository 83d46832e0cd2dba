# PMPose-b on COCO, MPII and AI Challenger: MaskPose-b with a head that also predicts presence,
# visibility and OKS of each of the 23 keypoints. The backbone of MaskPose is frozen.
#
#   torchrun --nproc_per_node 8 tools/train.py configs/pose/pmpose_b_coco_mpii_aic.py --amp bf16
#
# load_from: a file (best_coco_AP_*.pth) or a name of checkpoints/. Other sizes: copy
# this file, write ../models/pmpose_s.py (l, h) below.
_base_ = '../models/pmpose_b.py'

custom_imports = dict(
    imports=['pipeline.registry'],
    allow_failed_imports=False,
)

data_root = '{{$BMP_DATA:data}}/'
load_from = 'MaskPose-b-1.1.0'

model = dict(
    type='FreezableTopdownPoseEstimator',
    freeze_backbone=True,
    # Weights come from load_from; freezing by layers would keep drop path on.
    backbone=dict(init_cfg=None, frozen_stages=-1),
)

# How often a crop comes from each dataset; see maskpose_b_coco_mpii_aic.py.
source_ratio = [149813, 22246, 378352]
train_sets = [
    dict(
        dataset,
        data_root=data_root + folder,
        # COCO's flags 1 and 2 train the visibility branch.
        pipeline=[dict(type='KeepVisibilityLevels'), *dataset['pipeline']],
    )
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

optim_wrapper = dict(
    constructor='LayerDecayConstructor',
    paramwise_cfg=dict(custom_keys=dict(_delete_=True, pos_embed=dict(decay_mult=0.0))),
)
default_hooks = dict(
    checkpoint=dict(interval=1, max_keep_ckpts=3, save_best='coco/AP', rule='greater')
)
