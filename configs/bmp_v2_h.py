# bmp_v2 with PMPose-h.
#   python tools/run_bmp.py img.jpg --config bmp_v2_h
_base_ = 'bmp_v2.py'
pose = dict(config='models/pmpose_h.py', checkpoint='PMPose-h-1.0.0')
