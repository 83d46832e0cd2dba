"""What the markers of pyproject.toml do."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    gpu_items = [item for item in items if item.get_closest_marker('gpu')]
    if not gpu_items:
        return  # importing torch takes seconds
    import torch

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason='needs a CUDA device'))
