"""Make the short recordings in data/ from the complete ones.

Example:
    python -m projects.reference_parity.shorten DIR
"""

from __future__ import annotations

import argparse
import fnmatch
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import recordings

WHOLE = ('keypoint_selection', 'loop_trace*', 'mask_ops', 'pose_nms', 'oks_target_maps')
ONLY_FACTS = ('oks_losses', 'pmpose_full')
WEIGHTS = ('maskpose21_full', 'multihead_loss')
# Arrays that are left out, by file: large, and compared in other files or in other forms as well.
DROPPED = {
    'losses': ('output', 'target', 'weights', 'oksloss_*'),
    'mask_background': (),
    'maskpose21_full': ('input_norm_0', 'flip_heatmaps', 'flip_feat_of_flipped_input'),
    'multihead_loss': ('okst_*',),
    'pmpose_head': (
        'feat*', 'logits*', 'htm_*', '*_raw', '*_scores', '*_probs', '*_visible', '*_oks',
        '*_error',
    ),
    'rtmdet_ins': ('*_stride32', 'mask_feat_stats', 'image_bgr'),
}  # fmt: skip
NUM_DIMMED, NUM_PEOPLE = 2, 2


def main(argv: Sequence[str] | None = None) -> None:
    """Write data/ anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('complete', type=Path, metavar='DIR')
    recordings.read_from(parser.parse_args(argv).complete)
    recordings.DATA.mkdir(exist_ok=True)
    for path in sorted(recordings.folder.iterdir()):
        if any(fnmatch.fnmatch(path.stem, name) for name in WHOLE):
            shutil.copyfile(path, recordings.DATA / path.name)
        elif path.suffix == '.json' and path.stem in (*DROPPED, *ONLY_FACTS):
            shutil.copyfile(path, recordings.DATA / path.name)
    for name, patterns in DROPPED.items():
        arrays, _ = recordings.load(name)
        kept = {
            key: _shortened(name, key, value)
            for key, value in arrays.items()
            if not any(fnmatch.fnmatch(key, pattern) for pattern in patterns)
        }
        _write(name, kept)
    for name in WEIGHTS:
        _write(name + recordings.WEIGHTS, _parameters(name))


def _shortened(name: str, key: str, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if name == 'mask_background' and key.startswith('out_alpha'):
        return value[:NUM_DIMMED]
    people = len(recordings.load(name)[0]['boxes_xyxy']) if name == 'maskpose21_full' else None
    return value[:NUM_PEOPLE] if value.shape[:1] == (people,) else value


def _parameters(name: str) -> dict[str, npt.NDArray[Any]]:
    state: Any = recordings.state_of(name)
    state = state.get('state_dict', state)
    return {k: v.numpy() for k, v in state.items() if 'error_layers' not in k}


def _write(name: str, arrays: dict[str, npt.NDArray[Any]]) -> None:
    np.savez_compressed(recordings.DATA / f'{name}.npz', **arrays)  # type: ignore[arg-type]


if __name__ == '__main__':
    main()
