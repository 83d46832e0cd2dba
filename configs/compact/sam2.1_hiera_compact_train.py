# python tools/train_sam.py configs/compact/sam2.1_hiera_compact_train.py [--resume]
# The training photos lie in work_dirs/sam/data: annotations.json, images/, backgrounds/.
model_config = 'configs/compact/sam2.1_hiera_compact.yaml'
annotations = 'work_dirs/sam/data/annotations.json'
backgrounds = 'work_dirs/sam/data/backgrounds'
work_dir = 'work_dirs/sam'
budget_minutes = 50.0
evaluate_minutes = 10.0
phases = [(128, 0.55), (192, 0.75), (256, 0.9), (384, 1.0)]
images_per_step = [6, 4, 4, 2]
prompts_per_image = 3
max_corrections = 1
correction_prob = 0.6
draw_prompts = True
multimask_prob = 0.15
learning_rate = 1e-3
min_lr_share = 0.02
warmup_steps = 100
weight_decay = 0.05
dense_weight = 0.5
dense_share = 0.15
dense_images = 16
embedding_penalty = 0.0
ema_decay = 0.998
seed = 0
losses = dict(focal=10.0, dice=2.0, focal_alpha=0.5)
augment = dict(paste_prob=0.7)
