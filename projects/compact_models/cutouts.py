"""Cut-outs of people: images with an alpha channel that can be pasted into other images.

`prepare_cutouts.py` writes them: `cutouts.json`, a list of file names, and the PNG files.

Legend: H, W size of an image; h, w size of a cut-out; a "layer" is a cut-out placed in an image.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from numpy.typing import NDArray

INDEX = 'cutouts.json'
# Alpha at which a pixel counts as the person's.
OPAQUE = 0.5


@dataclass(frozen=True, eq=False)
class Layer:
    """A person placed in an image.

    Attributes:
        image_bgr: (h, w, 3) uint8.
        alpha: (h, w) float32 in [0, 1].
        left: column of the image in which the layer starts; may be negative.
        top: row; may be negative.
    """

    image_bgr: NDArray[np.uint8]
    alpha: NDArray[np.float32]
    left: int
    top: int

    def windows(self, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Rows and columns that layer and image share: in the image, and in the layer."""
        h, w = self.alpha.shape
        top, left = max(self.top, 0), max(self.left, 0)
        bottom, right = min(self.top + h, height), min(self.left + w, width)
        bottom, right = max(bottom, top), max(right, left)
        image = (slice(top, bottom), slice(left, right))
        layer = (
            slice(top - self.top, bottom - self.top),
            slice(left - self.left, right - self.left),
        )
        return image, layer

    def mask_in(self, height: int, width: int) -> NDArray[np.bool_]:
        """(H, W) bool: the person's pixels inside the image."""
        mask = np.zeros((height, width), dtype=np.bool_)
        image, layer = self.windows(height, width)
        mask[image] = self.alpha[layer] >= OPAQUE
        return mask

    def paint_on(self, image_bgr: NDArray[np.uint8]) -> None:
        """Blends the layer over an image (H, W, 3), in place."""
        image, layer = self.windows(*image_bgr.shape[:2])
        alpha = self.alpha[layer][..., None]
        below = image_bgr[image].astype(np.float32)
        mixed = below + alpha * (self.image_bgr[layer].astype(np.float32) - below)
        image_bgr[image] = np.rint(mixed).astype(np.uint8)


class CutoutFolder:
    """Cut-outs in a folder; the index is read when first needed.

    Args:
        folder: holds `cutouts.json` and the PNG files.

    Raises:
        FileNotFoundError: there is no index in the folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / INDEX).is_file():
            raise FileNotFoundError(
                f'no {INDEX} in {self.folder}; write the cut-outs with prepare_cutouts.py'
            )

    @cached_property
    def names(self) -> list[str]:
        """File names, in the order of the index."""
        names: list[str] = json.loads((self.folder / INDEX).read_text())
        return names

    def read(self, name: str) -> NDArray[np.uint8]:
        """One cut-out, (h, w, 4) uint8, BGR and alpha.

        Raises:
            OSError: the file is missing or damaged.
        """
        cutout: Any = cv2.imread(str(self.folder / name), cv2.IMREAD_UNCHANGED)
        if cutout is None or cutout.ndim != 3 or cutout.shape[2] != 4:
            raise OSError(
                f'{self.folder / name} is no PNG with alpha; write the cut-outs again with '
                'prepare_cutouts.py'
            )
        result: NDArray[np.uint8] = cutout
        return result

    def random_person(self, height_px: float) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """A random person of about the given height, perhaps mirrored.

        Never enlarged by more than a half: blurred people would be easy to tell.

        Returns:
            (h, w, 3) uint8 BGR, and alpha (h, w) float32 in [0, 1] with a soft edge.
        """
        cutout = self.read(self.names[np.random.randint(len(self.names))])
        if np.random.random() < 0.5:
            cutout = cutout[:, ::-1]
        scale = min(height_px / cutout.shape[0], 1.5)
        size = [max(2, round(side * scale)) for side in (cutout.shape[1], cutout.shape[0])]
        cutout = cv2.resize(cutout, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        gain = np.random.uniform(0.75, 1.25)
        image = np.clip(cutout[..., :3].astype(np.float32) * gain, 0, 255).astype(np.uint8)
        return image, cutout[..., 3].astype(np.float32) / 255.0


def check_settings(
    owner: str, fractions: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]
) -> None:
    """Check the settings of a random transform.

    Args:
        owner: name of the transform, for the message.
        fractions: settings in [0, 1].
        ranges: settings that are pairs, low to high, above 0.

    Raises:
        ValueError: a setting outside its range.
    """
    for name, value in fractions.items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f'{owner}: {name} = {value}; give a value in [0, 1]')
    for name, pair in ranges.items():
        if not 0.0 < pair[0] <= pair[1]:
            raise ValueError(f'{owner}: {name} = {pair}; give (low, high), 0 < low <= high')


class RandomPaste(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Base of the transforms that paste people into a part of the images.

    Args:
        prob: chance that an image is changed, in [0, 1].
        max_people: largest number of people pasted into an image, at least 1.
        fractions: further settings to check, in [0, 1].
        ranges: further settings to check, pairs above 0, low to high.

    Raises:
        ValueError: a setting outside its range.
    """

    def __init__(
        self,
        prob: float,
        max_people: int,
        fractions: Mapping[str, float],
        ranges: Mapping[str, tuple[float, float]],
    ) -> None:
        name = type(self).__name__
        check_settings(name, {'prob': prob, **fractions}, ranges)
        if max_people < 1:
            raise ValueError(f'{name}: max_people = {max_people}; give 1 or more')
        self.prob = prob
        self.max_people = max_people

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Return the sample as it is, or with 1 to `max_people` people pasted."""
        if np.random.random() >= self.prob:
            return results
        return self.paste(results, np.random.randint(1, self.max_people + 1))

    @abstractmethod
    def paste(self, results: dict[str, Any], count: int) -> dict[str, Any]:
        """Paste ``count`` people."""

    def __repr__(self) -> str:
        return f'{type(self).__name__}(prob={self.prob}, max_people={self.max_people})'


def place_randomly(
    person: tuple[NDArray[np.uint8], NDArray[np.float32]],
    low_xy: tuple[float, float],
    high_xy: tuple[float, float],
) -> Layer:
    """Places the centre of a person uniformly inside a box of the image, px."""
    image, alpha = person
    x, y = np.random.uniform(low_xy, high_xy)
    h, w = alpha.shape
    return Layer(image, alpha, left=round(x - w / 2), top=round(y - h / 2))
