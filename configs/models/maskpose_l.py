# MaskPose-l 1.1.0 as released: ViT-L. See maskpose_b.py.
_base_ = 'maskpose_b.py'

model = dict(backbone=dict(arch='large', drop_path_rate=0.5), head=dict(in_channels=1024))
optim_wrapper = dict(paramwise_cfg=dict(num_layers=24, layer_decay_rate=0.8))
