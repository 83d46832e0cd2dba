"""Files of tracks: MOTChallenge, MOTS, COCO video, PoseTrack18, CVAT, trajectories.

Each writer takes the frames of one video in order and keeps one of them in memory, except where
the format groups rows by identity.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from ..arrays import Floats
from ..boxes import xywh_to_xyxy, xyxy_to_xywh
from ..io.atomic import write_json, write_text
from ..io.dataset_writers import CATEGORY
from ..masks import Masks
from ..structures import People
from .tracks import TrackRows

MOTS_PEDESTRIAN = 2
INSTANCES_PER_CLASS = 1000
POSETRACK_KEYPOINTS = (
    'nose', 'head_bottom', 'head_top', 'left_ear', 'right_ear', 'left_shoulder', 'right_shoulder',
    'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist', 'left_hip', 'right_hip', 'left_knee',
    'right_knee', 'left_ankle', 'right_ankle',
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class TrackedPeople:
    """The people of one frame with identities.

    Attributes:
        index: of the frame, from 0.
        seconds: timestamp.
        people: N people.
        track_ids: (N,) from 1; -1 for people without a track.
    """

    index: int
    seconds: float
    people: People
    track_ids: npt.NDArray[np.int64]

    @property
    def tracked(self) -> tuple[People, npt.NDArray[np.int64]]:
        """People with a track, and their ids."""
        rows = self.track_ids > 0
        return self.people.select(rows), self.track_ids[rows]

    def to_rows(self) -> TrackRows:
        """Boxes of the people with a track."""
        rows = np.flatnonzero(self.track_ids > 0)
        return TrackRows(
            np.full(len(rows), self.index), np.full(len(rows), self.seconds),
            self.track_ids[rows], self.people.boxes[rows], self.people.scores[rows],
            rows.astype(np.int32),
        )  # fmt: skip


@dataclass(frozen=True)
class VideoSize:
    """Facts about the whole video that some formats contain."""

    name: str
    height: int
    width: int
    num_frames: int
    fps: float


def write_mot(path: Path, rows: TrackRows) -> None:
    """MOTChallenge text: frame (from 1), id, left, top, width, height, score, -1, -1, -1."""
    boxes_xywh = xyxy_to_xywh(rows.boxes)
    lines = (
        f'{frame + 1},{track},{x:.2f},{y:.2f},{w:.2f},{h:.2f},{score:.4f},-1,-1,-1\n'
        for frame, track, (x, y, w, h), score in zip(
            rows.frames.tolist(), rows.track_ids.tolist(), boxes_xywh.tolist(),
            rows.scores.tolist(), strict=True,
        )
    )  # fmt: skip
    write_text(path, ''.join(lines))


def read_mot(path: Path, fps: float = 25.0) -> TrackRows:
    """Rows of a MOTChallenge file of results, or of people to evaluate in a ground truth.

    A ground truth has a class in column 8: rows of other classes than 1, the pedestrian, and rows
    with the flag 0 in column 7 are dropped. Boxes are xyxy px, frames count from 0.

    Raises:
        ValueError: A line is not at least six numbers.
    """
    table = []
    for number, line in enumerate(path.read_text('utf-8', 'replace').splitlines(), start=1):
        if not line.strip():
            continue
        try:
            values = [float(v) for v in line.replace(',', ' ').split()]
        except ValueError:
            values = []
        if len(values) < 6 or not all(abs(v) < 2**31 for v in values[:8]) or values[0] < 1:
            raise ValueError(
                f'{path}, line {number}: {line[:60]!r} is not a row "frame, id, left, top, width, '
                'height, ..." of MOTChallenge with frames from 1'
            )
        score, kind = (*values[6:8], *(1.0, -1.0)[max(len(values) - 6, 0) :])[:2]
        if kind in (-1, 1) and (kind == -1 or score != 0):
            table.append([*values[:6], score if kind == -1 else 1.0])
    rows = np.array(table, np.float64).reshape(-1, 7)
    frames = rows[:, 0].astype(np.int64) - 1
    return TrackRows(
        frames, frames / fps, rows[:, 1].astype(np.int64), xywh_to_xyxy(rows[:, 2:6]),
        rows[:, 6].astype(np.float32), np.full(len(rows), -1, np.int32),
    )  # fmt: skip


def write_mots(path: Path, frames: Iterable[TrackedPeople]) -> None:
    """MOTS text: frame (from 1), class * 1000 + id, class (2), height, width, RLE."""
    lines = []
    for frame in frames:
        people, ids = frame.tracked
        for track, rle in zip(ids.tolist(), people.masks.to_rle(), strict=True):
            lines.append(mots_line(frame.index, track, rle))
    write_text(path, ''.join(lines))


def mots_line(frame: int, track_id: int, rle: dict[str, Any]) -> str:
    """Row of a MOTS file for a mask in a frame, from 0."""
    number = MOTS_PEDESTRIAN * INSTANCES_PER_CLASS + track_id
    row = frame + 1, number, MOTS_PEDESTRIAN, *rle['size'], rle['counts']
    return ' '.join(map(str, row)) + '\n'


def read_mots(path: Path) -> Iterator[tuple[int, npt.NDArray[np.int64], Masks]]:
    """Frame (from 0), ids (N,) and masks of each frame of a MOTS file; regions to ignore left out.

    Raises:
        ValueError: A line is not a row of a MOTS file.
    """
    rows = defaultdict(list)
    for number, line in enumerate(path.read_text('utf-8', 'replace').splitlines(), start=1):
        parts = line.split(' ')
        if len(parts) != 6 or not all(re.fullmatch('[0-9]{1,9}', part) for part in parts[:5]):
            raise ValueError(
                f'{path}, line {number}: {line[:60]!r} is not a row "frame id class height width '
                'rle" of MOTS'
            )
        if int(parts[2]) == MOTS_PEDESTRIAN:
            rows[int(parts[0]) - 1].append(parts)
    for frame in sorted(rows):
        shape = int(rows[frame][0][3]), int(rows[frame][0][4])
        rles = [{'size': list(shape), 'counts': parts[5]} for parts in rows[frame]]
        ids = np.array([int(parts[1]) for parts in rows[frame]], np.int64)
        yield frame, ids, Masks.from_rle(rles, shape)


def write_coco_video(path: Path, frames: Iterable[TrackedPeople], size: VideoSize) -> None:
    """COCO video (YouTube-VIS) results: one entry per identity with a mask per frame or null."""
    masks: dict[int, list[Any]] = defaultdict(lambda: [None] * size.num_frames)
    scores = defaultdict(list)
    for position, frame in enumerate(frames):
        people, ids = frame.tracked
        for track, rle, score in zip(
            ids.tolist(), people.masks.to_rle(), people.scores.tolist(), strict=True
        ):
            masks[track][position] = rle
            scores[track].append(score)
    rows = [
        {
            'video_id': 1,
            'category_id': CATEGORY['id'],
            'track_id': track,
            'score': round(float(np.mean(scores[track])), 5),
            'segmentations': masks[track],
        }
        for track in sorted(masks)
    ]
    write_json(path, rows)


def write_posetrack(path: Path, frames: Iterable[TrackedPeople], size: VideoSize) -> None:
    """PoseTrack18 JSON: images with frame_id and vid_id; annotations with track_id and keypoints.

    COCO's eyes have no place there. Head bottom and head top are estimated as in MMPose's
    conversion of results: between the shoulders and the nose, and beyond the nose.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for frame in frames:
        image_id = 10_000_000_000 + frame.index
        images.append({
            'id': image_id, 'frame_id': image_id, 'vid_id': size.name,
            'file_name': f'{size.name}/{frame.index:06d}.jpg',
            'width': size.width, 'height': size.height, 'nframes': size.num_frames,
            'is_labeled': True,
        })  # fmt: skip
        people, ids = frame.tracked
        points, scores = to_posetrack(people.keypoints, people.keypoint_scores)
        boxes_xywh = xyxy_to_xywh(people.boxes)
        for i, track in enumerate(ids.tolist()):
            flat = np.concatenate([points[i], np.ones((17, 1))], axis=1).ravel()
            annotations.append({
                'id': len(annotations) + 1, 'image_id': image_id, 'track_id': track,
                'category_id': CATEGORY['id'], 'iscrowd': 0,
                'bbox': [round(float(v), 2) for v in boxes_xywh[i]],
                'keypoints': [round(float(v), 2) for v in flat],
                'scores': [round(float(v), 5) for v in scores[i]],
                'score': round(float(people.scores[i]), 5),
            })  # fmt: skip
    category = {
        'id': CATEGORY['id'], 'name': 'person', 'supercategory': 'person',
        'keypoints': list(POSETRACK_KEYPOINTS),
    }  # fmt: skip
    write_json(path, {'images': images, 'annotations': annotations, 'categories': [category]})


