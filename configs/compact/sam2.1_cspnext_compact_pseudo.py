# A further stage of the compact SAM 2.1: as sam2.1_cspnext_compact_crops.py, and people without an
# annotated mask have the one that the shipped model finds, where that can be trusted. The shipped
# model is without it (docs/compact.md, Trials).
#   python tools/find_pseudo_masks.py DATA work_dirs/pseudo_masks.json
#   COMPACT_PSEUDO_MASKS=$PWD/work_dirs/pseudo_masks.json \
#       python tools/train.py configs/compact/sam2.1_cspnext_compact_pseudo.py --threads 1
_base_ = ['sam2.1_cspnext_compact_crops.py']

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'pipeline.training.muon'],
    allow_failed_imports=False,
)

# An absolute path, or one inside COMPACT_SAM_DATA.
with_skeletons = dict(_base_.with_skeletons, ann_file='{{$COMPACT_PSEUDO_MASKS:pseudo_masks.json}}')
_repeated = _base_.train_dataloader.dataset.datasets[0]
train_dataloader = dict(dataset=dict(datasets=[_repeated, with_skeletons]))
# Muon learns more in as many steps than AdamW (docs/compact.md); it needs no bound on gradients.
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='MuonAdamW', lr=6e-4, weight_decay=0.05), clip_grad=None
)
