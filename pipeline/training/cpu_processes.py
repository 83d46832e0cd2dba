"""Training in several processes without a GPU: MMEngine and MMDetection take one for granted."""

from __future__ import annotations

from typing import Any


def join_processes_on_cpu(config: Any, scope: str) -> None:
    """Joins the processes that torchrun started, and changes the config so that training runs.

    Args:
        config: changed in place.
        scope: library whose names the config uses.
    """
    import torch

    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    wrapper = {
        'type': 'MMDistributedDataParallel',
        'device_ids': None,
        'broadcast_buffers': False,
        'find_unused_parameters': config.get('find_unused_parameters', False),
    }
    config.model_wrapper_cfg = {**wrapper, **(config.get('model_wrapper_cfg') or {})}
    if scope == 'mmdet':
        _without_sync_batch_norm(config.model)


def _without_sync_batch_norm(model: Any) -> None:
    """RTMDet puts SyncBatchNorm, which exists on GPUs alone, into itself if not told otherwise."""
    from mmdet.models.detectors import RTMDet
    from mmdet.registry import MODELS

    kind = MODELS.get(model.type)
    if isinstance(kind, type) and issubclass(kind, RTMDet):
        model.use_syncbn = False
