# PMPose-s 1.0.0 as released: the ViT-S of ViTPose, with 12 heads. See pmpose_b.py.
_base_ = 'pmpose_b.py'

model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=384,
            num_layers=12,
            num_heads=12,
            feedforward_channels=4 * 384,
        ),
        drop_path_rate=0.1,
    ),
    head=dict(in_channels=384),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