def to_posetrack(keypoints: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """PoseTrack18's keypoints (N, 17, 2) px and scores (N, 17) from COCO's."""
    nose, shoulders = keypoints[:, 0], keypoints[:, 5:7].mean(1)
    bottom, top = (nose + shoulders) / 2, nose + (nose - shoulders) * 0.7
    low = np.minimum(scores[:, 0], scores[:, 5:7].min(1))[:, None]
    points = np.concatenate(
        [keypoints[:, :1], bottom[:, None], top[:, None], keypoints[:, 3:17]], axis=1
    )
    return points, np.concatenate([scores[:, :1], low, low, scores[:, 3:17]], axis=1)


def write_cvat(path: Path, rows: TrackRows, size: VideoSize) -> None:
    """CVAT for video 1.1: one track of boxes per identity; filled gaps are marked as occluded."""
    root = ElementTree.Element('annotations')
    ElementTree.SubElement(root, 'version').text = '1.1'
    for track in np.unique(rows.track_ids).tolist():
        part = rows.select(rows.track_ids == track)
        element = ElementTree.SubElement(root, 'track', id=str(track), label='person')
        for i, frame in enumerate(part.frames.tolist()):
            filled = part.person_rows[i] < 0
            _add_box(element, frame, part.boxes[i], occluded=bool(filled))
            ends = i + 1 == len(part) or part.frames[i + 1] > frame + 1
            if ends and frame + 1 < size.num_frames:
                _add_box(element, frame + 1, part.boxes[i], outside=True)
    ElementTree.indent(root)
    write_text(path, ElementTree.tostring(root, 'unicode', xml_declaration=True) + '\n')


def _add_box(
    track: ElementTree.Element, frame: int, box: Floats, *, occluded: bool = False,
    outside: bool = False,
) -> None:  # fmt: skip
    names = zip(('xtl', 'ytl', 'xbr', 'ybr'), box.tolist(), strict=True)
    ElementTree.SubElement(track, 'box', {
        'frame': str(frame), 'keyframe': '1', 'outside': str(int(outside)),
        'occluded': str(int(occluded)), 'z_order': '0',
        **{name: f'{value:.2f}' for name, value in names},
    })  # fmt: skip


def write_trajectories(path: Path, rows: TrackRows, fps: float) -> None:
    """PeTrack text: id, frame, x, y, z of the point between the feet, in px of the image."""
    feet = np.stack([rows.boxes[:, [0, 2]].mean(1), rows.boxes[:, 3]], axis=1)
    lines = [f'# framerate: {fps:g} fps\n', '# id frame x/px y/px z/px\n']
    order = np.lexsort((rows.frames, rows.track_ids))
    lines += [
        f'{rows.track_ids[i]} {rows.frames[i]} {feet[i, 0]:.3f} {feet[i, 1]:.3f} 0\n'
        for i in order.tolist()
    ]
    write_text(path, ''.join(lines))
