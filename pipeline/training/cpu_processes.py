"""Training in several processes without a GPU, which MMEngine and MMDetection assume."""

from __future__ import annotations

from typing import Any


def join_processes_on_cpu(config: Any, scope: str) -> None:
    """Join the processes that torchrun started, and adapt the config to a CPU.

    Args:
        config: Changed in place.
        scope: Library of its type names.
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
    """Disable SyncBatchNorm, which RTMDet uses by default and which needs a GPU."""
    from mmdet.models.detectors import RTMDet
    from mmdet.registry import MODELS

    kind = MODELS.get(model.type)
    if isinstance(kind, type) and issubclass(kind, RTMDet):
        model.use_syncbn = False
