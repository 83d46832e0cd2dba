"""The recorded numbers of the reference: those of this project, or a folder with all of them.

`data/` holds the short recordings: fewer people, no large maps, one small network. Its parameters
are seeded random numbers. `shorten.py` made them from the complete recordings.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

DATA = Path(__file__).parent / 'data'
WEIGHTS = '.weights'  # before the suffix of a file with the parameters of a network
folder = Path(os.environ.get('BMP_FIXTURES', DATA))


def read_from(path: Path) -> None:
    """From now on read the recordings of another folder."""
    global folder
    folder = path


def has(file: str) -> bool:
    """Whether the folder has this file."""
    return (folder / file).exists()


def load(name: str) -> tuple[dict[str, npt.NDArray[Any]], Any]:
    """Arrays of ``name``.npz and content of ``name``.json (None without that file)."""
    return dict(np.load(folder / f'{name}.npz')), facts(name) if has(f'{name}.json') else None


def facts(name: str) -> Any:
    """Content of ``name``.json."""
    return json.loads((folder / f'{name}.json').read_text())


def state_of(name: str) -> dict[str, torch.Tensor]:
    """Parameters of a bare head."""
    if has(f'{name}.pth'):
        state: dict[str, torch.Tensor] = torch.load(folder / f'{name}.pth', weights_only=True)
        return state
    return {k: torch.from_numpy(v) for k, v in load(name + WEIGHTS)[0].items()}


def checkpoint(name: str, scratch: Path) -> Path:
    """File of a whole model; one that has to be made goes to the folder ``scratch``."""
    if has(f'{name}.pth'):
        return folder / f'{name}.pth'
    meta = {'dataset_meta': facts(name)['dataset_meta']}
    torch.save({'state_dict': state_of(name), 'meta': meta}, scratch / f'{name}.pth')
    return scratch / f'{name}.pth'
