"""Trackers by name: our own, and those of the package `trackers` of Roboflow (Apache-2.0)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from ..arrays import Image
from ..structures import Detections, People
from ..values import install_hint
from .association import AssociationConfig, AssociationTracker, Ids, expect_people

DEFAULT_TRACKER = 'association'
# Name -> class of `trackers`. They follow boxes alone, McByte also masks.
LIBRARY_TRACKERS = {
    'sort': 'SORTTracker',
    'bytetrack': 'ByteTrackTracker',
    'ocsort': 'OCSORTTracker',
    'botsort': 'BoTSORTTracker',
    'cbiou': 'CBIoUTracker',
    'mcbyte': 'McByteTracker',
}
TRACKERS = (DEFAULT_TRACKER, *LIBRARY_TRACKERS)
NEED_IMAGE = ('botsort', 'mcbyte')  # for the motion of the camera
# The thresholds of `AssociationConfig` in place of those for other detectors.
LIBRARY_DEFAULTS = {
    'high_conf_det_threshold': AssociationConfig.high_score,
    'track_activation_threshold': AssociationConfig.high_score,
}


def make_tracker(
    name: str = DEFAULT_TRACKER,
    config: AssociationConfig | Mapping[str, Any] | None = None,
    fps: float = 30.0,
) -> AssociationTracker | LibraryTracker:
    """Make a tracker for one video.

    Args:
        name: one of `TRACKERS`.
        config: settings of `association`, or keyword arguments of the class in `trackers`.
        fps: nominal rate of the video, for the motion models of `trackers`.

    Raises:
        ValueError: The name or a setting is unknown.
        ModuleNotFoundError: The package `trackers` is absent.
    """
    if name not in TRACKERS:
        raise ValueError(f'no tracker {name!r}; choose one of {", ".join(TRACKERS)}')
    if name == DEFAULT_TRACKER:
        if isinstance(config, Mapping):
            _check_names(name, config, inspect.signature(AssociationConfig).parameters)
            config = AssociationConfig(**config)
        return AssociationTracker(config)
    if isinstance(config, AssociationConfig):
        raise ValueError(
            f'AssociationConfig has the settings of {DEFAULT_TRACKER!r}; pass a dict for {name!r}'
        )
    return LibraryTracker(name, {'frame_rate': fps, **(config or {})})


class LibraryTracker:
    """A tracker of the package `trackers` for one video.

    Args:
        name: key of `LIBRARY_TRACKERS`.
        settings: keyword arguments of the class.
    """

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        try:
            library = import_module('trackers')
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f'the tracker {name!r} needs the package {error.name}; install it: '
                f'{install_hint("tracking")}',
                name=error.name,
            ) from error
        kind = getattr(library, LIBRARY_TRACKERS[name])
        known = inspect.signature(kind).parameters
        _check_names(name, settings, known)
        values = {k: v for k, v in LIBRARY_DEFAULTS.items() if k in known} | dict(settings)
        self._masks = _MaskManager() if name == 'mcbyte' else None
        if self._masks is not None:
            values.setdefault('mask_manager', self._masks)
        self._tracker = kind(**values)
        self._needs_image = name in NEED_IMAGE
        self._last = People.empty(0, 0)  # the people with a track

    def update(self, people: People, image: Image, seconds: float) -> Ids:
        """Assign the people of the next frame; see `AssociationTracker.update`."""
        import supervision

        rows = np.flatnonzero(people.scores >= AssociationConfig.low_score)
        if self._masks is not None:
            self._masks.people = people.select(rows)
        found = self._tracker.update(
            supervision.Detections(
                people.boxes[rows], confidence=people.scores[rows],
                class_id=np.zeros(len(rows), int), data={'row': rows},
            ),
            frame=image if self._needs_image else None,
            # The masks of McByte belong to frames, whatever the time between them.
            timestamp=None if self._masks is not None else seconds,
        )  # fmt: skip
        assigned = np.full(len(people), -1, np.int64)
        if len(found):
            # Ids of the library start at 0.
            numbers = np.asarray(found.tracker_id, np.int64)
            assigned[found.data['row']] = np.where(numbers >= 0, numbers + 1, -1)
        self._last = people.select(assigned > 0)
        return assigned

    def predict_boxes(self, seconds: float) -> Detections:
        """Boxes of the people with a track in the last frame: the library predicts in `update`."""
        last = self._last
        return expect_people(last.boxes, last.box_scores, last.image_shape)


class _MaskManager:
    """Gives McByte the mask of each track in a new frame, from the masks of that frame.

    McByte propagates masks with SAM and Cutie. Here the mask of a track is the one that overlaps
    its last mask most.
    """

    people: People  # of the frame to come

    def __init__(self) -> None:
        self._last: People | None = None

    def reset(self) -> None:
        """Forget the last frame."""
        self._last = None

    def get_updated_masks(self, frame: Image, previous_tracklets: list[Any], **_: Any) -> Any:
        """Masks of the tracks that were seen in the last frame, as `MaskOutput`."""
        from pycocotools import mask as coco_mask
        from trackers.core.mcbyte.masks.base import MaskOutput

        last, self._last = self._last, self.people
        if last is None or not previous_tracklets or not len(last) or not len(self.people):
            return None
        boxes = np.array([t.xyxy for t in previous_tracklets], np.float32)
        # The row of a track is that of its box.
        rows = np.abs(boxes[:, None] - last.boxes[None]).sum(2).argmin(1)
        rles = last.masks.select(rows).to_rle(), self.people.masks.to_rle()
        overlaps = coco_mask.iou(*rles, [0] * len(self.people))
        kept = np.flatnonzero(overlaps.max(1) > 0)
        masks = self.people.masks.select(overlaps.argmax(1)[kept])
        ids = {previous_tracklets[row].tracker_id: n for n, row in enumerate(kept.tolist())}
        return MaskOutput(masks.to_dense(), ids, dict.fromkeys(ids, 1.0))


def _check_names(name: str, settings: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    unknown = [key for key in settings if key not in known]
    if unknown:
        raise ValueError(
            f'the tracker {name!r} has no setting {unknown[0]!r}; it has {", ".join(known)}'
        )
