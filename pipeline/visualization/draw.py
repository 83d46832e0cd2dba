"""Draw people on an image: box, mask and skeleton, one colour per person.

Legend: N people, K keypoints, H x W image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Image
from ..boxes import box_areas
from ..keypoints import KeypointSet
from .palette import Colours, choose_colours, identity_colours
from .style import DrawingStyle, Labels

if TYPE_CHECKING:
    from .drawable import Drawable

_Colour = tuple[int, int, int]

_DARK: _Colour = (24, 24, 28)
_WHITE: _Colour = (255, 255, 255)
_LEFT: _Colour = (0, 255, 0)
_RIGHT: _Colour = (255, 128, 0)
_VISIBLE = 0.5  # minimum visibility of a visible keypoint
_SMALL = 0.5  # width of the bones and dots beside COCO's 17 keypoints, such as those of a hand
_SHIFT = 4  # fractional bits of the fixed-point coordinates of OpenCV
_ONE = 1 << _SHIFT


@dataclass(frozen=True)
class _Widths:
    """Line widths in px for one person in one image; a limb may be a fraction of a pixel wide."""

    limb: float
    rim: float  # dark line on either side of a limb
    contour: int
    box: int
    zoom: int  # scale at which the skeletons of small people are drawn, then downsampled


def draw_people(
    image: Image,
    people: Drawable,
    style: DrawingStyle | None = None,
    track_ids: npt.NDArray[np.int64] | None = None,
) -> Image:
    """Draw ``people`` on a copy of ``image``.

    Each person has one colour that differs clearly from the colours of neighbouring people; colours
    are deterministic. Line widths depend on the sizes of person and image. A hollow dot is a hidden
    keypoint (visibility below 0.5). A dashed box is the detector's, where the mask reaches out of
    it. Small people are drawn last.

    Args:
        image: (H, W, 3) uint8 RGB; not modified.
        people: N people of this image; 0 people give an unchanged copy.
        style: None: the default style.
        track_ids: (N,) from 1: an identity has the same colour in every frame, and its id is the
            label; None: the colours are those of the image alone.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: ``image`` is not an RGB uint8 image, or its size differs from ``people``.
    """
    _check(image, people)
    style = style or DrawingStyle()
    canvas = np.ascontiguousarray(image).copy()
    colours = choose_colours(people.boxes) if track_ids is None else identity_colours(track_ids)
    widths = [_widths(box, people.image_shape, style.line_width) for box in people.boxes]
    order = _large_first(people.boxes)
    shown = _shown(people, style.keypoint_threshold)
    if style.hide != 'none':
        from .privacy import hide_people

        hide_people(canvas, people, style.hide, shown, colours)
    if 'masks' in style.layers:
        for i in order:
            _draw_mask(canvas, people, i, colours, widths[i], style.alpha)
    if 'boxes' in style.layers:
        for i in order:
            dashed = 'masks' in style.layers and _reaches_out(people, i)
            _draw_box(canvas, people.boxes[i], _rgb(colours[i]), widths[i].box, dashed=dashed)
    if 'skeletons' in style.layers:
        for i in order:
            bones = list(_bones(people.keypoint_set, shown[i], left_right=style.left_right))
            _draw_skeleton(canvas, people, i, shown[i], _light(colours[i]), widths[i], bones)
    if style.labels != 'none' and order:
        from .labels import draw_labels

        draw_labels(canvas, people, _texts(people, style.labels, track_ids), shown, colours)
    return canvas


def _texts(people: Drawable, labels: Labels, track_ids: npt.NDArray[np.int64] | None) -> list[str]:
    scores = [f'{score:.2f}' for score in people.scores]
    ids = [f'{i}' for i in (np.arange(len(scores)) + 1 if track_ids is None else track_ids)]
    if labels == 'id-score':
        return [f'{i}  {score}' for i, score in zip(ids, scores, strict=True)]
    return scores if labels == 'score' else ids


def _check(image: Image, people: Drawable) -> None:
    if not isinstance(image, np.ndarray):
        raise ValueError(
            f'image must be an array, got {type(image).__name__}; `plot` takes any kind of image'
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f'image must be (H, W, 3) uint8 RGB, got {image.dtype} of shape {image.shape}'
        )
    if image.shape[:2] != people.image_shape:
        raise ValueError(
            f'image is {image.shape[:2]} (H, W), but the people belong to an image of '
            f'{people.image_shape}; draw on the input image of the pipeline'
        )


def _widths(box: Floats, image_shape: tuple[int, int], width: float | None) -> _Widths:
    longest = max(image_shape)
    size = float(np.sqrt(np.prod(np.maximum(box[2:] - box[:2], 0))))
    limb = width or float(np.clip(size * 0.022, 0.8, max(2, longest / 260)))
    contour = int(np.clip(round(size / 150), 1, max(1, longest / 600)))
    return _Widths(
        limb=limb,
        rim=limb * 0.4,
        contour=max(1, round(width / 2)) if width else contour,
        box=max(1, round(width / 2 if width else longest / 1100)),
        zoom=4 if size < 200 else 2 if size < 500 else 1,
    )


def _large_first(boxes: Floats) -> list[int]:
    return [int(i) for i in np.argsort(-box_areas(boxes), kind='stable')]


def _shown(people: Drawable, threshold: float) -> npt.NDArray[np.bool_]:
    """Flags (N, K) of the keypoints to draw."""
    # The fixed-point coordinates of OpenCV overflow far outside the image.
    height, width = people.image_shape
    low, high = np.array([-width, -height]), np.array([2 * width, 2 * height])
    near = ((people.keypoints > low) & (people.keypoints < high)).all(axis=-1)
    confident = (people.keypoint_scores >= threshold) & (people.presence >= threshold)
    return np.asarray(near & confident, np.bool_)


def _draw_mask(
    canvas: Image, people: Drawable, i: int, colours: Colours, widths: _Widths, alpha: float
) -> None:
    crop = people.masks.crops[i]
    if crop.size == 0:
        return
    window = people.masks.window(i)
    region = canvas[window]
    flat = np.full_like(region, colours[i])
    tinted = cv2.addWeighted(region, 1 - alpha, flat, alpha, 0)
    bitmap = crop.astype(np.uint8)
    cv2.copyTo(tinted, bitmap, region)
    # On the pixels of the mask itself, so that the contour of a neighbour stays visible.
    contours, _ = cv2.findContours(np.pad(bitmap, 1), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    corner = (window[1].start - 1, window[0].start - 1)
    cv2.drawContours(
        canvas, contours, -1, _rgb(colours[i]), widths.contour, cv2.LINE_AA, offset=corner
    )


def _reaches_out(people: Drawable, i: int) -> bool:
    """Whether a mask reaches out of the person's box, as it may with ``loop.boxes='detector'``."""
    if people.masks.areas[i] == 0:
        return False
    box, mask_box = people.boxes[i], people.masks.boxes[i]
    beyond = max(*(box[:2] - mask_box[:2]), *(mask_box[2:] - box[2:]))
    return bool(beyond > 2 + 0.02 * (box[2:] - box[:2]).max())


