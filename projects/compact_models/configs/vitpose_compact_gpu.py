# vitpose_compact_boxes.py for a GPU: large batches, cut and augmented by worker processes (about
# 110 crops a second and process), bfloat16 as in all these trainings.
# `train_dataloader.num_workers`: one less than there are processor cores.
_base_ = ['vitpose_compact_boxes.py']

work_dir = 'work_dirs/pose_gpu'
load_from = 'vitpose_compact'

train_dataloader = dict(batch_size=128, num_workers=15, persistent_workers=True)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = dict(val_interval=2000)
custom_hooks = [dict(_base_.custom_hooks[0], minutes=25), *_base_.custom_hooks[1:]]
