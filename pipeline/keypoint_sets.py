"""Keypoint sets as data: names, swaps, sigmas and bones, and the conversion between sets.

* **COCO, 17 points**: `pipeline.keypoints`.
* **CrowdPose, 14 points**: what CrowdPose annotates; sigmas as in its evaluation code (and
  ``_base_/datasets/crowdpose.py`` of MMPose).
* **21 points** (ViTPose-b-multi, MaskPose-b 1.0.0) and **23 points** (MaskPose 1.1.0, PMPose
  1.0.0): models trained on COCO, MPII and AI Challenger (AIC) together. The first 17 points are
  COCO's; the others exist only in MPII and AIC. With 21 points, MPII's thorax and AIC's neck are
  one point; with 23, every data set keeps points of its own. No sigmas are published for these
  points. Ours: thorax, necks and head tops as the shoulders (0.079), pelvis as the hips (0.107).

Legend: N people, K keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .arrays import Floats
from .keypoints import (
    COCO_17,
    COCO_NAMES,
    COCO_SIGMAS,
    COCO_SKELETON,
    NUM_COCO,
    KeypointSet,
    mirrored,
)

Convention = Literal['coco17', 'crowdpose14']  # what people are annotated and scored in

# Weights of MMPose's COCO file: elbows and knees count 1.2, wrists and ankles 1.5.
COCO_WEIGHTS = (*[1.0] * 7, 1.2, 1.2, 1.5, 1.5, 1.0, 1.0, 1.2, 1.2, 1.5, 1.5)

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

_COLOURS = {'left': [0, 255, 0], 'right': [255, 128, 0]}
_CENTRE_COLOUR = [51, 153, 255]
_HEAD_AND_TRUNK = ('nose', '_eye', '_ear', '_shoulder', '_hip')


def dataset_info(num_keypoints: int) -> dict[str, Any]:
    """The models' set with that many keypoints, in the form of MMPose's metainfo files."""
    keypoint_set = MODEL_SETS[num_keypoints]
    names = keypoint_set.names
    return {
        'dataset_name': keypoint_set.name,
        'paper_info': {},
        'keypoint_info': {
            i: {
                'name': name,
                'id': i,
                'color': _colour(name),
                'type': 'lower' if _is_lower(name) else 'upper',
                'swap': '' if mirrored(name) == name else mirrored(name),
            }
            for i, name in enumerate(names)
        },
        'skeleton_info': {
            i: {'link': (names[a], names[b]), 'id': i, 'color': _bone_colour(names[a], names[b])}
            for i, (a, b) in enumerate(keypoint_set.skeleton)
        },
        'joint_weights': [*COCO_WEIGHTS, *[1.0] * (keypoint_set.num - NUM_COCO)],
        'sigmas': keypoint_set.sigmas.tolist(),
    }


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
    names = (*COCO_NAMES, *extra)
    bones = tuple((names.index(a), names.index(b)) for a, b in maps.pop('bones'))
    sigmas = np.concatenate([COCO_SIGMAS, np.array([*extra.values()], np.float64)])
    return KeypointSet(name, names, sigmas, COCO_SKELETON + bones, **maps)


_SHOULDER, _HIP = 0.079, 0.107
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
    with two points of the head in place of the eyes. What follows the 17 of COCO is left alone,
    as files with more points (HumanArt) repeat the 17 under ``keypoints``.
    """
    plain = tuple(name.strip().lower().replace(' ', '_') for name in names)
    if plain[:NUM_COCO] == COCO_NAMES:
        return 'coco17'
    heads = {'head', 'top_head', 'head_top'}
    same = plain[:12] == CROWDPOSE_NAMES[:12] and plain[13:] == ('neck',) and plain[12] in heads
    return 'crowdpose14' if same else None


# With 17 keypoints, head top and neck are estimated on the line from the middle of the shoulders
# to the face. How many times as far away as a point of the face the head top is, for people who
# stand: shoulders, nose, ears, eyes and head top at 0.80, 0.914, 0.93, 0.936 and 1 of the height
# (Drillis and Contini 1966; for the nose, upright people of PoseTrack18 have 1.71 to 1.79).
_FACE_TO_TOP = {(0,): 1.75, (1, 2): 1.5, (3, 4): 1.55}
# The annotated neck lies above the shoulders: 0.18 to 0.21 of the way to the head top in the
# people of CrowdPose, 0.23 (median) in those of AIC that were looked at.
_NECK_SHARE = 0.2


def to_convention(
    keypoints: npt.ArrayLike, scores: npt.ArrayLike, convention: Convention
) -> tuple[Floats, Floats]:
    """Predicted keypoints in another convention.

    The first 17 points are those of COCO. For ``crowdpose14`` the 12 points of the limbs are
    taken over. Neck and head top are the model's own if it has them (K = 21 or 23: AIC's, as the
    two are annotated alike); else they are estimated from shoulders and face, with the score of
    the weakest part: the lower one of the shoulders, and for the head top at most the best of
    the face. An estimate is right for people who hold their head up; a bowed or turned head
    costs AP, which is a limit of models with 17 keypoints and not of their poses.

    Args:
        keypoints: (N, K, 2) px, K >= 17.
        scores: (N, K), >= 0.
        convention: the one to return.

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
        own = [dict(model_set.aic)[index] for index in (_AIC_HEAD_TOP, _AIC_NECK)]
        head, head_scores = points[:, own], weights[:, own]
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
    neck = middle + _NECK_SHARE * (top - middle)
    neck_score = scores[:, 5:7].min(1)
    top_score = np.minimum(neck_score, scores[:, :5].max(1))
    estimate = np.stack([top, neck], axis=1), np.stack([top_score, neck_score], axis=1)
    return estimate[0].astype(np.float32), estimate[1].astype(np.float32)
