# A further stage of the compact SAM 2.1: as sam2.1_cspnext_compact_crops.py, and people without an
# annotated mask have the one that the shipped model finds (find_pseudo_masks.py), where that can be
# trusted. The shipped model is without it (LOG.md, Trials).
_base_ = ['sam2.1_cspnext_compact_crops.py']

custom_imports = dict(
    imports=[*_base_.custom_imports.imports, 'projects.compact_models.training.muon'],
    allow_failed_imports=False,
)

# An absolute path, or one inside COMPACT_SAM_DATA.
with_skeletons = dict(_base_.with_skeletons, ann_file='{{$COMPACT_PSEUDO_MASKS:pseudo_masks.json}}')
_repeated = _base_.train_dataloader.dataset.datasets[0]
train_dataloader = dict(dataset=dict(datasets=[_repeated, with_skeletons]))
# Muon learns more in as many steps than AdamW (LOG.md); it needs no bound on gradients.
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='MuonAdamW', lr=6e-4, weight_decay=0.05), clip_grad=None
)
