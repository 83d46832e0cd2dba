# bmp_v2 with plain ViTPose-b, which gets no masks: the baseline without mask conditioning.
#   python tools/run_bmp.py img.jpg --config bmp_vitpose
# It has no visibility branch; the most visible keypoints are those with the highest heatmap peaks.
_base_ = 'bmp_v2.py'
pose = dict(
    config='models/vitpose_b_multi.py', checkpoint='ViTPose-b-multi', mask_conditioning=False
)
