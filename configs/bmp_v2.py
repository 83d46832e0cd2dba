# BBoxMaskPose v2 as published: RTMDet-Ins-L-mask, PMPose-b, SAM-pose2seg B+ (released weights).
#   python tools/run_bmp.py img.jpg --config bmp_v2
# Values of the reference's `bmp_v2.yaml` and constants of its `api.py`. Deliberate differences
# (pose NMS, colours, exclusive masks, boxes) and their switches: docs/method.md.
detector = dict(
    config='models/rtmdet-ins_l_mask.py',
    checkpoint='rtmdet-ins-l-mask',
    score_threshold=0.3,
    max_iou=0.3,
)
pose = dict(
    config='models/pmpose_b.py',
    checkpoint='PMPose-b-1.0.0',
    keypoints='coco17',  # as in the reference; 'all' adds those of MPII and AI Challenger
)
segmenter = dict(
    config='sam2.1_hiera_b+',
    checkpoint='SAM-pose2seg_hiera_b+',
    # `confidence_thr` of the reference filters no keypoint: a person needs one above it
    # (min_confident), and the pose NMS counts those above it.
    prompt=dict(
        num_keypoints=3, method='k_most_visible', visibility_threshold=0.5, min_confident=0.5
    ),
)
loop = dict(
    max_rounds=2,
    pose_nms=dict(max_oks=0.8, confidence_threshold=0.5),
)
# On a CPU less than half of the memory beside the models (docs/benchmarks.md).
runtime = dict(device='auto', precision='fp32', freed_memory='give_back')
