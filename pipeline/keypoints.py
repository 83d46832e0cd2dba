"""Keypoint sets, and COCO's 17 keypoints: names, swaps, sigmas and bones.

Names, swaps and skeleton are those of the COCO person-keypoint categories; sigmas are those of
pycocotools ``Params.setKpParams``. Other keypoint sets: `pipeline.keypoint_sets`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

_T = TypeVar('_T', bound=np.generic)

COCO_NAMES = (
    'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear',
    'left_shoulder', 'right_shoulder', 'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist',
    'left_hip', 'right_hip', 'left_knee', 'right_knee', 'left_ankle', 'right_ankle',
)  # fmt: skip
NUM_COCO = len(COCO_NAMES)
PERSON = 1  # category id of a person in COCO

# Index of the mirrored keypoint.
COCO_FLIP = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)

COCO_SIGMAS = (
    np.array(
        [0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72,
         0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89], np.float64,
    ) / 10
)  # fmt: skip

# Area of a person without a mask, in areas of the box, as in MMPose and in the evaluation code of
# CrowdPose.
AREA_OF_BOX = 0.53

# Bones as pairs of keypoint indices, from 0.
COCO_SKELETON = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
    (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip

# Nose and eyes: the loop of BMP v1 keeps only one of them as a prompt.
FACE = (0, 1, 2)

_OTHER_SIDE = {'left': 'right', 'right': 'left'}


@dataclass(frozen=True, eq=False)
class KeypointSet:
    """Which keypoint has which index; K keypoints."""

    name: str  # name of the set
    names: tuple[str, ...]  # names of the K keypoints
    sigmas: npt.NDArray[np.float64]  # (K,) of OKS
    skeleton: tuple[tuple[int, int], ...] = ()  # bones as pairs of indices, from 0
    # RGB of each bone; empty: bones have the colour of the person.
    bone_colours: tuple[tuple[int, int, int], ...] = ()
    # (index in MPII's 16 keypoints, index here), for MMPose's `KeypointConverter`.
    mpii: tuple[tuple[int, int], ...] = ()
    aic: tuple[tuple[int, int], ...] = ()  # the same for AIC's 14 keypoints

    @property
    def num(self) -> int:
        """K."""
        return len(self.names)

    @property
    def has_coco(self) -> bool:
        """Whether all 17 keypoints of COCO are among the K."""
        return set(COCO_NAMES) <= set(self.names)

    @cached_property
    def compared(self) -> npt.NDArray[np.int64]:
        """Indices of the keypoints that the loop uses: COCO's 17 in their order, else all K."""
        names = COCO_NAMES if self.has_coco else self.names
        return np.array([self.names.index(name) for name in names], np.int64)

    def view(self, columns: npt.NDArray[_T]) -> npt.NDArray[_T]:
        """The `compared` keypoints of an array (N, K, ...); the array itself if these are all."""
        is_all = self.names == COCO_NAMES or not self.has_coco
        return columns if is_all else columns.take(self.compared, axis=1)

    @property
    def flip_indices(self) -> tuple[int, ...]:
        """Index of the mirrored keypoint for each of the K keypoints."""
        return tuple(self.names.index(mirrored(name)) for name in self.names)

    @property
    def coco(self) -> tuple[tuple[int, int], ...]:
        """(index in COCO, index here) where the first 17 keypoints are COCO's."""
        return tuple((i, i) for i in range(NUM_COCO))


def mirrored(name: str) -> str:
    """Name of the keypoint on the other side of the body."""
    side = name.split('_')[0]
    return name.replace(side, _OTHER_SIDE[side], 1) if side in _OTHER_SIDE else name


COCO_17 = KeypointSet('coco_17', COCO_NAMES, COCO_SIGMAS, COCO_SKELETON)
UNKNOWN_SIGMA = float(COCO_SIGMAS.mean())  # of keypoints without a published one


@lru_cache
def unnamed_keypoints(num: int) -> KeypointSet:
    """Return a set for K keypoints without metadata; the first 17 of more are COCO's."""
    known = COCO_17 if num >= NUM_COCO else KeypointSet('', (), COCO_SIGMAS[:0])
    names = (*known.names, *(f'keypoint_{i}' for i in range(known.num, num)))
    sigmas = np.append(known.sigmas, np.full(num - known.num, UNKNOWN_SIGMA))
    return KeypointSet(f'unnamed_{num}', names, sigmas, known.skeleton)


def keypoint_set_of(meta: Mapping[str, Any]) -> KeypointSet:
    """The keypoint set of a model, from MMPose's ``dataset_meta``.

    Without sigmas, as in some data sets of hands, every one is `UNKNOWN_SIGMA`.

    Raises:
        ValueError: two keypoints have the same name.
    """
    by_index = {int(i): str(name) for i, name in meta['keypoint_id2name'].items()}
    names = tuple(by_index[i] for i in range(len(by_index)))
    if len(set(names)) < len(names):
        raise ValueError(f'dataset_meta names a keypoint twice: {", ".join(sorted(names))}')
    if names == COCO_NAMES:
        return COCO_17
    sigmas = np.array(meta.get('sigmas', ()), np.float64)
    skeleton = tuple((int(a), int(b)) for a, b in meta.get('skeleton_links', ()))
    colours = np.array(meta.get('skeleton_link_colors', ())).reshape(-1, 3).tolist()
    return KeypointSet(
        str(meta.get('dataset_name', 'unnamed')),
        names,
        sigmas if len(sigmas) == len(names) else np.full(len(names), UNKNOWN_SIGMA),
        skeleton,
        tuple((r, g, b) for r, g, b in colours) if len(colours) == len(skeleton) else (),
    )
