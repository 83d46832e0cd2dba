# PMPose-b 1.0.0 as released: ViTPose-B with presence, visibility and OKS branches, 23 keypoints
# (17 of COCO, 4 of MPII, 2 of AI Challenger), background dimmed by the detector's mask.
_base_ = (
    'mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_ViTPose-base_8xb64-210e_coco-256x192.py'
)

custom_imports = dict(
    imports=[
        'mmpose.engine.optim_wrappers.layer_decay_optim_wrapper',
        'pipeline',
    ],
    allow_failed_imports=False,
)

_codec = dict(type='UDPHeatmap', input_size=(192, 256), heatmap_size=(48, 64), sigma=2)

model = dict(
    head=dict(
        _delete_=True,
        type='PMPoseHead',
        in_channels=768,
        out_channels=23,
        decoder=_codec,
    ),
)

# Points 17-22 come after COCO's 17: name and mirrored point.
_names = [
    'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder', 'right_shoulder',
    'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist', 'left_hip', 'right_hip', 'left_knee',
    'right_knee', 'left_ankle', 'right_ankle', 'thorax_mpii', 'pelvis_mpii', 'neck_mpii',
    'head_top_mpii', 'neck_aic', 'head_top_aic',
]  # fmt: skip
_swap = {'left': 'right', 'right': 'left'}
_sides = [name.split('_', 1) for name in _names]
metainfo = dict(
    dataset_name='coco_mpii_aic_23',
    paper_info=dict(),
    keypoint_info={
        i: dict(
            name=name, id=i, color=[0, 128, 255], type='upper',
            swap=f'{_swap[side[0]]}_{side[1]}' if side[0] in _swap else '',
        )
        for i, (name, side) in enumerate(zip(_names, _sides, strict=True))
    },
    skeleton_info=dict(),
    joint_weights=[1.0] * 23,
    sigmas=[
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107,
        0.087, 0.087, 0.089, 0.089, 0.079, 0.107, 0.079, 0.079, 0.079, 0.079,
    ],
)  # fmt: skip

test_pipeline = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='MaskBackground', alpha=0.25, continue_on_failure=True),
    dict(type='TopdownAffine', input_size=_codec['input_size'], use_udp=True),
    dict(type='PackPoseInputs'),
]
test_dataloader = dict(dataset=dict(metainfo=metainfo, pipeline=test_pipeline))
val_dataloader = test_dataloader
# MMPose's `init_model` and inferencer take the facts about the keypoints from here when a
# checkpoint has none.
train_dataloader = dict(dataset=dict(metainfo=metainfo))
# COCO has the first 17 of the 23 points.
_coco = dict(num_keypoints=17, mapping=[(i, i) for i in range(17)])
test_evaluator = dict(pred_converter=_coco, gt_converter=_coco)
val_evaluator = test_evaluator
