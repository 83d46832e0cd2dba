# PMPose-h 1.0.0 as released: ViT-H, trained with 64 crops per GPU. See pmpose_b.py.
_base_ = 'pmpose_b.py'

model = dict(
    backbone=dict(arch='huge', drop_path_rate=0.55, frozen_stages=32),
    head=dict(in_channels=1280),
)
optim_wrapper = dict(
    optimizer=dict(lr=5e-4), paramwise_cfg=dict(num_layers=32, layer_decay_rate=0.85)
)
train_dataloader = dict(batch_size=64, sampler=dict(batch_size=64))
