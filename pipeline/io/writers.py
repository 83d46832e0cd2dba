"""Outputs with one file per photo. Another one: a class here and a line in `WRITERS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import PIL.Image

from ..keypoints import COCO_FLIP, COCO_NAMES, COCO_SIGMAS, COCO_SKELETON
from ..structures import Image, People
from .atomic import dump_json

JPEG_QUALITY = 92


@dataclass(frozen=True)
class FinishedImage:
    """What a writer may need: the people, and the picture if it asks for it."""

    people: People
    image: Callable[[], Image]  # (H, W, 3) RGB uint8; reads the file at the first call


class ImageWriter(Protocol):
    """Turns a photo into the content of a file ``folder/<name of the photo><suffix>``."""

    folder: str
    suffix: str
    needs_image: bool

    def render(self, done: FinishedImage) -> bytes:
        """Content of the file."""


class OverlayWriter:
    """JPEG of the photo with boxes, masks and skeletons."""

    folder = 'visualizations'
    suffix = '.jpg'
    needs_image = True

    def render(self, done: FinishedImage) -> bytes:
        """JPEG, RGB, as large as the upright photo."""
        picture = PIL.Image.fromarray(done.people.draw(done.image()))
        return _encoded(picture, 'JPEG', quality=JPEG_QUALITY)


class MaskWriter:
    """PNG of 16 bits: 0 background, otherwise the ``id`` of the person in the prediction."""

    folder = 'masks'
    suffix = '.png'
    needs_image = False

    def render(self, done: FinishedImage) -> bytes:
        """16-bit grey PNG, as large as the upright photo."""
        masks = done.people.masks
        owners = np.zeros(done.people.image_shape, np.uint16)
        # From the last to the first: where a config lets masks overlap, the earlier person shows.
        for i, crop in reversed(list(enumerate(masks.crops))):
            owners[masks.window(i)][crop] = i + 1
        return _encoded(PIL.Image.fromarray(owners), 'PNG')


class MMPoseWriter:
    """JSON with the layout of MMPose's inferencer and demos.

    As there, ``bbox`` is a list that holds one box (x1, y1, x2, y2) and ``bbox_score`` the score of
    the detector. Additions: ``score`` of the whole person, ``keypoints_visible`` and
    ``keypoints_probs`` (presence), named as in `People.to_data_sample`.
    """

    folder = 'mmpose'
    suffix = '.json'
    needs_image = False

    def render(self, done: FinishedImage) -> bytes:
        """JSON text, UTF-8."""
        people = done.people
        rows = [
            {
                'keypoints': people.keypoints[i].tolist(),
                'keypoint_scores': people.keypoint_scores[i].tolist(),
                'bbox': [people.boxes[i].tolist()],
                'bbox_score': float(people.box_scores[i]),
                'score': float(people.scores[i]),
                'keypoints_visible': people.visibility[i].tolist(),
                'keypoints_probs': people.presence[i].tolist(),
            }
            for i in range(len(people))
        ]
        content = {'meta_info': mmpose_meta(people.num_keypoints), 'instance_info': rows}
        return (dump_json(content) + '\n').encode()


def mmpose_meta(num_keypoints: int) -> dict[str, Any]:
    """The part of MMPose's ``dataset_meta`` that describes the points, as JSON content."""
    names = keypoint_names(num_keypoints)
    meta: dict[str, Any] = {
        'num_keypoints': num_keypoints,
        'keypoint_id2name': dict(enumerate(names)),
        'keypoint_name2id': {name: i for i, name in enumerate(names)},
    }
    if names == COCO_NAMES:
        meta |= {
            'dataset_name': 'coco',
            'flip_indices': list(COCO_FLIP),
            'skeleton_links': [list(bone) for bone in COCO_SKELETON],
            'sigmas': COCO_SIGMAS.tolist(),
        }
    return meta


def keypoint_names(num_keypoints: int) -> tuple[str, ...]:
    """COCO names for 17 points, numbers for other sets."""
    if num_keypoints == len(COCO_NAMES):
        return COCO_NAMES
    return tuple(f'keypoint_{i}' for i in range(num_keypoints))


def output_path(out_dir: Path, writer: ImageWriter, name: str) -> Path:
    """Where ``writer`` puts the photo ``name``."""
    return out_dir / writer.folder / f'{name}{writer.suffix}'


def _encoded(picture: PIL.Image.Image, kind: str, **options: int) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


WRITERS: dict[str, ImageWriter] = {
    'overlay': OverlayWriter(),
    'masks': MaskWriter(),
    'mmpose': MMPoseWriter(),
}
