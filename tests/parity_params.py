"""Parameter counts of the pose configs against published ones: python -m tests.parity --params."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.openmmlab import read_model_config, scope_of

MODELS = Path(__file__).parents[1] / 'configs' / 'models'

# Millions. ViTPose (arXiv 2204.12484, table of model sizes), classic head included, rounded there.
VITPOSE = {'s': 24, 'b': 90, 'l': 308, 'h': 637}
# The four branches beside the heat maps in the reference's PMPose (computed from its layers): ours
# lacks one of four, the error branch.
RELEASED_BRANCHES = {'s': 16.0, 'b': 63.8, 'l': 113.4, 'h': 177.1}
HEATMAP_BRANCH_B = 4.2

CONFIGS = {
    'vitpose_b_multi': 'b',
    'maskpose_b_1.0.0': 'b',
    **{f'maskpose_{size}': size for size in VITPOSE},
    **{f'pmpose_{size}': size for size in VITPOSE},
}


@dataclass(frozen=True)
class Counts:
    """Parameters of one model, in millions."""

    backbone: float
    heatmap_branch: float
    branches: float  # presence, visibility, OKS; 0 for models without

    @property
    def total(self) -> float:
        return self.backbone + self.heatmap_branch + self.branches

    @property
    def classic(self) -> float:
        """What ViTPose counts: backbone and heat maps."""
        return self.backbone + self.heatmap_branch

    @property
    def released_branches(self) -> float:
        """With the error branch, which is as large as each of the others."""
        return self.branches * 4 / 3


@functools.cache
def read(name: str) -> Any:
    """A shipped config."""
    return read_model_config(str(MODELS / f'{name}.py'), 'mmpose')


def count(name: str) -> Counts:
    """Parameters of a shipped config; nothing is allocated."""
    from mmpose.registry import MODELS as REGISTRY

    with scope_of('mmpose'), torch.device('meta'):
        model = REGISTRY.build(read(name).model)

    def millions(*parts: Any) -> float:
        return sum(p.numel() for part in parts for p in part.parameters()) / 1e6

    heatmaps = millions(model.head.deconv_layers, model.head.final_layer)
    return Counts(millions(model.backbone), heatmaps, millions(model.head) - heatmaps)


def problems(name: str, counts: Counts) -> list[str]:
    """Where counts differ from the published ones."""
    size = CONFIGS[name]
    branches = RELEASED_BRANCHES[size] if name.startswith('pmpose') else 0.0
    expected = [
        ('backbone and heat maps', counts.classic, VITPOSE[size], 1.0),
        ('four branches', counts.released_branches, branches, 0.05),
    ]
    if size == 'b':
        expected.append(('heat-map branch', counts.heatmap_branch, HEATMAP_BRANCH_B, 0.05))
    return [
        f'{what}: {ours:.2f} M, published {theirs} M'
        for what, ours, theirs, tolerance in expected
        if abs(ours - theirs) >= tolerance
    ]


def show_counts() -> int:
    """Print the table; the number of models whose counts differ."""
    from rich.console import Console
    from rich.table import Table

    columns = ('total', 'ViT + heat maps', 'published', '3 branches', '+ error branch', 'published')
    table = Table('config', *columns, 'ok', title='Parameters in millions')
    wrong = 0
    for name, size in CONFIGS.items():
        c = count(name)
        bad = problems(name, c)
        wrong += bool(bad)
        branches = [f'{c.branches:.1f}', f'{c.released_branches:.1f}', f'{RELEASED_BRANCHES[size]}']
        table.add_row(
            f'models/{name}.py', f'{c.total:.2f}', f'{c.classic:.2f}', str(VITPOSE[size]),
            *(branches if c.branches else ['-'] * 3), ', '.join(bad) or 'yes',
        )  # fmt: skip
    Console(width=None if os.isatty(1) else 120).print(table)
    return wrong
