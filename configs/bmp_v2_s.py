# bmp_v2 with PMPose-s.
#   python tools/run_bmp.py img.jpg --config bmp_v2_s
_base_ = 'bmp_v2.py'
pose = dict(config='models/pmpose_s.py', checkpoint='PMPose-s-1.0.0')
