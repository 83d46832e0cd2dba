"""Place the people of a synthetic scene: settings, perspective, crowding, truncation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .background import draw_blocker
from .canvas import Layer
from .figure import Figure, compute_extent, draw_figure
from .look import sample_look
from .rig import Vectors, build_rig, sample_body, sample_pose

MIN_SIDE, MAX_SIDE = 32, 8192
MAX_PEOPLE = 200
MIN_PERSON_PX = 16
# Sub-streams of the seed, so that one kind of random choice does not change another.
STREAM_SCENE, STREAM_PERSON, STREAM_BLOCKER, STREAM_BACKGROUND, STREAM_CAMERA = range(5)


@dataclass(frozen=True)
class SceneConfig:
    """Settings of one scene; equal settings give equal bytes.

    Raises:
        ValueError: a setting is out of range; the message names it.
    """

    width: int = 640  # of the image in px, 32 to 8192
    height: int = 480  # the same
    min_people: int = 3  # minimum number of people to place, from 0
    max_people: int = 12  # maximum number of people, up to 200
    min_person_height: float = 0.3  # standing height of the farthest people, relative to the image
    # Standing height of the nearest people, up to 1; truncated people can be larger.
    max_person_height: float = 0.8
    overlap: float = 0.5  # 0 spreads the people over the width, 1 packs them into a dense crowd
    truncation: float = 0.15  # probability in [0, 1] of a person at the border, truncated
    max_blockers: int = 2  # maximum number of posts, signs and plants among the people, up to 20
    min_visible: float = 0.04  # minimum visible fraction of a person, in [0, 1)
    noise: float = 1.0  # strength of camera blur and grain, 0 (none) to 3
    seed: int = 0  # any integer from 0

    def __post_init__(self) -> None:
        check_setting(self, 'width', MIN_SIDE, MAX_SIDE)
        check_setting(self, 'height', MIN_SIDE, MAX_SIDE)
        check_setting(self, 'max_people', 0, MAX_PEOPLE)
        check_setting(self, 'min_people', 0, self.max_people, 'max_people')
        check_setting(self, 'max_person_height', 0, 1)
        check_setting(self, 'min_person_height', 0, self.max_person_height, 'max_person_height')
        for name, high in (('overlap', 1), ('truncation', 1), ('max_blockers', 20), ('noise', 3)):
            check_setting(self, name, 0, high)
        check_setting(self, 'min_visible', 0, 0.99)
        check_setting(self, 'seed', 0, 2**63 - 1)
        smallest = self.min_person_height * self.height
        if smallest < MIN_PERSON_PX:
            raise ValueError(
                f'min_person_height={self.min_person_height} of height={self.height} gives people '
                f'of {smallest:.1f} px; raise one of them until it is at least {MIN_PERSON_PX} px'
            )


def check_setting(config: object, name: str, low: float, high: float, limit: str = '') -> None:
    """Check the type and the range of an attribute; the default of its class gives the type.

    Raises:
        ValueError: It is out of range; ``limit`` names the setting that sets ``high``.
    """
    value = vars(config)[name]
    whole = isinstance(vars(type(config))[name], int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        kind = 'an integer' if whole else 'a number'
        raise ValueError(f'{name}={value!r} must be {kind} from {low} to {high}')
    if not low <= value <= high:
        bound = f'{limit}={high}' if limit else f'{high}'
        raise ValueError(f'{name}={value!r} is out of range; choose {low} to {bound}')


@dataclass(frozen=True)
class Layout:
    """Perspective and crowd centre of one scene, in px."""

    config: SceneConfig
    count: int  # people to place
    far: float  # row where the farthest people stand
    near: float  # row where the nearest people stand
    horizon: float
    center: float  # column of the crowd
    slots: tuple[int, ...]  # index of the section of the width of each person

    @classmethod
    def sample(cls, config: SceneConfig) -> Layout:
        """Sample camera height and crowd."""
        rng = np.random.default_rng([config.seed, STREAM_SCENE])
        height, count = config.height, int(rng.integers(config.min_people, config.max_people + 1))
        low, high = config.min_person_height * height, config.max_person_height * height
        camera = float(rng.uniform(0.85, 1.3))
        near = 0.975 * height
        # Far heads stay in the image; people of one size still get some depth.
        far = min(max(near - camera * (high - low), low + 0.03 * height), near - 0.03 * height)
        slots = rng.permutation(max(count, 1)).tolist()
        center = float(rng.uniform(0.38, 0.62)) * config.width
        return cls(config, count, far, near, far - camera * low, center, tuple(slots))

    def person(self, index: int) -> Figure:
        """Draw person ``index``; from ``count`` on, these are spare people at random positions."""
        config = self.config
        rng = np.random.default_rng([config.seed, STREAM_PERSON, index])
        body, pose, look = sample_body(rng), sample_pose(rng), sample_look(rng)
        if body.child:
            look = replace(look, beard=False)
        rig = build_rig(body, pose)
        depth, size, where = rng.random(), rng.normal(1, 0.04), rng.normal(size=2)
        truncated, border, amount = rng.random() < config.truncation, rng.random(), rng.random()
        column = self._column(index, where) if index < self.count else rng.random() * config.width
        # One in five truncated people is cut at the bottom, in front of the nearest position.
        below = truncated and border > 0.8
        depth = 1.0 if below else depth
        low, high = self._size(0), self._size(1)
        unit = min(max(self._size(depth) * size * (0.74 if body.child else 1), low), high)
        unit *= 1.15 if below else 1
        left, top, right, bottom = (compute_extent(rig) * unit).tolist()
        x = _clamp(column, -left, config.width - right)
        ground = self.far + depth * (self.near - self.far)
        ground = _clamp(ground, -top, config.height - bottom)
        if below:
            ground = config.height + (0.15 + 0.35 * amount) * unit
        elif truncated:
            inward = (0.16 * amount - 0.12) * unit
            x = inward if border < 0.4 else config.width - inward
        return draw_figure(rig, look, x, ground, unit)

    def blockers(self) -> list[Layer]:
        """Draw the occluding objects."""
        rng = np.random.default_rng([self.config.seed, STREAM_BLOCKER])
        layers = []
        for _ in range(int(rng.integers(self.config.max_blockers + 1))):
            depth, x = float(rng.random()), float(rng.uniform(0, self.config.width))
            ground = self.far + depth * (self.near - self.far)
            layers.append(draw_blocker(rng, x, ground, self._size(depth)))
        return layers

    def _size(self, depth: float) -> float:
        """Standing height in px at a depth from 0 (far) to 1 (near)."""
        low, high = self.config.min_person_height, self.config.max_person_height
        return self.config.height * (low + depth * (high - low))

    def _column(self, index: int, where: Vectors) -> float:
        slot = (self.slots[index % len(self.slots)] + 0.5 + 0.15 * where[0]) / len(self.slots)
        spread = 0.16 * self._size(0.5) * np.sqrt(len(self.slots))
        packed = self.center + spread * where[1]
        overlap = self.config.overlap
        return float((1 - overlap) * slot * self.config.width + overlap * packed)


def _clamp(value: float, low: float, high: float) -> float:
    """Clamp to [low, high], or to the centre if the person is too large for the image."""
    return min(max(value, low), high) if low <= high else (low + high) / 2
