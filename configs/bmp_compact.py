# The embedded compact models: small, trained from scratch by this project, need no download.
#   python tools/run_bmp.py img.jpg
detector = dict(
    config='compact/rtmdet-ins_compact.py',
    checkpoint='rtmdet-ins_compact',
    score_threshold=0.2,
    # Of those between the two loop.min_score would report next to nobody, but they cost time.
    eval_score_threshold=0.1,
    # Two boxes of one person become alike in the second look, and one goes with its pose.
    max_iou=0.5,
)
pose = dict(
    config='compact/vitpose_compact.py',
    checkpoint='vitpose_compact',
    batch_size=32,
    # The pose model refines the rough boxes of a detector this small.
    refine_boxes=True,
    # The detector's masks are too rough for background dimming: boxes and poses get worse.
    mask_conditioning=False,
)
segmenter = dict(
    config='compact/sam2.1_cspnext_compact.yaml',
    checkpoint='sam2.1_cspnext_compact',
    batch_size=16,
    mask_prompt_from_keypoints=True,
    prompt_with_mask_box=True,
    # It sees people best when all are equally large (projects/compact_models/LOG.md).
    crop_segmentation=dict(image_size=192, margin=1.25),
    min_component_area=500,
    min_component_fraction=0.05,
    max_hole_area=500,
    # Keypoints far from each other and the box steady a segmenter this small: held-out people, mean
    # IoU 0.50 with the three most visible keypoints, 0.58 with spread ones, 0.67 with the box as
    # well (projects/compact_models/LOG.md).
    prompt=dict(
        num_keypoints=3,
        method='distance+confidence',
        visibility_threshold=0.5,
        presence_threshold=0.5,
        use_box=True,
    ),
)
# Disputed pixels go by score as well, else doubtful people take them from others. Boxes of the
# detector, moved by the pose model: those around masks this rough are worse. Most of what scores
# lower than min_score is nobody (projects/compact_models/LOG.md).
loop = dict(
    max_rounds=2,
    max_covered_fraction=0.5,
    resolve_overlaps='scored_logits',
    boxes='detector',
    # The geometric mean: a product of three scores looks doubtful where nobody doubts.
    score=dict(pose=1.5, later_rounds=0.5, root=3.5),
    # Few keypoints of a small model are sure ones, and two looks at one person differ more.
    pose_nms=dict(max_oks=0.6, confidence_threshold=0.2),
    refine_keypoints='highest_score',
    refine_masks='highest_score',
    min_score=0.41,
)
runtime = dict(
    device='auto',
    precision='fp32',
    note='bmp_compact: small embedded models. For published accuracy: --config bmp_v2 with the '
    'released weights (see the README).',
)
