# Your own models in the loop: any MMDetection detector, any MMPose top-down model, any SAM 2.1.
#   python tools/run_bmp.py img.jpg --config bmp_custom_example
# A template for your own config, which may be in any folder:
#   _base_ = __import__('pipeline').locate_file('configs/bmp_custom_example.py')
#
# `config`: a name of the library (`mmdet::...`, `mmpose::...`; of the sam2 package for SAM) or a
#   file: absolute, beside this one, or in configs/. The files may use `custom_imports`.
# `checkpoint`: a name in checkpoints/manifest.json or a file (absolute, beside the config, or from
#   the working directory); None: random weights.
# The detector's first class must be a person, masks are optional. The pose model may have any
# keypoints. All weights named here are Apache-2.0.
detector = dict(
    config='mmdet::rtmdet/rtmdet-ins_m_8xb32-300e_coco.py',
    checkpoint='rtmdet-ins_m_coco',
    score_threshold=0.3,
    max_iou=0.3,
)
pose = dict(
    config='mmpose::body_2d_keypoint/topdown_heatmap/coco/'
    'td-hm_ViTPose-base_8xb64-210e_coco-256x192.py',
    checkpoint='vitpose-b',
)
segmenter = dict(
    config='sam2.1_hiera_s',
    checkpoint='sam2.1_hiera_small',
    # A model without a visibility branch reports its keypoint scores as visibility.
    prompt=dict(num_keypoints=3, method='k_most_visible', visibility_threshold=0.5),
)
loop = dict(max_rounds=2, pose_nms=dict(max_oks=0.8, confidence_threshold=0.5))
runtime = dict(device='auto', precision='fp32')
