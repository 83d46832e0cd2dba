# Common part of the trainings: a run is bounded by time (TimeBudgetHook), not by `max_iters`.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=100000, val_interval=1000)
checkpoint_hook = dict(
    type='CheckpointHook', by_epoch=False, interval=250, max_keep_ckpts=2, rule='greater'
)
randomness = dict(seed=0)
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=1))
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False, num_digits=4)
