"""Sample and project the 3-D joints of synthetic people.

Frames, in units of the standing height of the person:

* body: x to the person's left, y down, z to the person's front;
* view: x to the right of the image, y down, z towards the viewer; the origin is on the ground
  below the pelvis.

At yaw 0 the person faces the viewer, with the person's left on the right of the image; yaw 180 is
the back view. Pairs of limbs are stored as (left, right).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float64]

# The camera looks slightly down, so that the tops of feet and brims are visible.
CAMERA_PITCH = 7.0

# (abduction, forward flexion) in degrees of upper arm and forearm; 0, 0 hangs straight down.
ArmAngles = tuple[tuple[float, float], tuple[float, float]]
ARMS: dict[str, ArmAngles] = {
    'hang': ((9, -2), (5, 12)),
    'raised': ((148, 8), (168, 10)),
    'wave': ((98, 10), (166, 22)),
    'akimbo': ((48, -14), (-48, 22)),
    'phone': ((14, 14), (-24, 112)),
    'point': ((52, 42), (58, 50)),
    'spread': ((82, 8), (88, 12)),
    'chest': ((16, 18), (-66, 62)),
    'lap': ((12, 26), (-14, 72)),
}
STANDING_ARMS = ('hang', 'hang', *(name for name in ARMS if name != 'lap'))


@dataclass(frozen=True)
class Body:
    """Proportions of one person, in units of the standing height."""

    head: float  # half height of the head
    shoulders: float  # half distance of the shoulder joints
    hips: float  # half distance of the hip joints
    legs: float  # height of the hip joints above the ground
    bulk: float  # factor on all thicknesses
    child: bool


@dataclass(frozen=True)
class Pose:
    """Angles of one pose, in degrees."""

    yaw: float
    lean: tuple[float, float]  # upper body to the person's left, and forward
    head: tuple[float, float, float]  # yaw relative to the body, pitch down, roll to the left
    arms: tuple[ArmAngles, ArmAngles]
    legs: tuple[ArmAngles, ArmAngles]
    seated: bool


@dataclass(frozen=True)
class Rig:
    """Joints in the view frame; every pair is (2, 3) as (left, right)."""

    body: Body
    pose: Pose
    pelvis: Vectors  # (3,) between the hip joints
    neck: Vectors  # (3,) base of the neck
    head: Vectors  # (3,) centre of the head
    head_axes: Vectors  # (3, 3) columns are the head's left, down and front in the view frame
    shoulders: Vectors
    elbows: Vectors
    wrists: Vectors
    hips: Vectors
    knees: Vectors
    ankles: Vectors
    toes: Vectors
    front: Vectors  # (3,) where the chest points
    left: Vectors  # (3,) where the left shoulder points

    @property
    def joints(self) -> Vectors:
        """COCO keypoints 5 to 16, (12, 3) in the view frame."""
        pairs = (self.shoulders, self.elbows, self.wrists, self.hips, self.knees, self.ankles)
        return np.concatenate(pairs)


def sample_body(rng: np.random.Generator) -> Body:
    """Sample proportions: adults of any build and, one time in eight, a child."""
    child = rng.random() < 0.12
    return Body(
        head=float(rng.uniform(0.088, 0.098) if child else rng.uniform(0.068, 0.078)),
        shoulders=float(rng.uniform(0.092, 0.112)),
        hips=float(rng.uniform(0.05, 0.06)),
        legs=float(rng.uniform(0.46, 0.48) if child else rng.uniform(0.485, 0.515)),
        bulk=float(rng.uniform(0.9, 1.2)),
        child=bool(child),
    )


def sample_pose(rng: np.random.Generator, *, may_sit: bool = True) -> Pose:
    """Sample a plausible pose: standing or walking, often with raised arms, sometimes seated."""
    facing = rng.choice(4, p=[0.5, 0.2, 0.2, 0.1])
    yaw = (0.0, 180.0, 50.0, 88.0)[facing] * float(rng.choice([-1, 1])) + float(rng.normal(0, 16))
    seated = bool(may_sit and rng.random() < 0.12)
    walking = not seated and rng.random() < 0.45
    swing = float(rng.uniform(10, 25) * rng.choice([-1, 1])) if walking else 0.0
    names = [
        'lap' if seated and rng.random() < 0.7 else str(rng.choice(STANDING_ARMS)) for _ in 'lr'
    ]
    if not seated and rng.random() < 0.4:
        names[1] = names[0]
    swings = [-swing * side if n == 'hang' else 0.0 for n, side in zip(names, (1, -1), strict=True)]
    arms = [_jitter(rng, ARMS[n], s) for n, s in zip(names, swings, strict=True)]
    legs = [_sample_leg(rng, swing * s, seated) for s in (1, -1)]
    return Pose(
        yaw=yaw,
        lean=(float(rng.normal(0, 2.5)), float(rng.normal(3 + abs(swing) / 8, 2.5))),
        head=tuple(float(a) for a in rng.normal((0, 4, 0), (18, 7, 5))),  # type: ignore[arg-type]
        arms=(arms[0], arms[1]),
        legs=(legs[0], legs[1]),
        seated=seated,
    )


def _jitter(rng: np.random.Generator, arm: ArmAngles, swing: float) -> ArmAngles:
    (a, f), (b, g) = arm
    da, df, db, dg = rng.normal(0, (5, 6, 6, 8)).tolist()
    return (a + da, f + df + swing), (b + db, g + dg + swing + max(swing, 0) * 0.6)


def _sample_leg(rng: np.random.Generator, swing: float, seated: bool) -> ArmAngles:
    spread, turn = rng.uniform(1, 7), rng.normal(0, 3)
    if seated:
        forward, back = rng.uniform(72, 84), rng.normal(4, 8)
        return (float(spread + 6), float(forward)), (float(spread), float(back))
    bend = -abs(swing) * 0.35 if swing > 0 else swing * 1.1
    return (float(spread), float(swing + turn)), (float(spread * 0.6), float(swing + turn + bend))


def build_rig(body: Body, pose: Pose) -> Rig:
    """Compute the joints by forward kinematics, in the view frame and on the ground."""
    spine = _direction(pose.lean[0], pose.lean[1]) * (1, -1, 1)
    across = np.array([[1.0, 0, 0], [-1.0, 0, 0]])
    trunk = 0.985 - 2 * body.head - 0.018 - body.legs
    neck = spine * trunk
    tilt = np.array([0, np.sin(np.radians(pose.lean[0])), 0]) * ((1,), (-1,))
    shoulders = neck + across * body.shoulders + tilt * body.shoulders - spine * 0.022
    hips = across * body.hips
    head = neck + spine * (body.head + 0.013) + (0, 0, 0.012)
    elbows, wrists = _chain(shoulders, pose.arms, (0.163, 0.145))
    knees, ankles = _chain(hips, pose.legs, (body.legs * 0.49, body.legs * 0.43))
    toes = ankles + (0, body.legs * 0.07, 0.1) + across * 0.018

    view = _rotation(pose.yaw, CAMERA_PITCH)
    axes = view @ _rotation(pose.head[0], pose.head[1])
    points = np.concatenate(
        [np.stack([np.zeros(3), neck, head]), shoulders, elbows, wrists, hips, knees, ankles, toes]
    )
    points = points @ view.T
    points[:, 1] -= points[-4:, 1].max() + 0.005  # the lower foot stands on the ground
    (pelvis, neck, head), pairs = points[:3], points[3:].reshape(7, 2, 3)
    shoulders, elbows, wrists, hips, knees, ankles, toes = pairs
    return Rig(
        body, pose, pelvis, neck, head, axes, shoulders, elbows, wrists, hips, knees, ankles, toes,
        front=view[:, 2], left=view[:, 0],
    )  # fmt: skip


def drop(amount: float) -> Vectors:
    """Return a step (3,) down in the image."""
    return np.array([0, amount, 0])


def _chain(
    roots: Vectors, limbs: tuple[ArmAngles, ArmAngles], lengths: tuple[float, float]
) -> tuple[Vectors, Vectors]:
    """Middle and end joints (2, 3) of a pair of limbs, left then right."""
    middles, ends = [], []
    for root, (first, second), side in zip(roots, limbs, (1, -1), strict=True):
        middle = root + _direction(*first) * (side, 1, 1) * lengths[0]
        middles.append(middle)
        ends.append(middle + _direction(*second) * (side, 1, 1) * lengths[1])
    return np.stack(middles), np.stack(ends)


def _direction(abduction: float, flexion: float) -> Vectors:
    """Unit vector (3,) in the body frame of a left limb; 0, 0 points down."""
    a, f = np.radians((abduction, flexion))
    return np.array([np.sin(a), np.cos(a) * np.cos(f), np.cos(a) * np.sin(f)])


def _rotation(yaw: float, pitch: float) -> Vectors:
    """Matrix (3, 3): yaw about the vertical, then pitch; a positive pitch looks from above."""
    (sy, sp), (cy, cp) = np.sin(np.radians((yaw, pitch))), np.cos(np.radians((yaw, pitch)))
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return np.asarray(np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]]) @ turn)
