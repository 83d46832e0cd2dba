"""People whose mask is known in part: data set, loading and packing for `CompactSam`.

Legend: n people of an image, S side of the model's square in px.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.registry import DATASETS, TRANSFORMS
from mmengine.structures import InstanceData
from numpy.typing import NDArray

from pipeline.boxes import xywh_to_xyxy
from pipeline.training.pose2seg.dataset import PoseMaskDataset
from pipeline.training.pose2seg.transforms import LoadPoseImage, PackPromptedPoses, Sample

from .skeletons import UNKNOWN, draw_skeleton, partial_masks

_VISIBLE = 0.5  # from here on a keypoint shows where the person is


@DATASETS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PartialPoseDataset(PoseMaskDataset):
    """`PoseMaskDataset` in which people without a mask may join.

    Their `rle` is None, and they have `box`, (4,) xyxy px.

    Args:
        ann_file: COCO JSON.
        subset: only images whose `subset` field says this; None: all.
        only: only images with these values of these fields, e.g. `dict(fully_annotated=True)`.
        from_keypoints: people without a mask join if so many keypoints are usable; their masks are
            known in part (`skeletons.py`). None: they are left out.
        one_by_one: an item is one person, who is alone in `people`, not all those of an image.
        **kwargs: as of `PoseMaskDataset`.

    Raises:
        ValueError: a setting is out of range; no people are left.
    """

    def __init__(
        self,
        ann_file: str,
        *,
        subset: str | None = None,
        only: Mapping[str, Any] | None = None,
        from_keypoints: int | None = None,
        one_by_one: bool = False,
        **kwargs: Any,
    ) -> None:
        if from_keypoints is not None and from_keypoints < 2:
            raise ValueError(f'from_keypoints must be 2 or more, or None, got {from_keypoints}')
        self.only = dict(only or {}) if subset is None else {**(only or {}), 'subset': subset}
        self.from_keypoints = from_keypoints
        self.one_by_one = one_by_one
        super().__init__(ann_file=ann_file, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Items of all people of an image, or of one each."""
        items = super().load_data_list()
        if not self.one_by_one:
            return items
        return [{**item, 'people': [person]} for item in items for person in item['people']]

    def includes(self, image: dict[str, Any]) -> bool:
        """Whether an image of the file belongs to the data set."""
        return all(image.get(field) == value for field, value in self.only.items())

    def read_person(
        self, annotation: dict[str, Any], image: dict[str, Any]
    ) -> tuple[str, dict[str, Any] | None]:
        """('', person), or why there is none."""
        reason, person = super().read_person(annotation, image)
        if self.from_keypoints is None or reason != 'without a mask':
            return reason, person
        points, visibility = self.keypoints_of(annotation)
        if int((visibility >= self.usable_visibility).sum()) < self.from_keypoints:
            return reason, None
        if annotation['bbox'][2] * annotation['bbox'][3] < self.min_area:
            return f'smaller than {self.min_area:g} px', None
        return '', {
            'ann_id': annotation['id'],
            'rle': None,
            'box': xywh_to_xyxy([annotation['bbox']])[0],
            'keypoints': points,
            'visibility': visibility,
        }


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class LoadPartialPoses(LoadPoseImage):
    """`LoadPoseImage` that draws what is known of masks that are absent: 0, 1 and `UNKNOWN`."""

    def read_masks(self, people: list[Sample], height: int, width: int) -> NDArray[np.uint8]:
        """Masks (n, height, width); of people without one what box and skeleton tell."""
        masks = np.zeros((len(people), height, width), np.uint8)
        whole = [row for row, person in enumerate(people) if person['rle'] is not None]
        if whole:
            masks[whole] = super().read_masks([people[row] for row in whole], height, width)
        partly = sorted(set(range(len(people))) - set(whole))
        if not partly:
            return masks
        boxes = np.stack([people[row]['box'] for row in partly])
        taken = masks.any(axis=0)
        bones = [
            draw_skeleton(
                people[row]['keypoints'],
                people[row]['visibility'] >= _VISIBLE,
                float(np.sqrt((box[2] - box[0]) * (box[3] - box[1]))),
                (height, width),
            )
            for row, box in zip(partly, boxes, strict=True)
        ]
        masks[partly] = partial_masks(boxes, bones) * ~taken
        return masks


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PackPartialPoses(PackPromptedPoses):
    """`PackPromptedPoses` with `unknown` beside the masks, bool (n, S, S), never both.

    Args:
        image_size: S, `image_size` of the model.
        max_objects: at most so many people, drawn at random; None: all.
        min_objects: at least so many; where there are fewer, some are taken again, with other
            prompts.
        **kwargs: as of `PackPromptedPoses`.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        image_size: int,
        max_objects: int | None = None,
        min_objects: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(image_size, max_objects, **kwargs)
        if min_objects < 1 or (max_objects is not None and min_objects > max_objects):
            raise ValueError(
                f'PackPartialPoses: min_objects = {min_objects}; give 1 to max_objects'
            )
        self.min_objects = min_objects

    def choose(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """At least `min_objects` and at most `max_objects` of the rows."""
        rows = super().choose(rows)
        if len(rows) >= self.min_objects:
            return rows
        again = np.random.choice(rows, self.min_objects - len(rows))
        return np.sort(np.concatenate([rows, again]))

    def instances(
        self, results: Sample, masks: NDArray[np.bool_], rows: NDArray[np.int64]
    ) -> InstanceData:
        """The people of these rows in the square."""
        people = super().instances(results, masks, rows)
        unknown = self.squares(results['masks'][rows] == UNKNOWN)
        people.unknown = torch.from_numpy(unknown & ~masks[rows])
        return people

    def mask_rle(self, results: Sample, row: int) -> Any:
        """The person's mask in the image, COCO RLE; None: known in part."""
        if results['people'][row]['rle'] is None:
            return None
        return super().mask_rle(results, row)
