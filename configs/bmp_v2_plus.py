# BMPv2+: bmp_v2, then a second pose inside the final mask and a second mask from that pose.
#   python tools/run_bmp.py img.jpg --config bmp_v2_plus
# People under 100 px (longer box side) keep their first pose and mask: the paper finds mask
# refinement unsuitable for them. The reference describes this pass but does not ship it.
_base_ = 'bmp_v2.py'
loop = dict(refine=True, refine_min_side=100)
