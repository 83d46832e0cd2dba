# The embedded compact models: small, trained from scratch by this project, need no download.
#   python tools/run_bmp.py img.jpg
detector = dict(
    config='compact/rtmdet-ins_compact.py',
    checkpoint='rtmdet-ins_compact',
    score_threshold=0.3,
    max_iou=0.5,
)
pose = dict(
    config='compact/vitpose_compact.py',
    checkpoint='vitpose_compact',
    batch_size=32,
)
segmenter = dict(
    config='compact/sam2.1_hiera_compact.yaml',
    checkpoint='sam2.1_hiera_compact',
    batch_size=16,
    draw_prompts=True,
    prompt=dict(num_keypoints=3, method='k_most_visible', visibility_threshold=0.5),
)
loop = dict(max_rounds=2)
runtime = dict(
    device='auto',
    precision='fp32',
    note='bmp_compact: small embedded models. For published accuracy: --config bmp_v2 with the '
    'released weights (see the README).',
)
