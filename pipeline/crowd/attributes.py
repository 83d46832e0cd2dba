"""Attributes of each person of an image: where they stand, who hides them, where they look.

Every attribute comes from box, mask and pose of the people of one image. It is NaN where its
evidence is missing. Legend: N people, K keypoints; pixels of the upright image.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from ..boxes import box_centers, max_neighbour_iou
from ..keypoints import COCO_NAMES
from ..structures import People, Rows
from .occlusion import PRESENT, Bodies, Occlusion, find_occlusion

Doubles = npt.NDArray[np.float64]
VISIBLE = 0.5  # probability from which a keypoint counts as visible
# Lengths relative to the height of an upright person (Drillis and Contini 1966).
ANKLE_HEIGHT = 0.039
SHOULDER_BREADTH = 0.258
EDGE = 2.0  # px: what is nearer to the edge of the image touches it
FACE = slice(0, 5)
LEFT_SHOULDER, RIGHT_SHOULDER = (COCO_NAMES.index(f'{s}_shoulder') for s in ('left', 'right'))
ANKLES = [COCO_NAMES.index(f'{s}_ankle') for s in ('left', 'right')]


class GroundSource(IntEnum):
    """What a ground point comes from."""

    NONE = 0  # no evidence: the point is empty
    ANKLES = 1  # both ankles are visible
    ANKLE = 2  # one ankle is visible
    COVERED = 3  # ankles are in the image but hidden; the pose model places them
    MASK = 4  # lowest mask pixel, away from the edge of the image and from other people
    HEAD = 5  # head, with a camera and an assumed height
    BOX = 6  # bottom of the box; only for tracks that have nothing but boxes
    GIVEN = 7  # trajectories from a file, or points of the user


@dataclass(frozen=True, eq=False)
class PersonTable(Rows):
    """One row per person and image or frame; NaN is empty."""

    images: npt.NDArray[np.int64]  # (M,) number of the image, or index of the frame of a video
    seconds: Doubles  # (M,) time of the frame; NaN for images
    track_ids: npt.NDArray[np.int64]  # (M,) -1 without a track
    person_ids: npt.NDArray[np.int64]  # (M,) from 1 in its image, as in the other files of a run
    scores: Doubles  # (M,) instance score
    boxes: Doubles  # (M, 4) xyxy px
    ground_px: Doubles  # (M, 2) x, y px of the point between the feet on the ground
    ground_sources: npt.NDArray[np.int32]  # (M,) of `GroundSource`
    head_px: Doubles  # (M, 2) mean of the visible keypoints of the face
    height_px: Doubles  # (M,) height of the upright body, from the longest visible limbs
    orientation_deg: Doubles  # (M,) 0 faces the camera, 90 the right of the image, -90 the left
    visible_fraction: Doubles  # (M,) of the body inside the image
    max_iou: Doubles  # (M,) with the box of another person
    neighbours: Doubles  # (M,) people whose box centre is nearer than a body height
    density_per_height2: Doubles  # (M,) people per squared body height, around the person
    occluders: npt.NDArray[np.object_]  # (M,) tuples: person ids of those who hide this person
    occluded: npt.NDArray[np.object_]  # (M,) tuples: person ids of those whom this person hides
    depth_order: npt.NDArray[np.int64]  # (M,) 0 is the nearest of the image
    ground_m: Doubles  # (M, 2) x, y m; NaN without a camera

    @classmethod
    def of_length(cls, length: int, **columns: Any) -> PersonTable:
        """Rows with the given columns; the others are empty."""
        none = np.empty(length, object)
        none[:] = [()] * length
        empty: dict[str, Any] = dict.fromkeys(cls.__dataclass_fields__, np.full(length, np.nan))
        pairs = np.full((length, 2), np.nan)
        empty |= dict.fromkeys(('ground_px', 'head_px', 'ground_m'), pairs)
        empty |= {'boxes': np.full((length, 4), np.nan), 'occluders': none, 'occluded': none}
        missing = np.full(length, -1, np.int64)
        empty |= dict.fromkeys(('track_ids', 'depth_order'), missing)
        empty['person_ids'] = np.arange(1, length + 1)
        empty['images'] = np.zeros(length, np.int64)
        empty['ground_sources'] = np.zeros(length, np.int32)
        return cls(**(empty | columns))


def measure_people(
    people: People,
    image: int = 0,
    seconds: float = np.nan,
    track_ids: npt.NDArray[np.int64] | None = None,
) -> tuple[PersonTable, Occlusion]:
    """Attributes of the people of one image, and who hides whom.

    Args:
        people: with COCO's keypoints.
        image: number of the image or frame.
        seconds: time of the frame.
        track_ids: (N,) identities, -1 without one.

    Raises:
        ValueError: The keypoints of the people do not include COCO's 17.
    """
    kept = people.keypoint_set
    if not kept.has_coco:
        raise ValueError(
            f'crowd attributes need the 17 keypoints of COCO; these people have those of '
            f'{kept.name} ({kept.num}): use a pose model with COCO keypoints'
        )
    number = len(people)
    bodies = Bodies.of(people)
    ground, sources = find_ground(people, bodies)
    occlusion = find_occlusion(people, bodies, ground[:, 1])
    neighbours, density = count_neighbours(people, bodies.heights)
    table = PersonTable.of_length(
        number,
        images=np.full(number, image, np.int64),
        seconds=np.full(number, seconds, np.float64),
        track_ids=np.full(number, -1, np.int64) if track_ids is None else track_ids,
        scores=people.scores.astype(np.float64),
        boxes=people.boxes.astype(np.float64),
        ground_px=ground,
        ground_sources=sources,
        head_px=find_heads(bodies),
        height_px=bodies.heights,
        orientation_deg=find_orientations(bodies),
        visible_fraction=occlusion.visible_fractions,
        max_iou=max_neighbour_iou(people.boxes).astype(np.float64),
        neighbours=neighbours,
        density_per_height2=density,
        occluders=_ids(occlusion.hides.T),
        occluded=_ids(occlusion.hides),
        depth_order=occlusion.depth_order,
    )
    return table, occlusion


def find_ground(people: People, bodies: Bodies) -> tuple[Doubles, npt.NDArray[np.int32]]:
    """Ground points (N, 2) px and their sources (N,) of `GroundSource`.

    A point lies below the mean of the ankles by the height of an ankle above the sole.
    """
    points = np.full((len(people), 2), np.nan)
    sources = np.full(len(people), GroundSource.NONE, np.int32)
    present = bodies.present[:, ANKLES]
    visible = present & (bodies.visibility[:, ANKLES] >= VISIBLE)
    for i in range(len(people)):
        ankles = bodies.points[i, ANKLES]
        if visible[i].any() and present[i].all():
            both = visible[i].all()
            sources[i] = GroundSource.ANKLES if both else GroundSource.ANKLE
            points[i] = ankles.mean(0)
        elif visible[i].any():
            sources[i] = GroundSource.ANKLE
            points[i] = ankles[visible[i]][0]
        elif present[i].any():
            sources[i] = GroundSource.COVERED
            points[i] = ankles[present[i]].mean(0)
        elif (lowest := _lowest_free_pixel(people, i)) is not None:
            sources[i] = GroundSource.MASK
            points[i] = lowest
    soles = ANKLE_HEIGHT * np.nan_to_num(bodies.heights)
    points[:, 1] += np.where(sources == GroundSource.MASK, 0, soles)
    return points, sources


def _lowest_free_pixel(people: People, i: int) -> tuple[float, float] | None:
    """Middle of the lowest row of mask i; None if it touches an edge or another person."""
    masks, crop = people.masks, people.masks.crops[i]
    if not crop.size:
        return None
    rows, columns = masks.window(i)
    on = np.flatnonzero(crop[-1]) + columns.start
    near_edge = columns.start < EDGE or columns.stop > masks.width - EDGE
    if near_edge or rows.stop > masks.height - EDGE:
        return None
    left, right = int(on[0]), int(on[-1]) + 1
    around = (
        slice(max(rows.stop - 2, 0), rows.stop + 2),
        slice(max(left - 2, 0), min(right + 2, masks.width)),
    )
    others = (j for j in range(len(people)) if j != i)
    if any(masks.crop(j, around).any() for j in others):
        return None
    return (left + right) / 2, float(rows.stop)


def find_heads(bodies: Bodies) -> Doubles:
    """Mean (N, 2) px of the visible keypoints of each face; NaN without one."""
    seen = bodies.present[:, FACE] & (bodies.visibility[:, FACE] >= VISIBLE)
    count = seen.sum(1)[:, None]
    total = (bodies.points[:, FACE] * seen[..., None]).sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def find_orientations(bodies: Bodies) -> Doubles:
    """Direction (N,) in degrees that each person faces: 0 the camera, 90 the right of the image.

    The projected width of the shoulders, relative to the height, gives the angle; the face gives
    the side. NaN without both shoulders, without a keypoint of the face or without a height.
    """
    shoulders = bodies.points[:, [LEFT_SHOULDER, RIGHT_SHOULDER]]
    width = shoulders[:, 0, 0] - shoulders[:, 1, 0]
    angle = np.degrees(np.arccos(np.clip(width / (SHOULDER_BREADTH * bodies.heights), -1, 1)))
    face = bodies.present[:, FACE]
    toward = (bodies.points[:, FACE, 0] * face).sum(1) / np.maximum(face.sum(1), 1)
    side = np.where(toward >= shoulders[..., 0].mean(1), 1, -1)
    known = bodies.present[:, [LEFT_SHOULDER, RIGHT_SHOULDER]].all(1) & face.any(1)
    return np.asarray(np.where(known, side * angle, np.nan))


def count_neighbours(people: People, heights: Doubles) -> tuple[Doubles, Doubles]:
    """Neighbours (N,) nearer than one body height, and people (N,) per squared body height.

    Distances are those of the box centres. The density counts the person too and divides by the
    part of the circle that lies in the image. NaN for people without a body height.
    """
    import shapely

    centers = box_centers(people.boxes).astype(np.float64)
    apart = np.linalg.norm(centers[:, None] - centers[None], axis=2)
    near = (apart < np.nan_to_num(heights)[:, None]).sum(1) - (heights > 0)
    circles = shapely.buffer(shapely.points(centers), np.nan_to_num(heights))
    height, width = people.image_shape
    inside = shapely.area(shapely.intersection(circles, shapely.box(0, 0, width, height)))
    known = (heights > 0) & (inside > 0)
    square = np.where(known, inside / np.maximum(heights, 1e-9) ** 2, 1)
    return np.where(known, near, np.nan), np.where(known, (near + 1) / square, np.nan)


def _ids(matrix: npt.NDArray[np.bool_]) -> npt.NDArray[np.object_]:
    """Person ids of the True columns of each row."""
    rows = np.empty(len(matrix), object)
    rows[:] = [tuple((np.flatnonzero(row) + 1).tolist()) for row in matrix]
    return rows


def compute_crowd_index(people: People) -> float:
    """Crowd index of CrowdPose: mean of (joints of others in my box) / (my joints).

    NaN without a person who has a joint in the image.
    """
    kept = people.keypoint_set
    points, present = kept.view(people.keypoints), kept.view(people.presence) >= PRESENT
    boxes = people.boxes[:, None, None]
    inside = ((points >= boxes[..., :2]) & (points <= boxes[..., 2:])).all(-1) & present
    counts = inside.sum(2)  # (box, owner)
    own = present.sum(1)
    foreign = counts.sum(1) - np.diag(counts)
    counted = own > 0
    return float((foreign[counted] / own[counted]).mean()) if counted.any() else float('nan')
