"""Draw synthetic crowds with exact boxes, masks and keypoints; equal seeds give equal bytes.

Legend: N people, from the farthest to the nearest; image of H x W px. Coordinates are continuous:
pixel (r, c) covers [c, c + 1) x [r, r + 1). Masks include clothes, hat and bag.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..masks import Masks
from .background import draw_background
from .canvas import Layer
from .figure import SHADOW, Figure
from .layout import STREAM_BACKGROUND, STREAM_CAMERA, Layout, SceneConfig

__all__ = ['Scene', 'SceneConfig', 'make_demo_scene', 'make_scene']

# Maximum number of annotations per image in the ids of `Scene.to_coco`.
IDS_PER_IMAGE = 1000
HIDDEN, COVERED, VISIBLE = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Scene:
    """A synthetic image with its ground truth."""

    image: npt.NDArray[np.uint8]  # (H, W, 3) RGB
    instance_map: npt.NDArray[np.int16]  # (H, W) 0 = background, i + 1 = person i
    boxes: npt.NDArray[np.float32]  # (N, 4) xyxy px, tight around the visible mask
    amodal_boxes: npt.NDArray[np.float32]  # (N, 4) xyxy px of the whole person; may exceed H x W
    keypoints: npt.NDArray[np.float32]  # (N, 17, 2) px in COCO order; may lie outside of the image
    visibility: npt.NDArray[np.int8]  # (N, 17) 0 = outside, 1 = covered, 2 = visible
    depth_order: npt.NDArray[np.int32]  # (N,) 0 = nearest
    ground_points: npt.NDArray[np.float32]  # (N, 2) px between the feet; may lie outside
    standing_heights: npt.NDArray[np.float32]  # (N,) px that a standing adult has at this place
    # (N, N) fraction of the pixels of person j inside the image that person i hides, at [i, j]
    occlusion: npt.NDArray[np.float32]
    visible_fractions: npt.NDArray[np.float32]  # (N,) of the pixels inside the image

    def __len__(self) -> int:
        return len(self.boxes)

    def mask(self, i: int) -> npt.NDArray[np.bool_]:
        """Return the visible mask (H, W) of person ``i``.

        Raises:
            IndexError: there is no person ``i``.
        """
        if not 0 <= i < len(self):
            raise IndexError(f'person {i} of a scene with {len(self)} people; count from 0')
        return np.asarray(self.instance_map == i + 1)

    @property
    def masks(self) -> Masks:
        """Visible masks of all people, as crops."""
        places = [
            (x1, y1, self.instance_map[y1:y2, x1:x2] == i + 1)
            for i, (x1, y1, x2, y2) in enumerate(self.boxes.astype(int).tolist())
        ]
        height, width = self.instance_map.shape
        return Masks.from_places(height, width, places)

    def to_coco(self, image_id: int, file_name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Convert to a COCO ``images`` row and ``annotations`` rows (ids: 1000 * image_id + i + 1).

        Keypoints with visibility 0 are written as 0, 0; boxes are xywh; masks are RLE.
        """
        height, width = self.instance_map.shape
        image = {'id': image_id, 'file_name': file_name, 'width': width, 'height': height}
        rows, masks = [], self.masks
        areas = masks.areas.astype(int).tolist()
        for i, rle in enumerate(masks.to_rle()):
            x1, y1, x2, y2 = self.boxes[i].tolist()
            flags = self.visibility[i][:, None]
            points = np.concatenate([self.keypoints[i] * (flags > HIDDEN), flags], axis=1)
            rows.append({
                'id': image_id * IDS_PER_IMAGE + i + 1,
                'image_id': image_id,
                'category_id': 1,
                'iscrowd': 0,
                'bbox': [x1, y1, x2 - x1, y2 - y1],
                'area': areas[i],
                'segmentation': rle,
                'keypoints': [int(v) if v == int(v) else v for v in points.ravel().tolist()],
                'num_keypoints': int((flags > HIDDEN).sum()),
            })  # fmt: skip
        return image, rows


