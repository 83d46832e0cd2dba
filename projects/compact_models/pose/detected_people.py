"""What a detector found, as training data for the second look at boxes (`PMPoseBoxHead`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmpose.datasets.datasets import CocoDataset
from mmpose.registry import DATASETS

from pipeline.boxes import xywh_to_xyxy


@DATASETS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class DetectedPeopleDataset(CocoDataset):  # type: ignore[misc,unused-ignore]
    """Detected boxes, each with its annotated person or none.

    Reads the file of `prepare_box_data.py`: COCO annotations whose `bbox` is the detected box
    and whose `person_bbox` is that of the annotated person, xywh px, or null if there is none. Rows
    without keypoints stay, unlike in `CocoDataset`. Top-down only.
    """

    def parse_data_info(self, raw_data_info: dict[str, Any]) -> dict[str, Any] | None:
        """Adds `person_bbox` (1, 4) xyxy px, float32; NaN if there is none."""
        info: dict[str, Any] | None = super().parse_data_info(raw_data_info)
        if info is None:
            return None
        annotation = raw_data_info['raw_ann_info']
        if 'person_bbox' not in annotation:
            raise ValueError(
                f'{self.ann_file}: annotation {annotation["id"]} has no person_bbox; make the file '
                'with prepare_box_data.py'
            )
        box_xywh = annotation['person_bbox']
        unknown = np.full((1, 4), np.nan, np.float32)
        info['person_bbox'] = unknown if box_xywh is None else xywh_to_xyxy(box_xywh)
        return info

    @staticmethod
    def _is_valid_instance(data_info: dict[str, Any]) -> bool:
        box = data_info['bbox'][0]
        return bool((box[2:] > box[:2]).all())
