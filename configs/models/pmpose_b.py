# PMPose-b 1.0.0 as released: MaskPose-b with a head that also predicts presence, visibility and
# OKS of every keypoint. 23 keypoints, the first 17 are COCO's.
_base_ = 'maskpose_b.py'

custom_imports = dict(
    imports=[
        'mmpose.engine.optim_wrappers.layer_decay_optim_wrapper',
        'pipeline.poses.mask_background',
        'pipeline.poses.oks_heatmap',
        'pipeline.poses.oks_losses',
        'pipeline.poses.pmpose_head',
        'pipeline.poses.train_transforms',
    ],
)

# 'expected_oks' is the decoding of the paper, 'argmax' the released one.
_oks_codec = dict(
    type='OKSArgMaxHeatmap',
    input_size=(192, 256),
    heatmap_size=(48, 64),
    decode='argmax',
)
codec = dict(_delete_=True, **_oks_codec)

model = dict(
    # All 12 layers: the backbone of MaskPose is frozen.
    backbone=dict(frozen_stages=12),
    head=dict(
        _delete_=True,
        type='PMPoseHead',
        in_channels=768,
        out_channels=23,
        deconv_out_channels=(256, 256),
        loss=dict(type='OKSHeatmapLoss', use_target_weight=True, smoothing_weight=0.05),
        decoder=_oks_codec,
    ),
)

# Training as published, but with targets for 23 keypoints (the released ones fail there) and
# COCO's OKS (projects/reference_parity has the released losses). Start from
# MaskPose-b (load_from).
train_pipeline = [
    *_base_.train_pipeline[:6],
    dict(type='RandomEdgesBlackout', prob=0.2, ratio=(0.1, 0.3), context=1.5),
    _base_.train_pipeline[6],
    dict(type='RandomPatchesBlackout', prob=0.1, grid=(8, 6), ratio=0.2),
    dict(type='GenerateTarget', encoder=_oks_codec),
    dict(type='PackPoseInputs', pack_transformed=True),
]
train_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(data, pipeline=[dict(type='KeepVisibilityLevels'), *data['pipeline']])
            for data in _base_.train_sets
        ],
        pipeline=train_pipeline,
    ),
)
train_cfg = dict(val_interval=1)
del _oks_codec
