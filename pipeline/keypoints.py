"""Keypoint sets (names, swaps, sigmas, bones) and conversions between them.

* **COCO, 17 points**: the set of the loop. Names, swaps and skeleton as in the COCO person-keypoint
  categories; sigmas as in pycocotools ``Params.setKpParams``.
* **CrowdPose, 14 points**: the annotations of CrowdPose; sigmas as in its evaluation code (and
  ``_base_/datasets/crowdpose.py`` of MMPose).
* **21 points** (ViTPose-b-multi, MaskPose-b 1.0.0) and **23 points** (MaskPose 1.1.0, PMPose
  1.0.0): models trained on COCO, MPII and AI Challenger (AIC). The first 17 points are
  COCO's; the others exist only in MPII and AIC. With 21 points, MPII's thorax and AIC's neck are
  one point; with 23, they are separate points. No sigmas are published for these points. This
  project uses those of the shoulders (0.079) for thorax, necks and head tops, and those of the hips
  (0.107) for the pelvis.

Legend: N people, K keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .arrays import Floats

Convention = Literal['coco17', 'crowdpose14']  # keypoints of annotations and scores

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

# Weights of MMPose's COCO file: elbows and knees count 1.2, wrists and ankles 1.5.
COCO_WEIGHTS = (*[1.0] * 7, 1.2, 1.2, 1.5, 1.5, 1.0, 1.0, 1.2, 1.2, 1.5, 1.5)

# Nose and eyes: the loop of BMP v1 keeps only one of them as a prompt.
FACE = (0, 1, 2)

CROWDPOSE_NAMES = (
    'left_shoulder', 'right_shoulder', 'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist',
    'left_hip', 'right_hip', 'left_knee', 'right_knee', 'left_ankle', 'right_ankle',
    'top_head', 'neck',
)  # fmt: skip
COCO_TO_CROWDPOSE = {5 + i: i for i in range(12)}

# Keypoints of MPII and AIC that COCO has as well: (index there, index in COCO).
MPII_TO_COCO = (
    (0, 16), (1, 14), (2, 12), (3, 11), (4, 13), (5, 15),
    (10, 10), (11, 8), (12, 6), (13, 5), (14, 7), (15, 9),
)  # fmt: skip
AIC_TO_COCO = (
    (0, 6), (1, 8), (2, 10), (3, 5), (4, 7), (5, 9),
    (6, 12), (7, 14), (8, 16), (9, 11), (10, 13), (11, 15),
)  # fmt: skip
_AIC_HEAD_TOP, _AIC_NECK = 12, 13

_OTHER_SIDE = {'left': 'right', 'right': 'left'}
_COLOURS = {'left': [0, 255, 0], 'right': [255, 128, 0]}
_CENTRE_COLOUR = [51, 153, 255]
_HEAD_AND_TRUNK = ('nose', '_eye', '_ear', '_shoulder', '_hip')


@dataclass(frozen=True, eq=False)
class KeypointSet:
    """Which keypoint has which index; K keypoints.

    Attributes:
        name: name of the set.
        names: names of the K keypoints.
        sigmas: (K,) of OKS.
        bones: pairs of names.
        mpii: (index in MPII's 16 keypoints, index here), for MMPose's `KeypointConverter`.
        aic: the same for AIC's 14 keypoints.
    """

    name: str
    names: tuple[str, ...]
    sigmas: npt.NDArray[np.float64]
    bones: tuple[tuple[str, str], ...] = ()
    mpii: tuple[tuple[int, int], ...] = ()
    aic: tuple[tuple[int, int], ...] = ()

    @property
    def num(self) -> int:
        """K."""
        return len(self.names)

    @property
    def flip_indices(self) -> tuple[int, ...]:
        """Index of the mirrored keypoint for each of the K keypoints."""
        return tuple(self.names.index(_mirrored(name)) for name in self.names)

    @property
    def coco(self) -> tuple[tuple[int, int], ...]:
        """(index in COCO, index here) where the first 17 keypoints are COCO's."""
        return tuple((i, i) for i in range(NUM_COCO))

    def dataset_info(self) -> dict[str, Any]:
        """A set that begins with COCO's keypoints, in the form of MMPose's metainfo files."""
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
                i: {'link': bone, 'id': i, 'color': _bone_colour(*bone)}
                for i, bone in enumerate(self.bones)
            },
            'joint_weights': [*COCO_WEIGHTS, *[1.0] * (self.num - NUM_COCO)],
            'sigmas': self.sigmas.tolist(),
        }


