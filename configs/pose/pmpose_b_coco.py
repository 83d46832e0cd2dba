# PMPose-b on COCO alone: 17 keypoints, backbone frozen.
#
#   torchrun --nproc_per_node 8 tools/train.py configs/pose/pmpose_b_coco.py --amp bf16
_base_ = 'pmpose_b_coco_mpii_aic.py'


model = dict(head=dict(out_channels=17))

coco = dict(
    type='CocoDataset',
    data_root=_base_.data_root + 'coco/',
    data_mode='topdown',
    ann_file='annotations/person_keypoints_train2017.json',
    data_prefix=dict(img='train2017/'),
    pipeline=[
        _base_.train_pipeline[0],
        dict(type='KeepVisibilityLevels'),
        *_base_.train_pipeline[1:],
    ],
)
train_dataloader = dict(
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True),
    dataset=dict(_delete_=True, **coco),
)
coco_points = dict(_delete_=True, from_file='configs/_base_/datasets/coco.py')
val_dataloader = dict(dataset=dict(metainfo=coco_points))
test_dataloader = val_dataloader
val_evaluator = dict(pred_converter=None, gt_converter=None)
test_evaluator = val_evaluator
