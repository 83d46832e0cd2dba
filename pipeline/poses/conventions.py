"""Keypoint conventions of the released models, as data: COCO's 17 points and two that add to them.

The released models were trained on COCO, MPII and AI Challenger (AIC) together. Their first 17
points are COCO's, in COCO's order; the points behind them exist only in the other two data sets.
What each index means is set by the tables that map MPII and AIC onto it (`mpii`, `aic` below).

* **21 points** (ViTPose-b-multi, MaskPose-b 1.0.0): MPII's thorax and AIC's neck are one point.
* **23 points** (MaskPose 1.1.0, PMPose 1.0.0): every data set keeps points of its own.

COCO publishes no sigmas for the added points. Ours: thorax, necks and head tops as the shoulders
(0.079), pelvis as the hips (0.107).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..keypoints import COCO_NAMES, COCO_SIGMAS, COCO_SKELETON, NUM_COCO

SHOULDER, HIP = 0.079, 0.107
# Weights of MMPose's COCO file: elbows and knees count 1.2, wrists and ankles 1.5.
COCO_WEIGHTS = (*[1.0] * 7, 1.2, 1.2, 1.5, 1.5, 1.0, 1.0, 1.2, 1.2, 1.5, 1.5)
OTHER_SIDE = {'left': 'right', 'right': 'left'}
COLOURS = {'left': [0, 255, 0], 'right': [255, 128, 0]}
CENTRE_COLOUR = [51, 153, 255]
FACE, TRUNK = ('nose', '_eye', '_ear'), ('_shoulder', '_hip')

# Points of MPII and AIC that COCO has as well: (index there, index in COCO).
MPII_TO_COCO = (
    (0, 16), (1, 14), (2, 12), (3, 11), (4, 13), (5, 15),
    (10, 10), (11, 8), (12, 6), (13, 5), (14, 7), (15, 9),
)  # fmt: skip
AIC_TO_COCO = (
    (0, 6), (1, 8), (2, 10), (3, 5), (4, 7), (5, 9),
    (6, 12), (7, 14), (8, 16), (9, 11), (10, 13), (11, 15),
)  # fmt: skip


@dataclass(frozen=True)
class Convention:
    """Which keypoint has which index; K points, the first 17 those of COCO.

    Attributes:
        name: name of the convention.
        extra_names: names of the points behind COCO's.
        extra_sigmas: COCO sigmas of those points.
        extra_links: bones of those points, as pairs of names.
        mpii: (index in MPII's 16 points, index here), for MMPose's `KeypointConverter`.
        aic: the same for AIC's 14 points.
    """

    name: str
    extra_names: tuple[str, ...] = ()
    extra_sigmas: tuple[float, ...] = ()
    extra_links: tuple[tuple[str, str], ...] = ()
    mpii: tuple[tuple[int, int], ...] = ()
    aic: tuple[tuple[int, int], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the K points."""
        return COCO_NAMES + self.extra_names

    @property
    def sigmas(self) -> tuple[float, ...]:
        """COCO sigmas of the K points."""
        return (*COCO_SIGMAS.tolist(), *self.extra_sigmas)

    @property
    def flip_indices(self) -> tuple[int, ...]:
        """Index of the mirrored point for each of the K points."""
        return tuple(self.names.index(_mirrored(name)) for name in self.names)

    @property
    def coco(self) -> tuple[tuple[int, int], ...]:
        """(index in COCO, index here): the COCO view is the first 17 points."""
        return tuple((i, i) for i in range(NUM_COCO))

    def dataset_info(self) -> dict[str, Any]:
        """The convention as MMPose's metainfo files state it."""
        links = [(COCO_NAMES[a], COCO_NAMES[b]) for a, b in COCO_SKELETON] + [*self.extra_links]
        return {
            'dataset_name': self.name,
            'paper_info': {},
            'keypoint_info': {
                i: {
                    'name': name,
                    'id': i,
                    'color': _colour(name),
                    'type': 'lower' if _is_lower(name) else 'upper',
                    'swap': '' if _mirrored(name) == name else _mirrored(name),
                }
                for i, name in enumerate(self.names)
            },
            'skeleton_info': {
                i: {
                    'link': link,
                    'id': i,
                    'color': _bone_colour(*link),
                }
                for i, link in enumerate(links)
            },
            'joint_weights': [*COCO_WEIGHTS, *[1.0] * len(self.extra_names)],
            'sigmas': list(self.sigmas),
        }


def _side(name: str) -> str:
    return name.split('_')[0]


def _mirrored(name: str) -> str:
    side = _side(name)
    return name.replace(side, OTHER_SIDE[side], 1) if side in OTHER_SIDE else name


def _colour(name: str) -> list[int]:
    return CENTRE_COLOUR if name.endswith(FACE) else COLOURS.get(_side(name), CENTRE_COLOUR)


def _bone_colour(start: str, end: str) -> list[int]:
    """Arms and legs in the colour of their side, all else in that of the centre."""
    is_limb = not (start.endswith((*FACE, *TRUNK)) and end.endswith((*FACE, *TRUNK)))
    return _colour(start) if is_limb else CENTRE_COLOUR


def _is_lower(name: str) -> bool:
    return any(part in name for part in ('hip', 'knee', 'ankle', 'pelvis'))


COCO_17 = Convention('coco_17')
COCO_MPII_AIC_21 = Convention(
    'coco_mpii_aic_21',
    extra_names=('thorax', 'upper_neck', 'head_top', 'pelvis'),
    extra_sigmas=(SHOULDER, SHOULDER, SHOULDER, HIP),
    extra_links=(('head_top', 'upper_neck'), ('upper_neck', 'thorax'), ('thorax', 'pelvis')),
    mpii=(*MPII_TO_COCO, (6, 20), (7, 17), (8, 18), (9, 19)),
    aic=(*AIC_TO_COCO, (12, 19), (13, 17)),
)
COCO_MPII_AIC_23 = Convention(
    'coco_mpii_aic_23',
    extra_names=(
        'thorax_mpii', 'pelvis_mpii', 'neck_mpii', 'head_top_mpii', 'neck_aic', 'head_top_aic',
    ),
    extra_sigmas=(SHOULDER, HIP, SHOULDER, SHOULDER, SHOULDER, SHOULDER),
    extra_links=(
        ('head_top_mpii', 'neck_mpii'),
        ('neck_mpii', 'thorax_mpii'),
        ('thorax_mpii', 'pelvis_mpii'),
        ('head_top_aic', 'neck_aic'),
    ),
    mpii=(*MPII_TO_COCO, (6, 18), (7, 17), (8, 19), (9, 20)),
    aic=(*AIC_TO_COCO, (12, 22), (13, 21)),
)  # fmt: skip
CONVENTIONS = {len(c.names): c for c in (COCO_17, COCO_MPII_AIC_21, COCO_MPII_AIC_23)}


def sigmas_of(num_keypoints: int) -> tuple[float, ...]:
    """Sigmas of the convention with that many points.

    Raises:
        ValueError: no convention has that many points.
    """
    if num_keypoints not in CONVENTIONS:
        raise ValueError(
            f'no sigmas are known for {num_keypoints} keypoints (known: '
            f'{", ".join(map(str, CONVENTIONS))}); give them as `sigmas`'
        )
    return CONVENTIONS[num_keypoints].sigmas