def _draw_box(canvas: Image, box: Floats, colour: _Colour, width: int, *, dashed: bool) -> None:
    height, full_width = canvas.shape[:2]
    corners = np.clip(np.round(box), 0, [full_width - 1, height - 1, full_width - 1, height - 1])
    left, top, right, bottom = (int(v) for v in corners)
    if not dashed:
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, width)
        return
    dash = 6 * width + 2
    for x in range(left, right, 2 * dash):
        for y in (top, bottom):
            cv2.line(canvas, (x, y), (min(x + dash, right), y), colour, width)
    for y in range(top, bottom, 2 * dash):
        for x in (left, right):
            cv2.line(canvas, (x, y), (x, min(y + dash, bottom)), colour, width)


def _draw_skeleton(
    canvas: Image,
    people: Drawable,
    i: int,
    shown: npt.NDArray[np.bool_],
    colour: _Colour,
    widths: _Widths,
    bones: list[tuple[int, int, _Colour | None]],
) -> None:
    window = _window(people.keypoints[i][shown], people.image_shape, 4 * widths.limb + 2)
    if window is None:
        return
    zoom, region = widths.zoom, canvas[window]
    # Upsample by repeating pixels and downsample by averaging: other pixels do not change.
    size = (zoom * region.shape[1], zoom * region.shape[0])
    large: Image = region
    if zoom > 1:
        large = np.asarray(cv2.resize(region, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    # Pixel centres are at integers on both sides.
    corner = np.array([window[1].start, window[0].start])
    points = (people.keypoints[i] - corner + 0.5) * zoom - 0.5
    pen = _Pen(large, colour, widths.limb * zoom, widths.rim * zoom)
    scales = np.full(len(shown), _SMALL)
    scales[people.keypoint_set.compared] = 1
    pen.limbs(
        [(points[a], points[b], own or colour, min(scales[a], scales[b])) for a, b, own in bones]
    )
    visible = people.visibility[i] >= _VISIBLE
    for k in np.flatnonzero(shown):
        pen.dot(points[k], scales[k], hollow=not visible[k])
    if zoom > 1:
        size = (region.shape[1], region.shape[0])
        region[:] = cv2.resize(large, size, interpolation=cv2.INTER_AREA)


def _window(
    points: Floats, image_shape: tuple[int, int], margin: float
) -> tuple[slice, slice] | None:
    """Rows and columns of the image around ``points``, or None if empty."""
    if len(points) == 0:
        return None
    height, width = image_shape
    low = np.clip(np.floor(points.min(0) - margin), 0, [width, height]).astype(int)
    high = np.clip(np.ceil(points.max(0) + margin), 0, [width, height]).astype(int)
    if (high <= low).any():
        return None
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def _bones(
    keypoint_set: KeypointSet, shown: npt.NDArray[np.bool_], *, left_right: bool
) -> Iterator[tuple[int, int, _Colour | None]]:
    """Ends of the visible bones, and their colours if the data set or the side defines any."""
    names = keypoint_set.names
    for (a, b), own in zip_longest(keypoint_set.skeleton, keypoint_set.bone_colours):
        side = {names[k].partition('_')[0] for k in (a, b)} if left_right else set()
        colour = _LEFT if side == {'left'} else _RIGHT if side == {'right'} else own
        if shown[a] and shown[b]:
            yield a, b, colour


@dataclass(frozen=True)
class _Pen:
    """Draws limbs and dots in one colour with a dark rim; lengths are px of ``canvas``."""

    canvas: Image
    colour: _Colour
    limb: float
    rim: float

    def limbs(self, ends: list[tuple[Floats, Floats, _Colour, float]]) -> None:
        """Draw bones: start, end, colour and scale of the width."""
        # Draw all rims first, so that no rim covers a limb of the same person.
        for is_rim, width in ((True, self.limb + 2 * self.rim), (False, self.limb)):
            for start, end, own, scale in ends:
                colour, thickness = _DARK if is_rim else own, max(1, round(width * scale))
                cv2.line(
                    self.canvas, _fixed(start), _fixed(end), colour, thickness, cv2.LINE_AA, _SHIFT
                )

    def dot(self, point: Floats, scale: float, *, hollow: bool) -> None:
        radius = max(self.limb * 1.1 * scale, 1.0)
        self._disc(point, radius + self.rim, _DARK)
        self._disc(point, radius, self.colour if hollow else _WHITE)
        self._disc(point, radius * 0.62, _DARK if hollow else self.colour)

    def _disc(self, point: Floats, radius: float, colour: _Colour) -> None:
        fixed = round(radius * _ONE)
        cv2.circle(self.canvas, _fixed(point), fixed, colour, -1, cv2.LINE_AA, _SHIFT)


def _fixed(point: Floats) -> tuple[int, int]:
    x, y = (point.astype(np.float64) * _ONE).round().astype(int).tolist()
    return x, y


def _rgb(colour: npt.NDArray[np.uint8]) -> _Colour:
    r, g, b = colour.tolist()
    return r, g, b


def _light(colour: npt.NDArray[np.uint8]) -> _Colour:
    """Lighten a colour, so that a skeleton is visible on the mask of the same person."""
    return _rgb((colour + (255 - colour.astype(float)) * 0.25).astype(np.uint8))
