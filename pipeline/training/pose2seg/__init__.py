"""PoseMaskRefine: fine-tuning of SAM 2.1 on poses with MMEngine's Runner.

In a config: ``custom_imports = dict(imports=['pipeline.training.pose2seg.parts'])``.
"""
