"""Messages about wrong settings of a config."""

from __future__ import annotations

import difflib
import typing
from dataclasses import is_dataclass
from typing import Any, Literal

from .values import shorten

# Settings of version 0.1 -> their names now, for the message about an unknown setting.
RENAMED = {
    'loop.exclusive': 'loop.resolve_overlaps',
    'loop.hidden_share': 'loop.max_covered_fraction',
    'segmenter.draw_prompts': 'segmenter.mask_prompt_from_keypoints',
    'segmenter.min_hole': 'segmenter.max_hole_area',
    'segmenter.min_island': 'segmenter.min_component_area',
    'segmenter.min_island_share': 'segmenter.min_component_fraction',
    'segmenter.own_box': 'segmenter.prompt_with_mask_box',
    'segmenter.zoom': 'segmenter.crop_segmentation',
}


def describe_unknown(key: str, place: str, known: list[str]) -> str:
    """Describe an unknown setting, with its new name or the most similar known one."""
    full = f'{place}.{key}' if place else key
    renamed = f' (renamed to {RENAMED[full]!r})' if full in RENAMED else ''
    return (
        f'unknown setting {shorten(full)}{renamed or nearest(key, known)}; '
        f'known: {", ".join(sorted(known))}'
    )


def describe_wrong_type(place: str, options: tuple[Any, ...], value: Any) -> str:
    """Describe a setting whose value has none of the types ``options``."""
    off = ' (off is None, never False)' if value is False and type(None) in options else ''
    return f'{place} must be {_describe_types(options)}, got {shorten(value)}{off}'


def nearest(word: str, known: list[str]) -> str:
    """Suggest the most similar known word; '' without one."""
    match = difflib.get_close_matches(word, known, n=1)
    return f' (did you mean {match[0]!r}?)' if match else ''


def _describe_types(options: tuple[Any, ...]) -> str:
    words: list[str] = []
    for option in options:
        if typing.get_origin(option) is Literal:
            words += [repr(v) for v in typing.get_args(option)]
        else:
            words.append(_name_of(option))
    return ' or '.join(words)


def _name_of(option: Any) -> str:
    if option == tuple[str, ...]:
        return 'a list of texts'
    if is_dataclass(option):
        return 'a dict'
    return 'None' if option is type(None) else str(option.__name__)
