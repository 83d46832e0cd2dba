# The embedded compact models: small, trained from scratch by this project, no download needed.
#   python tools/run_bmp.py img.jpg
detector = dict(
    config='compact/rtmdet-ins_compact.py',
    checkpoint='rtmdet-ins_compact',
    score_threshold=0.2,
    # Average precision gains from detections between the two thresholds; loop.min_score would
    # drop nearly all of them, so a normal run does not compute them.
    eval_score_threshold=0.1,
    # Box refinement makes duplicate boxes nearly equal, and the pose NMS then drops one of them.
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
    # Masks are best when all people have the same size in the input.
    crop_segmentation=dict(image_size=192, margin=1.25),
    min_component_area=500,
    min_component_fraction=0.05,
    max_hole_area=500,
    # Mean IoU on held-out people: 0.50 with the three most visible keypoints, 0.58 with keypoints
    # that are far apart, 0.67 with the box too (projects/compact_models/LOG.md).
    prompt=dict(
        num_keypoints=3,
        method='distance+confidence',
        visibility_threshold=0.5,
        presence_threshold=0.5,
        use_box=True,
    ),
)
# The score weights the competition for pixels, so false positives take fewer pixels from people.
# The refined boxes of the detector are better than boxes around masks this rough. Most detections
# below min_score are false positives.
loop = dict(
    max_rounds=2,
    max_covered_fraction=0.5,
    resolve_overlaps='scored_logits',
    boxes='detector',
    # root: the geometric mean, because a product of three high scores is still low.
    score=dict(pose=1.5, later_rounds=0.5, root=3.5),
    # A small model has few confident keypoints, and its poses of one person differ more.
    pose_nms=dict(max_oks=0.6, confidence_threshold=0.2),
    refine_keypoints='highest_score',
    refine_masks='highest_score',
    min_score=0.42,
)
runtime = dict(
    device='auto',
    precision='fp32',
    note='bmp_compact: small embedded models. For published accuracy: --config bmp_v2 with the '
    'released weights (see the README).',
)