def _mirrored(name: str) -> str:
    side = name.split('_')[0]
    return name.replace(side, _OTHER_SIDE[side], 1) if side in _OTHER_SIDE else name


def _colour(name: str) -> list[int]:
    if name.endswith(('nose', '_eye', '_ear')):
        return _CENTRE_COLOUR
    return _COLOURS.get(name.split('_')[0], _CENTRE_COLOUR)


def _bone_colour(start: str, end: str) -> list[int]:
    """Arms and legs in the colour of their side, all else in that of the centre."""
    is_limb = not (start.endswith(_HEAD_AND_TRUNK) and end.endswith(_HEAD_AND_TRUNK))
    return _colour(start) if is_limb else _CENTRE_COLOUR


def _is_lower(name: str) -> bool:
    return any(part in name for part in ('hip', 'knee', 'ankle', 'pelvis'))


def _extended_coco(name: str, extra: dict[str, float], **maps: Any) -> KeypointSet:
    """COCO's keypoints, then those of ``extra``: names and sigmas."""
    bones = tuple((COCO_NAMES[a], COCO_NAMES[b]) for a, b in COCO_SKELETON)
    sigmas = np.concatenate([COCO_SIGMAS, np.array([*extra.values()], np.float64)])
    return KeypointSet(name, (*COCO_NAMES, *extra), sigmas, bones + maps.pop('bones', ()), **maps)


_SHOULDER, _HIP = 0.079, 0.107
COCO_17 = _extended_coco('coco_17', {})
COCO_MPII_AIC_21 = _extended_coco(
    'coco_mpii_aic_21',
    {'thorax': _SHOULDER, 'upper_neck': _SHOULDER, 'head_top': _SHOULDER, 'pelvis': _HIP},
    bones=(('head_top', 'upper_neck'), ('upper_neck', 'thorax'), ('thorax', 'pelvis')),
    mpii=(*MPII_TO_COCO, (6, 20), (7, 17), (8, 18), (9, 19)),
    aic=(*AIC_TO_COCO, (_AIC_HEAD_TOP, 19), (_AIC_NECK, 17)),
)
COCO_MPII_AIC_23 = _extended_coco(
    'coco_mpii_aic_23',
    {
        'thorax_mpii': _SHOULDER, 'pelvis_mpii': _HIP, 'neck_mpii': _SHOULDER,
        'head_top_mpii': _SHOULDER, 'neck_aic': _SHOULDER, 'head_top_aic': _SHOULDER,
    },
    bones=(
        ('head_top_mpii', 'neck_mpii'),
        ('neck_mpii', 'thorax_mpii'),
        ('thorax_mpii', 'pelvis_mpii'),
        ('head_top_aic', 'neck_aic'),
    ),
    mpii=(*MPII_TO_COCO, (6, 18), (7, 17), (8, 19), (9, 20)),
    aic=(*AIC_TO_COCO, (_AIC_HEAD_TOP, 22), (_AIC_NECK, 21)),
)  # fmt: skip
CROWDPOSE_14 = KeypointSet(
    'crowdpose_14',
    CROWDPOSE_NAMES,
    np.array([.79, .79, .72, .72, .62, .62, 1.07, 1.07, .87, .87, .89, .89, .79, .79]) / 10,
)  # fmt: skip

# Sets of annotations, and sets of models by their number of keypoints.
KEYPOINT_SETS: dict[Convention, KeypointSet] = {'coco17': COCO_17, 'crowdpose14': CROWDPOSE_14}
MODEL_SETS = {known.num: known for known in (COCO_17, COCO_MPII_AIC_21, COCO_MPII_AIC_23)}


def sigmas_of(num_keypoints: int) -> tuple[float, ...]:
    """Sigmas of the models' set with that many keypoints.

    Raises:
        ValueError: no set has that many keypoints.
    """
    if num_keypoints not in MODEL_SETS:
        raise ValueError(
            f'no sigmas are known for {num_keypoints} keypoints (known: '
            f'{", ".join(map(str, MODEL_SETS))}); give them as `sigmas`'
        )
    return tuple(MODEL_SETS[num_keypoints].sigmas.tolist())


