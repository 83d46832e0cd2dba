# COCO, MPII and AI Challenger as one training set. Expects COCO-style files with masks in
# `segmentation`; crops of people without a mask are not dimmed.
train_sets = [
    dict(
        type='CocoDataset',
        data_root='data/coco/',
        ann_file='annotations/person_keypoints_train2017.json',
        data_prefix=dict(img='train2017/'),
    ),
    dict(
        type='CocoDataset',
        metainfo=dict(from_file='configs/_base_/datasets/mpii.py'),
        data_root='data/mpii/',
        ann_file='annotations/mpii_sam_train.json',
        data_prefix=dict(img='images/'),
    ),
    dict(
        type='AicDataset',
        data_root='data/aic/',
        ann_file='annotations/aic_sam_train.json',
        data_prefix=dict(img='ai_challenger_keypoint_train_20170902/keypoint_train_images/'),
    ),
]
