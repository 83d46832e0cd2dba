# bmp_v2 with MaskPose-b 1.1.0: the plain ViTPose network, the detector's mask dims the background.
#   python tools/run_bmp.py img.jpg --config bmp_maskpose
# It has no visibility branch; the most visible keypoints are those with the highest heatmap peaks.
_base_ = 'bmp_v2.py'
pose = dict(config='models/maskpose_b.py', checkpoint='MaskPose-b-1.1.0')