def convention_of_names(names: Sequence[str]) -> Convention | None:
    """Match the keypoint names of a COCO category to a known keypoint set; None without a match.

    Names decide, not their number: AIC has 14 keypoints in another order, and PoseTrack18 has 17
    with two points of the head in place of the eyes. Names after the 17 of COCO are ignored:
    files with more points (HumanArt) repeat the 17 under ``keypoints``.
    """
    plain = tuple(name.strip().lower().replace(' ', '_') for name in names)
    if plain[:NUM_COCO] == COCO_NAMES:
        return 'coco17'
    heads = {'head', 'top_head', 'head_top'}
    same = plain[:12] == CROWDPOSE_NAMES[:12] and plain[13:] == ('neck',) and plain[12] in heads
    return 'crowdpose14' if same else None


# With 17 keypoints, head top and neck are estimated on the line from the middle of the shoulders
# to the face. Distance from the shoulders to the head top, relative to that to a point of the face,
# for people who stand: shoulders, nose, ears, eyes and head top are at 0.80, 0.914, 0.93, 0.936 and
# 1 of the height (Drillis and Contini 1966; upright people of PoseTrack18: 1.71 to 1.79, nose).
_FACE_TO_TOP = {(0,): 1.75, (1, 2): 1.5, (3, 4): 1.55}
# The annotated neck lies above the shoulders: 0.18 to 0.21 of the way to the head top in the
# people of CrowdPose, 0.23 (median) in a sample of AIC.
_NECK_FRACTION = 0.2


def to_convention(
    keypoints: npt.ArrayLike, scores: npt.ArrayLike, convention: Convention
) -> tuple[Floats, Floats]:
    """Convert predicted keypoints to another convention.

    The first 17 points are those of COCO. For ``crowdpose14``, the 12 points of the limbs are
    copied. Neck and head top are those of the model if it predicts them (K = 21 or 23: the points
    of AIC, which annotates them like CrowdPose). Otherwise they are estimated from shoulders and
    face. Their score is the lower score of the two shoulders; that of the head top is at most the
    best score of the face. The estimate assumes an upright head; a bowed or turned head costs AP.

    Args:
        keypoints: (N, K, 2) px, K >= 17.
        scores: (N, K), >= 0.
        convention: of the result.

    Returns:
        keypoints (N, K', 2) float32 px and scores (N, K') float32; K' = 17 or 14.

    Raises:
        ValueError: fewer than 17 keypoints, shapes that do not fit, or an unknown convention.
    """
    points, weights = np.asarray(keypoints, np.float32), np.asarray(scores, np.float32)
    if points.ndim != 3 or points.shape[2] != 2 or points.shape[1] < NUM_COCO:
        raise ValueError(f'keypoints must be (N, K >= {NUM_COCO}, 2), got {points.shape}')
    if weights.shape != points.shape[:2]:
        raise ValueError(f'scores must be {points.shape[:2]}, got {weights.shape}')
    if convention == 'coco17':
        return points[:, :NUM_COCO], weights[:, :NUM_COCO]
    if convention != 'crowdpose14':
        raise ValueError(
            f'convention must be one of {", ".join(KEYPOINT_SETS)}, got {convention!r}'
        )
    model_set = MODEL_SETS.get(points.shape[1], COCO_17)
    if model_set.aic:
        indices = [dict(model_set.aic)[index] for index in (_AIC_HEAD_TOP, _AIC_NECK)]
        head, head_scores = points[:, indices], weights[:, indices]
    else:
        head, head_scores = _estimate_head_and_neck(points, weights)
    limbs = list(COCO_TO_CROWDPOSE)
    return (
        np.concatenate([points[:, limbs], head], axis=1),
        np.concatenate([weights[:, limbs], head_scores], axis=1),
    )


def _estimate_head_and_neck(points: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """Head top and neck (N, 2, 2) with scores (N, 2) from 17 keypoints."""
    middle = points[:, 5:7].mean(1)
    tops = [middle + r * (points[:, f].mean(1) - middle) for f, r in _FACE_TO_TOP.items()]
    # A face without evidence (all scores 0) is averaged too; its score stays 0.
    weights = np.stack([scores[:, f].mean(1) for f in _FACE_TO_TOP], axis=1) + 1e-6
    weights /= weights.sum(1, keepdims=True)
    top = (np.stack(tops, axis=1) * weights[..., None]).sum(1)
    neck = middle + _NECK_FRACTION * (top - middle)
    neck_score = scores[:, 5:7].min(1)
    top_score = np.minimum(neck_score, scores[:, :5].max(1))
    estimate = np.stack([top, neck], axis=1), np.stack([top_score, neck_score], axis=1)
    return estimate[0].astype(np.float32), estimate[1].astype(np.float32)
