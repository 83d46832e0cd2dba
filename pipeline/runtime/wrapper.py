"""The base of modules that run another module in another way."""

from __future__ import annotations

from typing import Any

from torch import nn


class Wrapper(nn.Module):
    """A module that stands for another one."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__('module'), name)
