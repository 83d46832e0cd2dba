"""Draw crowds in motion: people who walk, cross, hide each other, leave and come back.

Every frame is a function of the config and of the frame's index. Memory does not depend on the
length, and any frame can be drawn without those before it. Equal configs give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .background import draw_background
from .figure import Figure, draw_figure
from .layout import STREAM_BACKGROUND, STREAM_CAMERA, STREAM_PERSON, check_setting
from .look import Look, sample_look
from .rig import ARMS, ArmAngles, Body, Pose, build_rig, sample_body
from .scene import Scene, compose, select_visible

SPEED = 0.8  # mean walking speed in body heights a second: 1.4 m/s
STRIDE = 0.85  # length of two steps in body heights
TURN_SECONDS = 0.7


@dataclass(frozen=True)
class VideoConfig:
    """Settings of a drawn video.

    Attributes:
        num_frames: length of the video.
        fps: frames a second.
        width: px.
        height: px.
        num_people: identities; some of them leave the image and come back.
        min_person_height: height of the farthest people, as a fraction of the image height.
        max_person_height: that of the nearest people.
        standing: fraction of people who stay in one place.
        leaving: fraction of people whose path ends outside of the image before they return.
        camera_pan: amplitude of the camera's sideways motion, as a fraction of the image width.
        noise: blur and grain, 0 to 3.
        seed: random seed.
    """

    num_frames: int = 100
    fps: float = 25.0
    width: int = 640
    height: int = 480
    num_people: int = 10
    min_person_height: float = 0.25
    max_person_height: float = 0.6
    standing: float = 0.15
    leaving: float = 0.3
    camera_pan: float = 0.0
    noise: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ('num_frames', 1, 10**7), ('fps', 0.1, 1000), ('width', 32, 8192),
            ('height', 32, 8192), ('num_people', 0, 1000), ('max_person_height', 0, 1),
            ('min_person_height', 0, self.max_person_height), ('standing', 0, 1),
            ('leaving', 0, 1), ('camera_pan', 0, 1), ('noise', 0, 3), ('seed', 0, 2**63 - 1),
        ):  # fmt: skip
            check_setting(self, name, low, high)


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """A frame with its ground truth.

    Attributes:
        index: from 0.
        seconds: time since the start.
        scene: image, boxes, masks, keypoints and depth order of the people with a visible pixel.
        person_ids: (N,) identity of each person of the scene, from 1.
        track_ids: (N,) the same, but a person who left the image returns under a new number, as
            in MOTChallenge.
        visible_fractions: (N,) visible pixels relative to those of the whole person.
    """

    index: int
    seconds: float
    scene: Scene
    person_ids: npt.NDArray[np.int64]
    track_ids: npt.NDArray[np.int64]
    visible_fractions: npt.NDArray[np.float32]


def make_frames(config: VideoConfig, start: int = 0) -> Iterator[VideoFrame]:
    """Draw the frames of a video from frame ``start`` on."""
    walkers = [_Walker.sample(config, i) for i in range(config.num_people)]
    pan = round(config.camera_pan * config.width)
    horizon = _ground(config, 0.0) - 0.3 * _height(config, 0.0)
    rng = np.random.default_rng([config.seed, STREAM_BACKGROUND])
    background = draw_background(rng, config.width + 2 * pan, config.height, horizon)
    for index in range(start, config.num_frames):
        seconds = index / config.fps
        shift = round(pan * float(np.sin(2 * np.pi * seconds / 12)))
        view = background[:, pan + shift : pan + shift + config.width].copy()
        figures = [walker.draw(seconds, shift) for walker in walkers]
        people = select_visible(figures, [], (config.height, config.width), min_visible=0)
        rows = {id(figure): row for row, figure in enumerate(figures)}
        persons = np.array([rows[id(person)] for person in people], np.int64)
        visits = np.array([walker.count_absences(seconds) for walker in walkers], np.int64)
        camera = np.random.default_rng([config.seed, STREAM_CAMERA])
        scene = compose(view, people, [], camera, config.noise)
        areas = np.array([person.area for person in people], np.float32)
        yield VideoFrame(
            index, seconds, scene,
            persons + 1, persons + 1 + config.num_people * visits[persons],
            scene.masks.areas.astype(np.float32) / np.maximum(areas, 1),
        )  # fmt: skip


def make_camera(config: VideoConfig, height_m: float = 1.7) -> dict[str, Any]:
    """Camera of a drawn video, as the content of a file for ``bmp crowd --camera``.

    People of one height shrink with the row of their feet as under a level camera. Its focal
    length is free, since nothing else is drawn to scale, and set to the width of the image.

    Args:
        config: settings of the video.
        height_m: height of an adult.
    """
    (far, low), (near, high) = ((_ground(config, d), _height(config, d)) for d in (0.0, 1.0))
    slope = (near - far) / max(high - low, 1e-6)
    center = [config.width / 2, far - slope * low]
    return {
        'intrinsics': [[config.width, 0, center[0]], [0, config.width, center[1]], [0, 0, 1]],
        # Rows: the axes of the camera (x right, y down, z forward) in the world, z up.
        'rotation': [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
        'translation': [0, height_m * slope, 0],
        'unit': 'm',
    }


@dataclass(frozen=True)
class _Walker:
    """One identity, whose position is a function of time.

    It walks to and fro between two columns at a nearly constant depth. All lengths are in body
    heights, and columns are relative to the image centre.
    """

    config: VideoConfig
    body: Body
    look: Look
    size: float  # factor on the standing height
    depth: float  # 0 far, 1 near
    sway: float  # amplitude of the depth
    left: float
    right: float
    speed: float  # body heights a second
    phase: float  # distance walked before the video starts

    @classmethod
    def sample(cls, config: VideoConfig, index: int) -> _Walker:
        """Sample identity ``index``."""
        rng = np.random.default_rng([config.seed, STREAM_PERSON, index])
        body, look = sample_body(rng), sample_look(rng)
        if body.child:
            look = replace(look, beard=False)
        depth = float(rng.random())
        half = 0.5 * config.width / _height(config, depth)
        center, reach = rng.uniform(-0.7, 0.7) * half, rng.uniform(0.25, 0.9) * half
        left, right = max(center - reach, -half), min(center + reach, half)
        if rng.random() < config.leaving:
            # Outside of the image wherever the camera looks.
            far = half * (1 + 2 * config.camera_pan) + 1.2
            left, right = (-far, right) if rng.random() < 0.5 else (left, far)
        moves = rng.random() >= config.standing
        return cls(
            config, body, look, 0.74 if body.child else float(rng.normal(1, 0.04)), depth,
            float(rng.uniform(0, 0.06)) * moves, float(left), float(right),
            float(np.clip(rng.normal(SPEED, 0.15), 0.4, 1.3)) * moves,
            float(rng.uniform(0, 2 * (right - left))),
        )  # fmt: skip

    def count_absences(self, seconds: float) -> int:
        """How often the person turned outside of the image before a time."""
        span, half = (
            self.right - self.left,
            0.5 * self.config.width / _height(self.config, self.depth),
        )
        start = 0.0 if self.left < -half - 1 else span if self.right > half + 1 else None
        if start is None:
            return 0
        turns = [np.floor((w + start) / (2 * span)) for w in (self.phase, self._walked(seconds))]
        return int(turns[1] - turns[0])

    def _walked(self, seconds: float) -> float:
        return self.phase + self.speed * seconds

    def draw(self, seconds: float, shift: int) -> Figure:
        """Draw the person at a time; ``shift`` is the camera's position in px."""
        span = self.right - self.left
        walked = self._walked(seconds)
        place = walked % (2 * span)
        forward = place < span
        column = self.left + (place if forward else 2 * span - place)
        depth = self.depth + self.sway * float(np.sin(0.3 * seconds + self.phase))
        depth = min(max(depth, 0.0), 1.0)
        unit = _height(self.config, depth)
        x = self.config.width / 2 + column * unit - shift
        # Seconds until the next turn and since the last one: both sides of a turn meet at yaw 0.
        edge = min(place % span, span - place % span) / max(self.speed, 1e-6)
        yaw = 82.0 * min(edge / TURN_SECONDS, 1.0) * (1 if forward else -1)
        rig = build_rig(
            self.body, _walk(walked, yaw if self.speed else 20 * self.phase, self.speed)
        )
        return draw_figure(rig, self.look, x, _ground(self.config, depth), unit * self.size)