def make_scene(config: SceneConfig) -> Scene:
    """Draw a scene.

    The number of people is between ``min_people`` and ``max_people``, or lower if the image is too
    small. People below ``min_visible`` are replaced by others.
    """
    layout = Layout.sample(config)
    blockers = layout.blockers()
    shape = config.height, config.width
    planned = [layout.person(i) for i in range(layout.count)]
    people = select_visible(planned, blockers, shape, config.min_visible)
    for spare in range(layout.count, 4 * layout.count + 8):
        if len(people) >= layout.count:
            break
        candidates = [*people, layout.person(spare)]
        more = select_visible(candidates, blockers, shape, config.min_visible)
        people = max(people, more, key=len)
    rng = np.random.default_rng([config.seed, STREAM_BACKGROUND])
    image = draw_background(rng, config.width, config.height, layout.horizon)
    camera = np.random.default_rng([config.seed, STREAM_CAMERA])
    return compose(image, people, blockers, camera, config.noise)


def compose(
    background: npt.NDArray[np.uint8],
    people: list[Figure],
    blockers: list[Layer],
    camera: np.random.Generator,
    noise: float,
) -> Scene:
    """Paint people, each with a visible pixel, and objects over a background, which is changed."""
    instance_map = _paint(background, people, blockers)
    return _scene(_simulate_camera(background, camera, noise), instance_map, people)


def make_demo_scene() -> Scene:
    """Draw a fixed crowd of eight people with strong overlap, 960 x 640 px."""
    config = SceneConfig(
        width=960, height=640, min_people=8, max_people=8, min_person_height=0.5,
        max_person_height=0.82, overlap=0.5, truncation=0.1, max_blockers=1, min_visible=0.2,
        seed=45,
    )  # fmt: skip
    return make_scene(config)


def select_visible(
    people: list[Figure], blockers: list[Layer], shape: tuple[int, int], min_visible: float
) -> list[Figure]:
    """Select the people with a sufficient visible fraction, from far to near.

    One pass from the nearest to the farthest is exact: removed people do not occlude others.
    """
    taken = np.zeros(shape, bool)
    kept = []
    owners: list[Figure | None] = [*people, *(None for _ in blockers)]
    layers = [*(p.layer for p in people), *blockers]
    for i in sorted(range(len(layers)), key=lambda k: -layers[k].ground):
        target, inside = layers[i].windows(*shape)
        owner = owners[i]
        if owner is not None:
            visible = int((layers[i].person[inside] & ~taken[target]).sum())
            if visible < max(min_visible * owner.area, 1):
                continue
            kept.append(owner)
        taken[target] |= layers[i].person[inside] | layers[i].blocker[inside]
    return kept[::-1]


def _paint(
    image: npt.NDArray[np.uint8], people: list[Figure], blockers: list[Layer]
) -> npt.NDArray[np.int16]:
    """Paint all layers in place from far to near; returns the instance map (H, W)."""
    height, width = image.shape[:2]
    owner = np.zeros((height, width), np.int16)
    numbered = [(p.layer, i + 1) for i, p in enumerate(people)] + [(b, 0) for b in blockers]
    for layer, number in sorted(numbered, key=lambda item: item[0].ground):
        _shadow(image, layer)
        layer.put_on(image)
        target, inside = layer.windows(height, width)
        owner[target][layer.blocker[inside]] = 0
        owner[target][layer.person[inside]] = number
    return owner


