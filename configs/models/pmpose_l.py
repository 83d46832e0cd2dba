# PMPose-l 1.0.0 as released: ViT-L. See pmpose_b.py.
_base_ = 'pmpose_b.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.5, frozen_stages=24),
    head=dict(in_channels=1024),
)
optim_wrapper = dict(paramwise_cfg=dict(num_layers=24, layer_decay_rate=0.8))