def _height(config: VideoConfig, depth: float) -> float:
    """Standing height in px at a depth."""
    low, high = config.min_person_height, config.max_person_height
    return config.height * (low + depth * (high - low))


def _ground(config: VideoConfig, depth: float) -> float:
    """Row in px of the ground at a depth."""
    far = config.height * min(config.min_person_height + 0.2, 0.9)
    return far + depth * (0.975 * config.height - far)


def _walk(walked: float, yaw: float, speed: float) -> Pose:
    """Pose after a walked distance in body heights."""
    swing = 24 * float(np.sin(2 * np.pi * walked / STRIDE)) if speed else 0.0
    hang = ARMS['hang']
    return Pose(
        yaw=yaw,
        lean=(0.0, 5.0 if speed else 2.0),
        head=(0.0, 4.0, 0.0),
        arms=(_swing_arm(hang, -swing), _swing_arm(hang, swing)),
        legs=(_swing_leg(swing), _swing_leg(-swing)),
        seated=False,
    )


def _swing_arm(arm: ArmAngles, swing: float) -> ArmAngles:
    (a, f), (b, g) = arm
    return (a, f + swing), (b, g + swing + max(swing, 0) * 0.6)


def _swing_leg(swing: float) -> ArmAngles:
    bend = -swing * 0.35 if swing > 0 else swing * 1.1
    return (3.0, swing), (2.0, swing + bend)
