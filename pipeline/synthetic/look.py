"""Sample the look of synthetic people: colours, clothes, hair, hats and bags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from .canvas import Color, Material, Pattern

Hair = Literal['short', 'long', 'bun', 'afro', 'bald']
Hat = Literal['none', 'cap', 'beanie', 'sunhat']
Bag = Literal['none', 'backpack', 'handbag', 'satchel']
Sleeves = Literal['none', 'short', 'long']
Bottom = Literal['trousers', 'shorts', 'skirt']

SKINS: tuple[Color, ...] = (
    (255, 224, 196),
    (244, 204, 170),
    (229, 184, 143),
    (205, 152, 109),
    (172, 118, 78),
    (141, 92, 60),
    (104, 66, 44),
    (78, 50, 36),
)
HAIRS: tuple[Color, ...] = (
    (30, 24, 22),
    (52, 36, 28),
    (84, 54, 34),
    (128, 82, 44),
    (190, 144, 82),
    (224, 190, 128),
    (150, 62, 36),
    (150, 150, 152),
    (222, 222, 220),
)
CLOTHES: tuple[Color, ...] = (
    (214, 60, 56),
    (240, 132, 52),
    (248, 200, 74),
    (94, 168, 84),
    (38, 120, 104),
    (62, 134, 202),
    (40, 66, 140),
    (122, 82, 168),
    (226, 128, 170),
    (240, 238, 230),
    (168, 172, 178),
    (58, 60, 68),
    (150, 108, 74),
    (120, 190, 208),
)
BOTTOMS: tuple[Color, ...] = (
    (44, 58, 100),
    (70, 96, 142),
    (48, 48, 54),
    (92, 94, 100),
    (176, 156, 120),
    (104, 78, 56),
    (74, 90, 62),
    (228, 222, 208),
    (126, 44, 52),
)
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)


@dataclass(frozen=True)
class Look:
    """Clothes and colours of one person."""

    skin: Material
    hair: Material
    hair_style: Hair
    top: Material
    sleeves: Sleeves
    bottom: Material
    bottom_style: Bottom
    shoes: Material
    hat: Hat
    hat_material: Material
    bag: Bag
    bag_material: Material
    bag_side: int  # 0 left, 1 right
    glasses: bool
    beard: bool
    tucked: bool


def sample_look(rng: np.random.Generator) -> Look:
    """Sample clothes; the random draws are independent of each other."""
    hair_style: Hair = rng.choice(get_args(Hair), p=[0.44, 0.28, 0.1, 0.1, 0.08])
    bottom_style: Bottom = rng.choice(get_args(Bottom), p=[0.64, 0.18, 0.18])
    top = _cloth(rng, CLOTHES, p_plain=0.4)
    bottom = _cloth(rng, BOTTOMS, p_plain=0.75)
    dress = rng.random() < 0.5
    beard = rng.random() < 0.25
    return Look(
        skin=Material(_color(rng, SKINS, 6)),
        hair=_shaded(_color(rng, HAIRS, 8), 'noise'),
        hair_style=hair_style,
        top=top,
        sleeves=rng.choice(get_args(Sleeves), p=[0.15, 0.45, 0.4]),
        bottom=top if bottom_style == 'skirt' and dress else bottom,
        bottom_style=bottom_style,
        shoes=Material(_color(rng, CLOTHES, 20)),
        hat=rng.choice(get_args(Hat), p=[0.68, 0.14, 0.1, 0.08]),
        hat_material=Material(_color(rng, CLOTHES, 20)),
        bag=rng.choice(get_args(Bag), p=[0.58, 0.16, 0.12, 0.14]),
        bag_material=_shaded(_color(rng, CLOTHES, 25), 'gradient'),
        bag_side=int(rng.integers(2)),
        glasses=bool(rng.random() < 0.2),
        beard=bool(beard and hair_style != 'long' and bottom_style != 'skirt'),
        tucked=bool(rng.random() < 0.35),
    )


def _cloth(rng: np.random.Generator, palette: tuple[Color, ...], p_plain: float) -> Material:
    # No gradient on trousers: it would restart on each limb.
    patterns = [p for p in PATTERNS if p != 'gradient' or palette is CLOTHES]
    pattern = patterns[int(rng.integers(len(patterns)))]
    period = float(rng.uniform(0.016, 0.04))
    plain = rng.random() < p_plain
    first, second = _color(rng, palette, 14), _color(rng, palette, 14)
    return Material(first, second, 'plain' if plain else pattern, period)


def _shaded(color: Color, pattern: Pattern) -> Material:
    """Material that varies between a colour and a darker tone of it."""
    r, g, b = color
    return Material(color, (0.6 * r, 0.6 * g, 0.6 * b), pattern, 0.03)


def _color(rng: np.random.Generator, palette: tuple[Color, ...], spread: float) -> Color:
    base = np.asarray(palette[int(rng.integers(len(palette)))], np.float64)
    r, g, b = np.clip(base + rng.normal(0, spread, 3), 8, 250).tolist()
    return r, g, b
