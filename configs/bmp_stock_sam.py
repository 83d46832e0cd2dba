# bmp_v2 with stock SAM 2.1 B+ in place of SAM-pose2seg, prompted in the same way.
#   python tools/run_bmp.py img.jpg --config bmp_stock_sam
# Other sizes: --cfg-options segmenter.config=sam2.1_hiera_l segmenter.checkpoint=sam2.1_hiera_large
# (t: tiny, s: small). The prompts that v1 chose for stock SAM are those of bmp_v1.
_base_ = 'bmp_v2.py'
segmenter = dict(config='sam2.1_hiera_b+', checkpoint='sam2.1_hiera_base_plus')
