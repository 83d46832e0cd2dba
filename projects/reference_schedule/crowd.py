"""A made-up crowd of any size, with everything that is true about it.

A handful of figures of `pipeline.synthetic.scene` is drawn once and pasted again and again in
rows, from far to near, so that a crowd of 300 on 12 megapixels takes about a second.

Legend: N people, image of H x W px.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.masks import Masks
from pipeline.structures import Detections, Floats, Image
from pipeline.synthetic.scene import SceneConfig, make_scene

_NUM_FIGURES = 6
_FIGURE_SIDE = 512  # px of the image that a figure is cut from
_ASPECT = 0.45  # width of a standing person over the height
_COVER = 1.5  # boxes of all people together over the image
_MAX_HEIGHT = 0.6  # of the image
_MIN_CLICKS = 3


@dataclass(frozen=True, eq=False)
class Crowd:
    """An image and its people; person i is found in round ``i % rounds + 1``."""

    image: Image  # (H, W, 3) RGB
    boxes: Floats  # (N, 4) xyxy px, tight around the visible mask
    masks: Masks  # N visible masks, disjoint
    keypoints: Floats  # (N, 17, 2) px
    visible: npt.NDArray[np.bool_]  # (N, 17); at least three of each person
    rounds: int

    def __len__(self) -> int:
        return len(self.boxes)

    def detections(self) -> list[Detections]:
        """What a detector that sees everything says in each round."""
        scores = np.full(len(self), 0.9, np.float32)
        people = Detections(self.boxes, scores, self.masks)
        rows = np.arange(len(self))
        return [people.select(rows[r :: self.rounds]) for r in range(self.rounds)]

    def rows_of(self, boxes: Floats) -> npt.NDArray[np.int64]:
        """Which people boxes (M, 4) belong to, each an exact copy of one of ``boxes``; (M,)."""
        known = {box.tobytes(): i for i, box in enumerate(self.boxes)}
        return np.array([known[box.tobytes()] for box in boxes], np.int64)


@dataclass(frozen=True, eq=False)
class _Figure:
    pixels: Image  # (h, w, 3)
    mask: npt.NDArray[np.uint8]  # (h, w) 0 or 1
    keypoints: Floats  # (17, 2) as shares of width and height
    visible: npt.NDArray[np.bool_]  # (17,)


def person_height(width: int, height: int, people: int) -> float:
    """Height in px that lets so many people overlap at all sizes of a crowd alike."""
    fitting = math.sqrt(_COVER * width * height / (_ASPECT * max(people, 1)))
    return min(fitting, _MAX_HEIGHT * height)


def make_crowd(
    width: int,
    height: int,
    people: int,
    rounds: int = 1,
    *,
    tall: float | None = None,
    seed: int = 0,
) -> Crowd:
    """Draw a crowd.

    Args:
        width: of the image, px.
        height: of the image, px.
        people: N; all of them are seen, at least in part.
        rounds: rounds that find them, each an equal part.
        tall: height of a person in px; None: `person_height`.
        seed: equal seeds give equal bytes.
    """
    rng = np.random.default_rng(seed)
    figures = [_draw_figure(1000 * seed + k) for k in range(_NUM_FIGURES)]
    image = _background(rng, width, height)
    owner = np.full((height, width), -1, np.int32)
    tall = tall or person_height(width, height, people)
    points = np.zeros((people, 17, 2), np.float32)
    open_ = np.zeros((people, 17), bool)
    for i, (x, y) in enumerate(_places(rng, width, height, people, tall)):
        figure = figures[i % _NUM_FIGURES]
        points[i] = _paste(image, owner, figure, i, x, y, tall)
        open_[i] = figure.visible
    masks = _masks(owner, people)
    x, y = np.floor(points).astype(int).transpose(2, 0, 1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    seen = owner[y.clip(0, height - 1), x.clip(0, width - 1)] == np.arange(people)[:, None]
    visible = open_ & inside & seen
    _click_on_what_is_seen(points, visible, masks, rng)
    return Crowd(image, masks.boxes, masks, points, visible, rounds)


def _draw_figure(seed: int) -> _Figure:
    settings = SceneConfig(
        width=_FIGURE_SIDE, height=_FIGURE_SIDE, min_people=1, max_people=1,
        min_person_height=0.85, max_person_height=0.9, truncation=0.0, max_blockers=0, seed=seed,
    )  # fmt: skip
    scene = make_scene(settings)
    x1, y1, x2, y2 = scene.boxes[0].astype(int).tolist()
    part = slice(y1, y2), slice(x1, x2)
    size = np.array([x2 - x1, y2 - y1], np.float32)
    return _Figure(
        scene.image[part],
        (scene.instance_map[part] == 1).astype(np.uint8),
        ((scene.keypoints[0] - [x1, y1]) / size).astype(np.float32),
        scene.visibility[0] == 2,
    )


def _background(rng: np.random.Generator, width: int, height: int) -> Image:
    coarse = rng.integers(60, 200, (9, 12, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _places(
    rng: np.random.Generator, width: int, height: int, people: int, tall: float
) -> list[tuple[float, float]]:
    """Top middle of each person, row after row from far to near, px."""
    lines = max(round((people * _ASPECT * height / width) ** 0.5), 1)
    columns = -(-people // lines)
    steps = np.arange(people)
    x = (steps % columns + 0.5 + rng.uniform(-0.15, 0.15, people)) * width / columns
    room = max(height - tall, 0.0)
    y = (steps // columns) / max(lines - 1, 1) * room if lines > 1 else np.full(people, room / 2)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _paste(
    image: Image, owner: npt.NDArray[np.int32], figure: _Figure, i: int, x: float, y: float,
    tall: float,
) -> Floats:  # fmt: skip
    """Put a figure on the image; returns its keypoints (17, 2) px."""
    h = max(round(tall), 4)
    w = max(round(tall * figure.mask.shape[1] / figure.mask.shape[0]), 2)
    left, top = round(x - w / 2), round(y)
    pixels = cv2.resize(figure.pixels, (w, h), interpolation=cv2.INTER_AREA)
    mask = cv2.resize(figure.mask, (w, h), interpolation=cv2.INTER_NEAREST).astype(bool)
    height, width = owner.shape
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + w, width), min(top + h, height)
    target, inside = (slice(y1, y2), slice(x1, x2)), (slice(y1 - top, y2 - top),
                                                      slice(x1 - left, x2 - left))  # fmt: skip
    on = mask[inside]
    image[target][on] = pixels[inside][on]
    owner[target][on] = i
    return (figure.keypoints * [w, h] + [left, top]).astype(np.float32)


def _masks(owner: npt.NDArray[np.int32], people: int) -> Masks:
    """Visible boxes in one pass over the pixels that belong to a person."""
    rows, cols = np.nonzero(owner >= 0)
    person = owner[rows, cols]
    low = np.full((people, 2), np.iinfo(np.int32).max, np.int64)
    high = np.zeros((people, 2), np.int64)
    for axis, values in enumerate((cols, rows)):
        np.minimum.at(low[:, axis], person, values)
        np.maximum.at(high[:, axis], person, values + 1)
    hidden = np.flatnonzero(high[:, 0] == 0)
    if len(hidden):
        raise ValueError(
            f'{len(hidden)} of {people} people are hidden by others; '
            'give fewer people, a larger image or a smaller `tall`'
        )
    places = [
        (x1, y1, owner[y1:y2, x1:x2] == i)
        for i, ((x1, y1), (x2, y2)) in enumerate(zip(low.tolist(), high.tolist(), strict=True))
    ]
    height, width = owner.shape
    return Masks.from_places(height, width, places)


def _click_on_what_is_seen(
    points: Floats, visible: npt.NDArray[np.bool_], masks: Masks, rng: np.random.Generator
) -> None:
    """Moves the first keypoints of people with too few visible ones onto their mask, in place."""
    for i in np.flatnonzero(visible.sum(1) < _MIN_CLICKS).tolist():
        rows, cols = np.nonzero(masks.crops[i])
        chosen = rng.integers(0, len(rows), _MIN_CLICKS)
        points[i, :_MIN_CLICKS] = masks.offsets[i] + np.stack([cols[chosen], rows[chosen]], 1) + 0.5
        visible[i] = False
        visible[i, :_MIN_CLICKS] = True
