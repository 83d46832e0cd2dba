# bmp_v2 with PMPose-l.
#   python tools/run_bmp.py img.jpg --config bmp_v2_l
_base_ = 'bmp_v2.py'
pose = dict(config='models/pmpose_l.py', checkpoint='PMPose-l-1.0.0')
