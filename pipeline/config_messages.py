"""Messages about configs that cannot be read, and about wrong settings."""

from __future__ import annotations

import difflib
import os
import typing
from dataclasses import is_dataclass
from types import TracebackType
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


def describe_failure(path: str, error: BaseException) -> str:
    """Describe why the config ``path`` cannot be read, with the file and line of its mistake."""
    place, cause = _place(os.path.abspath(path), error.__traceback__), error
    if not place.startswith(os.path.abspath(path)):
        place = f'{path}: {place}'  # a base
    while other := cause.__cause__ or (isinstance(cause, SyntaxError) and cause.__context__):
        cause = other  # MMEngine adds the search path, or the name of its copy
    if isinstance(cause, SyntaxError):
        return f'{place}:{cause.lineno}: SyntaxError: {cause.msg}'
    if '::' in path:
        known = 'write mmdet::FOLDER/FILE.py or mmpose::FOLDER/FILE.py'
        return f'no config {path!r} in the library ({describe_error(cause)}); {known}'
    return f'{place}: {describe_error(cause)}'


def _place(path: str, trace: TracebackType | None) -> str:
    """Return file and line of the config that fails; MMEngine copies it to a temporary file."""
    file, line = path, 0
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name == '_file2dict':
            file, line = str(frame.f_locals.get('filename', file)), 0
        elif frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f'{file}:{line}' if line else file


def describe_error(error: BaseException) -> str:
    """Describe an error in a line: its type and the start of its message."""
    if isinstance(error, MemoryError):  # Python's parser raises it without a text
        return 'nested too deeply, or larger than the memory'
    lines = str(error).strip().splitlines() or ['no reason given']
    return f'{type(error).__name__}: {shorten(lines[0])[1:-1] if len(lines[0]) > 200 else lines[0]}'
