"""Training photos for a promptable person segmenter: crops, pasted people, exact visible masks.

Only people with a mask are targets. Most photos show one of them, so people cut out of other photos
are pasted next to (and over) them: both then have exact visible masks, which the photos alone do
not offer. Photos are decoded on demand: all of them in memory would take
about 0.7 GB.

Legend: S canvas side in px, n people on the canvas, K keypoints (COCO order).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

FloatArray = NDArray[np.float32]
_LEFT_RIGHT = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
_PADDING_COLOR = (124, 116, 104)


@dataclass(frozen=True)
class Person:
    """One annotated person: photo, box xyxy px, RLE mask, keypoints (K, 3) with x, y, v."""

    photo: Path
    box: FloatArray
    rle: dict[str, object]
    keypoints: FloatArray


@dataclass(frozen=True)
class Canvas:
    """A training image.

    Attributes:
        image: RGB, uint8 (S, S, 3).
        masks: Visible pixels of each person, bool (n, S, S), no pixel in two of them.
        keypoints: (n, K, 3) with x, y in canvas px and 1 where labelled and not hidden, else 0.
        person_free: The rest of the photo shows nobody: a point there has no object.
    """

    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    keypoints: FloatArray
    person_free: bool


@dataclass(frozen=True)
class AugmentConfig:
    """Shares in [0, 1] of the kinds of canvas.

    Attributes:
        paste_prob: Canvases of an annotated photo with one or two people pasted in.
        background_prob: Canvases of a person-free photo with one to three people pasted in.
        whole_photo_prob: Annotated photos seen whole rather than cropped around a person.
        min_area: Smallest visible mask as a share of the canvas.
    """

    paste_prob: float = 0.5
    background_prob: float = 0.15
    whole_photo_prob: float = 0.35
    min_area: float = 6e-4


def load_people(annotation_file: Path, subset: str) -> list[list[Person]]:
    """People with a mask of their own, grouped by photo.

    Args:
        annotation_file: COCO JSON whose images also name their `subset`; paths in it are relative
            to its folder.
        subset: 'train' or 'val'.

    Raises:
        ValueError: No person of this subset has a mask.
    """
    content = json.loads(annotation_file.read_text())
    photos = {item['id']: item for item in content['images'] if item['subset'] == subset}
    groups: dict[int, list[Person]] = {}
    for item in content['annotations']:
        merged = item['iscrowd'] or item.get('merged_people', False)
        if item['image_id'] not in photos or not item['has_mask'] or merged:
            continue
        x, y, width, height = item['bbox']
        keypoints = np.zeros((17, 3), np.float32)
        if item['has_keypoints']:
            keypoints = np.asarray(item['keypoints'], np.float32).reshape(-1, 3)
        person = Person(
            photo=annotation_file.parent / photos[item['image_id']]['file_name'],
            box=np.array([x, y, x + width, y + height], np.float32),
            rle=item['segmentation'],
            keypoints=keypoints,
        )
        groups.setdefault(item['image_id'], []).append(person)
    if not groups:
        raise ValueError(f'{annotation_file} has no person with a mask in subset {subset!r}')
    return list(groups.values())


def read_photo(path: Path) -> NDArray[np.uint8]:
    """Reads a photo as RGB uint8 (H, W, 3)."""
    image_bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image_bgr is None:
        raise FileNotFoundError(f'cannot read the photo {path}')
    return np.ascontiguousarray(image_bgr[..., ::-1])


def read_mask(person: Person) -> NDArray[np.uint8]:
    """Decodes the mask of a person, uint8 (H, W), 255 inside."""
    mask: NDArray[np.uint8] = np.ascontiguousarray(coco_mask.decode(person.rle)) * np.uint8(255)
    return mask


class CanvasSampler:
    """Draws random training canvases from photos with people and from person-free photos."""

    def __init__(
        self, photos: list[list[Person]], backgrounds: list[Path], config: AugmentConfig
    ) -> None:
        self._photos = photos
        self._people = [person for group in photos for person in group]
        self._backgrounds = backgrounds
        self._config = config

    def sample(self, rng: np.random.Generator, size: int) -> Canvas:
        """Draws until at least one person is visible on the canvas."""
        while True:
            canvas = self._draw(rng, size)
            if len(canvas.masks):
                return canvas

    def _draw(self, rng: np.random.Generator, size: int) -> Canvas:
        person_free = bool(self._backgrounds) and rng.random() < self._config.background_prob
        if person_free:
            group: list[Person] = []
            photo = read_photo(self._backgrounds[rng.integers(len(self._backgrounds))])
            height = float(photo.shape[0]) * rng.uniform(0.25, 0.9)
            centre = rng.uniform(0.3, 0.7, 2) * photo.shape[1::-1]
            anchor = np.array([*(centre - height / 2), *(centre + height / 2)], np.float32)
            pastes = int(rng.integers(1, 4))
        else:
            group = self._photos[rng.integers(len(self._photos))]
            photo = read_photo(group[0].photo)
            anchor = group[rng.integers(len(group))].box
            pastes = int(rng.integers(1, 3)) if rng.random() < self._config.paste_prob else 0
        whole = person_free or rng.random() < self._config.whole_photo_prob
        affine = _crop_affine(rng, photo.shape[:2], anchor, size, whole)
        image = _warp(photo, affine, size, _PADDING_COLOR)
        masks = [_warp(read_mask(person), affine, size, (0, 0, 0)) > 127 for person in group]
        keypoints = [_move_keypoints(person.keypoints, affine, size) for person in group]
        for _ in range(pastes):
            self._paste(rng, image, masks, keypoints, affine, anchor)
        image = _jitter_color(rng, image)
        keep = [mask.mean() >= self._config.min_area for mask in masks]
        stacked = np.array(masks, bool).reshape(-1, size, size)[keep]
        visible = np.array(keypoints, np.float32).reshape(-1, 17, 3)[keep]
        return Canvas(image, stacked, visible, person_free)

    def _paste(
        self,
        rng: np.random.Generator,
        image: NDArray[np.uint8],
        masks: list[NDArray[np.bool_]],
        keypoints: list[FloatArray],
        affine: FloatArray,
        anchor: FloatArray,
    ) -> None:
        """Pastes one random person near `anchor` in front of the others, in place."""
        person = self._people[rng.integers(len(self._people))]
        size = image.shape[0]
        extent, target = person.box[2:] - person.box[:2], anchor[2:] - anchor[:2]
        if min(extent) < 8:
            return
        # Relative size in source pixels of the base photo; the canvas stretch applies to both.
        scale = float(np.sqrt(target.prod() / extent.prod())) * np.exp(rng.uniform(-0.6, 0.35))
        offset = rng.uniform([-0.8, -0.35], [0.8, 0.35]) * (target + scale * extent) / 2
        centre = (anchor[:2] + anchor[2:]) / 2 + offset
        move = np.eye(3, dtype=np.float32)
        move[0, 0], move[1, 1] = scale * (1 if rng.random() < 0.5 else -1), scale
        move[:2, 2] = centre - np.diag(move)[:2] * (person.box[:2] + person.box[2:]) / 2
        full = (np.vstack([affine, [0, 0, 1]]) @ move)[:2].astype(np.float32)
        soft = cv2.GaussianBlur(_warp(read_mask(person), full, size, (0, 0, 0)), (3, 3), 0)
        cut = soft > 127
        hides_too_much = any((mask & cut).sum() > 0.7 * mask.sum() > 0 for mask in masks)
        if hides_too_much or cut.mean() < self._config.min_area:
            return
        alpha = (soft[..., None] / np.float32(255)).astype(np.float32)
        pasted = _jitter_color(rng, _warp(read_photo(person.photo), full, size, _PADDING_COLOR))
        image[:] = (pasted * alpha + image * (1 - alpha)).astype(np.uint8)
        for row, mask in enumerate(masks):
            masks[row] = mask & ~cut
            x, y = np.clip(keypoints[row][:, :2].astype(int), 0, size - 1).T
            keypoints[row][cut[y, x], 2] = 0
        masks.append(cut)
        keypoints.append(_move_keypoints(person.keypoints, full, size))


def _crop_affine(
    rng: np.random.Generator,
    photo_hw: tuple[int, ...],
    anchor: FloatArray,
    size: int,
    whole: bool,
) -> FloatArray:
    """Affine (2, 3) from photo px to canvas px: a random view, half of them mirrored."""
    extent = np.array([photo_hw[1], photo_hw[0]], np.float32)
    if whole:
        view = extent * rng.uniform(0.85, 1.0)
        corner = rng.uniform(0, 1, 2) * (extent - view)
    else:
        side = float(max(anchor[2:] - anchor[:2])) * np.exp(rng.uniform(np.log(1.05), np.log(3.0)))
        stretch = np.exp(rng.uniform(-0.2, 0.2))
        view = np.array([side * stretch, side / stretch]).clip(48, extent * 1.15)
        corner = (anchor[:2] + anchor[2:] - view) / 2 + rng.uniform(-0.25, 0.25, 2) * view
        # A view that fits is kept inside the photo, a larger one is padded evenly at random.
        low, high = np.minimum(0, extent - view), np.maximum(0, extent - view)
        corner = np.clip(corner, low, high)
    scale = size / view
    affine = np.array(
        [[scale[0], 0, -corner[0] * scale[0]], [0, scale[1], -corner[1] * scale[1]]], np.float32
    )
    if rng.random() < 0.5:
        affine[0] = -affine[0]
        affine[0, 2] += size - 1
    return affine


def _move_keypoints(keypoints: FloatArray, affine: FloatArray, size: int) -> FloatArray:
    """Moves keypoints to the canvas; those unlabelled or outside get 0 as third value."""
    xy = keypoints[:, :2] @ affine[:, :2].T + affine[:, 2]
    inside = ((xy >= 0) & (xy < size)).all(axis=1)
    labelled = (keypoints[:, 2] > 0) & inside
    moved = np.concatenate([xy, labelled[:, None]], axis=1).astype(np.float32)
    return moved[_LEFT_RIGHT] if affine[0, 0] < 0 else moved


def _warp(
    image: NDArray[np.uint8], affine: FloatArray, size: int, border: tuple[int, int, int]
) -> NDArray[np.uint8]:
    warped = cv2.warpAffine(image, affine, (size, size), flags=cv2.INTER_LINEAR, borderValue=border)
    return np.asarray(warped, np.uint8)


def _jitter_color(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Random gain per channel, contrast and brightness by one lookup table per channel."""
    levels = np.arange(256, dtype=np.float32)
    contrast, brightness = rng.uniform(0.75, 1.25), rng.uniform(-25, 25)
    gains = rng.uniform(0.9, 1.1, 3)
    table = (levels[:, None] - 128) * contrast * gains + 128 + brightness
    lookup = table.clip(0, 255).astype(np.uint8)[None]
    return np.asarray(cv2.LUT(image, lookup), np.uint8)
