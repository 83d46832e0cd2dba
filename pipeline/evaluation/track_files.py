"""Read tracks and their ground truth from files, and compare the people of each frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from configparser import ConfigParser
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np
import numpy.typing as npt

from ..boxes import box_iou
from ..io.coco_checks import DAMAGE, read_json
from ..io.records import MAX_NUMBER
from ..keypoints import AREA_OF_BOX, COCO_NAMES, COCO_SIGMAS
from ..masks import Masks
from ..structures import Rows
from ..tracking.formats import POSETRACK_KEYPOINTS, read_mot, read_mots
from .track_metrics import FrameMatch

TrackTask = Literal['boxes', 'masks', 'poses']
Ids = npt.NDArray[np.int64]
Array = npt.NDArray[np.float64]
Tracks = dict[int, tuple[Ids, Any]]  # frame -> ids, and what the task compares

# Of PoseTrack18's head bottom and top, as in MMPose; the others are COCO's.
SIGMAS = dict(zip(COCO_NAMES, COCO_SIGMAS.tolist(), strict=True)) | dict.fromkeys(
    ('head_bottom', 'head_top'), 0.079
)
VIDEO_STEP = 1_000_000  # frames and identities of one video
EARS = ('left_ear', 'right_ear')  # not annotated in PoseTrack18


@dataclass(frozen=True)
class SequenceFiles:
    """Files of one sequence; ``num_frames`` is None if ``seqinfo.ini`` is absent."""

    name: str
    results: Path
    ground_truth: Path
    num_frames: int | None


@dataclass(frozen=True, eq=False)
class Poses(Rows):
    """Poses of one frame."""

    ids: Ids  # (N,)
    keypoints: Array  # (N, K, 3) x, y px; labelled if the third is positive
    areas: Array  # (N,) px^2
    names: tuple[str, ...] = field(kw_only=True)  # K

    def oks(self, found: Poses) -> Array:
        """OKS (G, N) of found poses; keypoints that they lack count as wrong."""
        sigmas = np.array([SIGMAS.get(name, 0.079) for name in self.names])
        rows = [found.names.index(n) if n in found.names else -1 for n in self.names]
        points = np.where(np.array(rows)[:, None] < 0, np.inf, found.keypoints[:, rows, :2])
        squared = ((self.keypoints[:, None, :, :2] - points[None]) ** 2).sum(-1)
        spread = 2 * (2 * sigmas) ** 2 * np.maximum(self.areas, 1)[:, None]
        labelled = self.keypoints[:, None, :, 2] > 0
        terms = np.exp(-squared / spread[:, None]) * labelled
        return np.asarray(terms.sum(-1) / np.maximum(labelled.sum(-1), 1))


def find_sequences(results: Path, ground_truth: Path, task: TrackTask) -> list[SequenceFiles]:
    """Pair files of results and ground truth.

    Args:
        results: a file, or a folder of files named after the sequences.
        ground_truth: a file, the folder of a sequence with ``gt/gt.txt``, or a folder of either.
        task: what is compared; for masks, ``gt/mots.txt`` comes before ``gt/gt.txt``.

    Raises:
        ValueError: Files are missing.
    """
    known = _find_ground_truth(ground_truth, task)
    if not known:
        raise ValueError(f'{ground_truth}: no ground truth: neither a file nor gt/gt.txt in it')
    if not results.is_dir():
        if len(known) > 1:
            names = ', '.join(sorted(known)[:5])
            raise ValueError(f'{results} is one file for {len(known)} sequences: {names}')
        found = dict.fromkeys(known, results)
    else:
        suffix = '.json' if task == 'poses' else '.txt'
        found = {name: results / f'{name}{suffix}' for name in known}
    missing = [path for path in (*found.values(), *known.values()) if not path.is_file()]
    if missing:
        raise ValueError(f'{missing[0]}: no such file')
    return [
        SequenceFiles(name, found[name], known[name], _read_length(known[name]))
        for name in sorted(known)
    ]


def _find_ground_truth(path: Path, task: TrackTask) -> dict[str, Path]:
    names = ('gt/mots.txt', 'gt/gt.txt') if task == 'masks' else ('gt/gt.txt',)
    if not path.is_dir():
        return {path.parents[1].name if path.parent.name == 'gt' else path.stem: path}
    for folders in ([path], sorted(p for p in path.iterdir() if p.is_dir())):
        files = [next((f / n for n in names if (f / n).is_file()), None) for f in folders]
        if any(files):
            return {f.resolve().name: file for f, file in zip(folders, files, strict=True) if file}
    return {p.stem: p for p in path.glob('*.json' if task == 'poses' else '*.txt')}


def _read_length(ground_truth: Path) -> int | None:
    """The ``seqLength`` of the ``seqinfo.ini`` that belongs to a file."""
    parser = ConfigParser()
    parser.read([ground_truth.parents[1] / 'seqinfo.ini', ground_truth.parent / 'seqinfo.ini'])
    return parser.getint('Sequence', 'seqLength', fallback=None)


def read_sequence(files: SequenceFiles, task: TrackTask) -> list[FrameMatch]:
    """Read a sequence and compare the people of every frame.

    Raises:
        ValueError: A file is invalid, or names a frame after the end of the sequence.
    """
    read, compare = TASKS[task]
    truth, found = read(files.ground_truth), read(files.results)
    if task == 'poses':
        truth, found = _keep_labelled(truth, found)
    for path, tracks in ((files.ground_truth, truth), (files.results, found)):
        _check(path, tracks, files.num_frames)
    empty = np.zeros(0, np.int64), None
    matches = []
    for frame in sorted(truth | found):
        true_ids, people = truth.get(frame, empty)
        ids, results = found.get(frame, empty)
        similarity: Array = np.zeros((len(true_ids), len(ids)))
        if len(true_ids) and len(ids):
            similarity = np.asarray(compare(people, results), np.float64)
        matches.append(FrameMatch(true_ids, ids, similarity))
    return matches


def join_sequences(sequences: Sequence[Sequence[FrameMatch]]) -> list[FrameMatch]:
    """Frames of all sequences as one, whose identities differ."""
    joined: list[FrameMatch] = []
    start = 0
    for frames in sequences:
        joined += [FrameMatch(f.true_ids + start, f.ids + start, f.similarity) for f in frames]
        start += 1 + max((int(i) for f in frames for i in (*f.true_ids, *f.ids)), default=0)
    return joined


def _check(path: Path, tracks: Tracks, num_frames: int | None) -> None:
    last = max(tracks, default=0)
    if num_frames is not None and last >= num_frames:
        raise ValueError(
            f'{path}: frame {last + 1} lies after the end; seqinfo.ini has {num_frames} frames'
        )
    for frame, (ids, _) in tracks.items():
        values, counts = np.unique(ids, return_counts=True)
        if (counts > 1).any():
            raise ValueError(
                f'{path}: frame {frame + 1} has the id {values[counts > 1][0]} more than once'
            )


def _read_boxes(path: Path) -> Tracks:
    rows = read_mot(path)
    order = np.argsort(rows.frames, kind='stable')
    frames, starts = np.unique(rows.frames[order], return_index=True)
    parts = np.split(order, starts[1:])
    return {
        frame: (rows.track_ids[part], rows.boxes[part])
        for frame, part in zip(frames.tolist(), parts, strict=False)
    }


def _read_masks(path: Path) -> Tracks:
    return {frame: (ids, masks) for frame, ids, masks in read_mots(path)}


def _compare_masks(people: Masks, results: Masks) -> Any:
    from pycocotools import mask as coco_mask

    return coco_mask.iou(people.to_rle(), results.to_rle(), [0] * len(results))


def _read_poses(path: Path) -> Tracks:
    """Poses of every labelled image of a PoseTrack18 file.

    The number in the name of an image is its frame; further videos of a file come far behind.
    """
    content = read_json(path)
    try:
        images = [i for i in content['images'] if i.get('is_labeled', True)]
        videos = {str(i.get('vid_id')) for i in images}
        offsets = {v: crc32(v.encode()) * VIDEO_STEP if len(videos) > 1 else 0 for v in videos}
        names = next((tuple(map(str, c['keypoints'])) for c in content.get('categories', ())), ())
        tracks = {}
        for image in images:
            start = offsets[str(image.get('vid_id'))]
            rows = [r for r in content['annotations'] if r['image_id'] == image['id']]
            poses = _parse_poses(rows, names, start)
            tracks[start + int(Path(image['file_name']).stem)] = poses.ids, poses
        return tracks
    except DAMAGE as error:
        raise ValueError(
            f'{path}: not a PoseTrack18 file: {type(error).__name__} {error}'
        ) from error


def _parse_poses(rows: list[dict[str, Any]], names: tuple[str, ...], start: int) -> Poses:
    flat = np.array([r['keypoints'] for r in rows], np.float64)
    if rows and not flat.size:
        raise ValueError('keypoints are empty')
    points = flat.reshape(len(rows), flat.shape[-1] // 3, 3)
    without_ears = tuple(n for n in POSETRACK_KEYPOINTS if n not in EARS)
    sets = {len(s): s for s in (without_ears, POSETRACK_KEYPOINTS, (), names)}
    areas = [r.get('area', AREA_OF_BOX * r['bbox'][2] * r['bbox'][3]) for r in rows]
    if not (np.abs([*points.flat, *areas]) < MAX_NUMBER).all():
        raise ValueError(f'keypoints or boxes are not finite or beyond {MAX_NUMBER:.0e}')
    ids = np.array([start + r['track_id'] for r in rows], np.int64)
    return Poses(ids, points, np.array(areas, np.float64), names=sets[points.shape[1]])


def _keep_labelled(truth: Tracks, found: Tracks) -> tuple[Tracks, Tracks]:
    """Drop people without a labelled keypoint, and results of images without labels."""
    people = {
        frame: poses.select((poses.keypoints[..., 2] > 0).any(1))
        for frame, (_, poses) in truth.items()
    }
    return (
        {frame: (poses.ids, poses) for frame, poses in people.items()},
        {frame: rows for frame, rows in found.items() if frame in truth},
    )


TASKS: dict[TrackTask, tuple[Callable[[Path], Tracks], Callable[..., Any]]] = {
    'boxes': (_read_boxes, box_iou),
    'masks': (_read_masks, _compare_masks),
    'poses': (_read_poses, Poses.oks),
}