def _shadow(image: npt.NDArray[np.uint8], layer: Layer) -> None:
    """Darken the ground below a layer."""
    height, width = image.shape[:2]
    (x, half), y = layer.shadow, layer.ground
    tall = 0.25 * half
    x1, x2 = (int(np.clip(v, 0, width)) for v in (x - half, x + half + 1))
    y1, y2 = (int(np.clip(v, 0, height)) for v in (y - tall, y + tall + 1))
    if x1 == x2 or y1 == y2:
        return
    dx = (np.arange(x1, x2, dtype=np.float32) + 0.5 - x) / half
    dy = (np.arange(y1, y2, dtype=np.float32) + 0.5 - y) / tall
    dark = 1 - 0.5 * np.clip(1 - dx * dx - (dy * dy)[:, None], 0, 1)
    image[y1:y2, x1:x2] = (image[y1:y2, x1:x2] * dark[..., None]).astype(np.uint8)


def _simulate_camera(
    image: npt.NDArray[np.uint8], rng: np.random.Generator, noise: float
) -> npt.NDArray[np.uint8]:
    """Simulate exposure, lens blur, sensor noise and JPEG blocks; geometry does not change."""
    gain, tint = rng.uniform(0.85, 1.1), rng.normal(0, 0.025, 3)
    sigma, grain, quality = rng.uniform(0, 0.7), rng.uniform(1, 4), int(rng.integers(75, 96))
    if noise == 0:
        return image
    image = np.asarray(cv2.transform(image, np.diag(gain * (1 + tint))), np.uint8)
    if sigma * noise > 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma * noise), np.uint8)
    # The sum of four random bytes approximates a normal distribution and is faster to sample.
    raw = rng.integers(0, 256, (4, *image.shape[:2]), np.uint8)
    dust = raw.sum(0, dtype=np.int16).astype(np.float32) - 510
    dust = np.clip(dust * (grain * noise / 148) + 128, 0, 255).astype(np.uint8)
    image = np.asarray(cv2.addWeighted(image, 1.0, cv2.merge([dust] * 3), 1.0, -128), np.uint8)
    image_bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    code = cv2.imencode('.jpg', image_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR_RGB), np.uint8)


def _scene(
    image: npt.NDArray[np.uint8], instance_map: npt.NDArray[np.int16], people: list[Figure]
) -> Scene:
    height, width = instance_map.shape
    count = len(people)
    boxes = np.zeros((count, 4), np.float32)
    visibility = np.zeros((count, 17), np.int8)
    owned = np.zeros((count + 1, count), np.float32)  # pixels of person j that i owns
    for i, person in enumerate(people):
        (rows, cols), inside = person.layer.windows(height, width)
        mask = instance_map[rows, cols] == i + 1
        owners = instance_map[rows, cols][person.layer.person[inside]]
        owned[:, i] = np.bincount(owners, minlength=count + 1)
        ys, xs = np.flatnonzero(mask.any(1)) + rows.start, np.flatnonzero(mask.any(0)) + cols.start
        boxes[i] = xs[0], ys[0], xs[-1] + 1, ys[-1] + 1
        x, y = np.floor(person.keypoints).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        on_mask = instance_map[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)] == i + 1
        visibility[i] = np.where(inside, np.where(on_mask & person.open, VISIBLE, COVERED), HIDDEN)
    shares = owned[1:] / np.maximum(owned.sum(0), 1)
    own = np.diag(shares).copy()
    np.fill_diagonal(shares, 0)
    feet = [(p.layer.shadow[0], p.layer.ground, p.layer.shadow[1] / SHADOW) for p in people]
    ground = np.array(feet, np.float32).reshape(-1, 3)
    return Scene(
        image=image,
        instance_map=instance_map,
        boxes=boxes,
        amodal_boxes=np.array([p.box for p in people], np.float32).reshape(-1, 4),
        keypoints=np.array([p.keypoints for p in people], np.float32).reshape(-1, 17, 2),
        visibility=visibility,
        depth_order=np.arange(count, dtype=np.int32)[::-1].copy(),
        ground_points=ground[:, :2],
        standing_heights=ground[:, 2],
        occlusion=shares,
        visible_fractions=own,
    )
