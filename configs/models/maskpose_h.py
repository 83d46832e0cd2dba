# MaskPose-h 1.1.0 as released: ViT-H, trained with 32 crops per GPU. See maskpose_b.py.
_base_ = 'maskpose_b.py'

model = dict(backbone=dict(arch='huge', drop_path_rate=0.55), head=dict(in_channels=1280))
optim_wrapper = dict(
    optimizer=dict(lr=2.5e-4), paramwise_cfg=dict(num_layers=32, layer_decay_rate=0.85)
)
train_dataloader = dict(batch_size=32, sampler=dict(batch_size=32))
