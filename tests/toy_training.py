"""A data set with random items and a model with dropout, for `default_scope = 'mmengine'`."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from torch import nn


@DATASETS.register_module()
class ToyData(BaseDataset):
    """Eight samples: a number with noise that is drawn anew each time."""

    def load_data_list(self) -> list[dict[str, Any]]:
        return [{'number': i} for i in range(8)]

    def prepare_data(self, idx: int) -> Any:
        return {'inputs': torch.rand(4) + self.get_data_info(idx)['number']}


@MODELS.register_module()
class ToyModel(BaseModel):
    """Two layers with dropout between; keeps what it saw.

    Args:
        dropout: share that is dropped.
    """

    def __init__(self, dropout: float, data_preprocessor: Any = None) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self.layers = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(dropout), nn.Linear(8, 1)
        )
        self.seen: list[Any] = []

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'loss') -> Any:
        batch = torch.stack(inputs)
        self.seen.append(batch.tolist())
        return {'loss': self.layers(batch).square().mean()}
