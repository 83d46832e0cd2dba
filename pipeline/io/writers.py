"""Outputs with one file per image; to add one, add a function and an entry in `WRITERS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image

from ..candidates import Candidates
from ..masks import Masks
from ..structures import Image, People
from ..visualization.style import DrawingStyle
from .atomic import dump_json, remove

JPEG_QUALITY = 92
JPEG_MAX_SIDE = 65_500  # px; the format's limit is a little higher


@dataclass(frozen=True)
class FinishedImage:
    """People of an image, with its pixels."""

    people: People
    image: Callable[[], Image]  # (H, W, 3) RGB uint8; reads the file at the first call
    style: DrawingStyle | None = None  # of the overlay
    candidates: Candidates | None = None  # None: predicted by an earlier run


@dataclass(frozen=True)
class ImageWriter:
    """Writer of the file ``folder/<output name><suffix>``."""

    folder: str
    suffix: str
    render: Callable[[FinishedImage], bytes]  # returns the content of the file
    needs_image: bool = False
    of_candidates: bool = False  # does not depend on the minimum score or on the style


def render_overlay(done: FinishedImage) -> bytes:
    """Draw on the upright image; an RGB JPEG of its size, or of `JPEG_MAX_SIDE`."""
    overlay = PIL.Image.fromarray(done.people.draw(done.image(), done.style))
    if max(overlay.size) > JPEG_MAX_SIDE:
        overlay.thumbnail((JPEG_MAX_SIDE, JPEG_MAX_SIDE))
    return _encode(overlay, 'JPEG', quality=JPEG_QUALITY)


def render_masks(done: FinishedImage) -> bytes:
    """Encode a 16-bit PNG of the upright image: 0 is background, else the ``person_id``."""
    masks = done.people.masks
    ids = np.zeros(done.people.image_shape, np.uint16)
    # In reverse order: if masks overlap, the first person wins.
    for i, crop in reversed(list(enumerate(masks.crops))):
        ids[masks.window(i)][crop] = i + 1
    return _encode(PIL.Image.fromarray(ids), 'PNG')


def render_mmpose(done: FinishedImage) -> bytes:
    """Encode JSON with the layout of MMPose's inferencer and demos, in UTF-8.

    ``bbox`` is a list of one box (x1, y1, x2, y2), ``bbox_score`` the detector score. Additional
    keys, named like in `People.to_data_sample`: ``score`` of the person, ``keypoints_visible`` and
    ``keypoints_probs`` (presence).
    """
    from .mmpose_json import mmpose_content  # only --save mmpose needs it

    return (dump_json(mmpose_content(done.people)) + '\n').encode()


def render_rounds(done: FinishedImage) -> bytes:
    """Encode JSON for the report; an empty object if an earlier run predicted the people.

    ``masks``: RLE before overlaps were resolved, of each candidate in descending order of score;
    ``painted``: RLE of the black pixels in the detector's image of round 2, 3, ...
    """
    found, content = done.candidates, {}
    if found is not None and found.raw_masks is not None:
        unions = (masks.union() for masks in found.painted)
        painted = Masks.from_dense(unions, found.people.image_shape)
        content = {'masks': found.raw_masks.to_rle(), 'painted': painted.to_rle()}
    return (dump_json(content) + '\n').encode()


def output_path(out_dir: Path, writer: ImageWriter, output: str) -> Path:
    """Path of the file of ``writer`` for the image with this output name."""
    return out_dir / writer.folder / f'{output}{writer.suffix}'


def _encode(pil_image: PIL.Image.Image, format_name: str, **options: int) -> bytes:
    buffer = BytesIO()
    pil_image.save(buffer, format_name, **options)
    return buffer.getvalue()


WRITERS = {
    'overlay': ImageWriter('visualizations', '.jpg', render_overlay, needs_image=True),
    'masks': ImageWriter('masks', '.png', render_masks),
    'mmpose': ImageWriter('mmpose', '.json', render_mmpose),
    'report': ImageWriter('rounds', '.json', render_rounds, of_candidates=True),
}


def remove_outputs(out_dir: Path, output: str, *, of_candidates: bool = True) -> None:
    """Remove the files of an image, except its record and, by choice, those of all candidates."""
    for writer in WRITERS.values():
        if of_candidates or not writer.of_candidates:
            remove(output_path(out_dir, writer, output))
