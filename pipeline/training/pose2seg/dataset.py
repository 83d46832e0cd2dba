"""Images with person masks and keypoints from a COCO file, for MMEngine.

Legend: n people of an image, K keypoints.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pipeline.datasets.annotations import load_annotations
from pipeline.io.inputs import locate_image
from pipeline.keypoints import NUM_COCO
from pipeline.rle import rle_of

VISIBILITY_SOURCES = ('auto', 'flags', 'model')
_HIDDEN, _VISIBLE = 1, 2  # COCO's keypoint flags; 0 is "not labelled"


@DATASETS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PoseMaskDataset(BaseDataset):  # type: ignore[misc,unused-ignore]
    """People with masks, grouped by image.

    Crowd regions, people without a mask, people smaller than `min_area` px, and images without
    people are omitted and counted in the log. An item has `img_path`, `img_id`,
    `height`, `width` and `people`: a list of dicts with `ann_id`, `rle`, `keypoints` (K, 2) px and
    `visibility` (K,) in [0, 1].

    Args:
        ann_file: COCO JSON: `person_keypoints_*.json`, a converted CIHP file, or any other.
            Segmentations are polygons or RLE; `keypoints` may be absent.
        need_keypoints: Omit people without a usable keypoint (for evaluation).
        visibility: 'flags': COCO's v, see `hidden_visibility`; 'model': the field `visibility`
            written by `tools/predict_keypoints.py`; 'auto': that field if present, else flags.
        hidden_visibility: Visibility of hidden keypoints (v = 1). It is 1 for v = 2 and 0 for v =
            0.
        usable_visibility: Smallest visibility of a usable keypoint, for `need_keypoints`.
        min_area: Smallest mask area, image px.
        kwargs: Arguments of MMEngine's `BaseDataset`: `data_root`, `data_prefix=dict(img=...)`,
            `pipeline`, `indices`, `test_mode`, ...

    Raises:
        ValueError: A setting is out of range, or no people are left.
        KeyError: `visibility='model'` and a person has no such field.
    """

    METAINFO = {'classes': ('person',)}  # noqa: RUF012 (MMEngine's name)

    def __init__(
        self,
        ann_file: str,
        *,
        need_keypoints: bool = False,
        visibility: str = 'auto',
        hidden_visibility: float = 0.3,
        usable_visibility: float = 0.5,
        min_area: float = 64.0,
        **kwargs: Any,
    ) -> None:
        if visibility not in VISIBILITY_SOURCES:
            raise ValueError(f'visibility must be one of {VISIBILITY_SOURCES}, got {visibility!r}')
        if not 0 <= hidden_visibility <= 1:
            raise ValueError(f'hidden_visibility must be in [0, 1], got {hidden_visibility}')
        if min_area < 1:
            raise ValueError(f'min_area must be 1 px or more, got {min_area}')
        self.need_keypoints = need_keypoints
        self.visibility = visibility
        self.hidden_visibility = hidden_visibility
        self.usable_visibility = usable_visibility
        self.min_area = min_area
        super().__init__(ann_file=ann_file, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the annotation file; log the number of omitted people by reason."""
        content = load_annotations(self.ann_file).content
        images = {image['id']: image for image in content['images'] if self.includes(image)}
        people: dict[Any, list[dict[str, Any]]] = {}
        skipped: Counter[str] = Counter()
        for annotation in content['annotations']:
            image = images.get(annotation['image_id'])
            if image is None:
                continue
            reason, person = self.read_person(annotation, image)
            if person is None:
                skipped[reason] += 1
            else:
                people.setdefault(image['id'], []).append(person)
        self._report(people, skipped)
        folder = Path(self.data_prefix.get('img') or self.data_root or '')
        return [
            {
                'img_path': str(locate_image(folder, images[key]['file_name'])),
                'img_id': key,
                'height': images[key]['height'],
                'width': images[key]['width'],
                'people': group,
            }
            for key, group in people.items()
        ]

    def includes(self, image: dict[str, Any]) -> bool:
        """Return whether an image of the file belongs to the dataset."""
        return True

    def read_person(
        self, annotation: dict[str, Any], image: dict[str, Any]
    ) -> tuple[str, dict[str, Any] | None]:
        """Return ('', person), or (reason, None)."""
        if annotation.get('iscrowd') or annotation.get('merged_people'):
            return 'crowd regions', None
        rle = rle_of(annotation.get('segmentation'), image['height'], image['width'])
        if rle is None:
            return 'without a mask', None
        if float(coco_mask.area(rle)) < self.min_area:
            return f'smaller than {self.min_area:g} px', None
        points, visibility = self.keypoints_of(annotation)
        if self.need_keypoints and not (visibility >= self.usable_visibility).any():
            return 'without a usable keypoint', None
        return '', {
            'ann_id': annotation['id'],
            'rle': rle,
            'keypoints': points,
            'visibility': visibility,
        }

    def keypoints_of(
        self, annotation: dict[str, Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return keypoints (K, 2) px and their visibility (K,)."""
        flat = annotation.get('keypoints') or [0.0] * (3 * NUM_COCO)
        rows = np.asarray(flat, np.float32).reshape(-1, 3)[:NUM_COCO]
        from_model = self.visibility == 'model' or (
            self.visibility == 'auto' and annotation.get('visibility') is not None
        )
        if from_model:
            visibility = np.asarray(annotation['visibility'], np.float32)[:NUM_COCO]
        else:
            levels = [(rows[:, 2] == _VISIBLE), (rows[:, 2] == _HIDDEN)]
            visibility = np.select(levels, [1.0, self.hidden_visibility], 0.0).astype(np.float32)
        return rows[:, :2], visibility

    def _report(self, people: dict[Any, list[dict[str, Any]]], skipped: Counter[str]) -> None:
        count = sum(len(group) for group in people.values())
        left_out = ', '.join(f'{number} {why}' for why, number in skipped.items()) or 'none'
        text = f'{self.ann_file}: {count} people in {len(people)} images; left out: {left_out}'
        if not count:
            raise ValueError(f'no people to train on: {text}')
        print_log(text, logger='current', level=logging.INFO)
