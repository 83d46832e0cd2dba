# sam2.1_cspnext_compact_stage2.py for a GPU: more images a step, read and augmented by worker
# processes. `train_dataloader.num_workers`: one less than there are processor cores.
_base_ = ['sam2.1_cspnext_compact_stage2.py']

work_dir = 'work_dirs/sam_gpu'

train_dataloader = dict(batch_size=24, num_workers=15, persistent_workers=True)
optim_wrapper = dict(optimizer=dict(lr=8e-4))
train_cfg = dict(val_interval=1000)
custom_hooks = [dict(_base_.custom_hooks[0], minutes=25), *_base_.custom_hooks[1:]]
