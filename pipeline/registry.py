"""The classes of this project in the registries of MMEngine, MMPose and MMDetection.

Importing this module registers all of them, in any order of imports. A config asks for it by::

    custom_imports = dict(imports=['pipeline.registry'], allow_failed_imports=False)

``imports=['pipeline']`` does the same when MMEngine was imported before ``pipeline``, the usual
order of a program of MMPose or MMDetection. A program that imports ``pipeline`` first must name
``pipeline.registry``, or the modules below that it needs: ``import pipeline`` alone registers
nothing, because it must stay cheap. `load_pipeline` registers what inference needs.
"""

from __future__ import annotations

from importlib import import_module

# One line for each module with a `register_module`.
MODULES = (
    'pipeline.datasets.transforms',
    'pipeline.detectors.compact_masks',
    'pipeline.detectors.rtmdet_ins_partial',
    'pipeline.evaluation.mmdet_metric',
    'pipeline.evaluation.mmpose_metric',
    'pipeline.poses.conv_stem_vit',
    'pipeline.poses.freezable_estimator',
    'pipeline.poses.load_person_mask',
    'pipeline.poses.mask_background',
    'pipeline.poses.oks_heatmap',
    'pipeline.poses.oks_losses',
    'pipeline.poses.pmpose_box_head',
    'pipeline.poses.pmpose_head',
    'pipeline.poses.pmpose_losses',
    'pipeline.poses.train_transforms',
    'pipeline.training.bf16_optim_wrapper',
    'pipeline.training.layer_decay',
    'pipeline.training.pose2seg.dataset',
    'pipeline.training.pose2seg.export',
    'pipeline.training.pose2seg.metric',
    'pipeline.training.pose2seg.model',
    'pipeline.training.pose2seg.optimizer',
    'pipeline.training.pose2seg.transforms',
    'pipeline.training.resumable_loops',
    'pipeline.training.train_runner',
)

for _name in MODULES:
    import_module(_name)
