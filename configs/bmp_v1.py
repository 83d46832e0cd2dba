# BBoxMaskPose v1 (ICCV 2025): MaskPose-b and stock SAM 2.1 B+, prompted as in its setting "D3".
#   python tools/run_bmp.py img.jpg --config bmp_v1
# Loop and prompts are those of `bmp_D3.yaml`. That file names PMPose-b, which is younger than v1;
# v1 was published with MaskPose-b, whose keypoint scores (heatmap peaks) the thresholds of 0.3
# belong to: those PMPose predicts are lower. The YAML to the letter:
#   --cfg-options pose.config=models/pmpose_b.py pose.checkpoint=PMPose-b-1.0.0
_base_ = 'bmp_v2.py'
pose = dict(config='models/maskpose_b_1.0.0.py', checkpoint='MaskPose-b-1.0.0')
segmenter = dict(
    config='sam2.1_hiera_b+',
    checkpoint='sam2.1_hiera_base_plus',
    prompt=dict(
        num_keypoints=6, method='distance+confidence', visibility_threshold=0.3, min_confident=0.3
    ),
)
loop = dict(pose_nms=dict(confidence_threshold=0.3))
