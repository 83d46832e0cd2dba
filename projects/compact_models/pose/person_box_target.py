"""Training target of the second look at boxes (`PMPoseBoxHead`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmpose.datasets.transforms import PackPoseInputs
from mmpose.registry import TRANSFORMS
from mmpose.structures.bbox import flip_bbox

LABELS = ('person_box', 'person_box_known', 'person_box_judged')


@TRANSFORMS.register_module()  # type: ignore[untyped-decorator,unused-ignore]
class PersonBoxTarget(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Where the true box lies in the crop; comes after `TopdownAffine` and `GenerateTarget`.

    Reads `person_bbox` ((1, 4) xyxy px of the image, NaN if there is none; `bbox` of data
    sets without it, whose boxes are those of people), the flip and the window of the crop. Adds the
    labels that `PackPoseInputs` passes on to the head: `person_box` (1, 4) relative to the crop,
    `person_box_known` (1,), 1 where there is a person, and `person_box_judged` (1,), 1. In a turned
    crop a box is no box: it is neither known nor judged, unless there is no person. `bbox` becomes
    the true box, whose area the OKS is measured by.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the labels of one sample."""
        has_own = 'person_bbox' in results
        box = np.asarray(results['person_bbox' if has_own else 'bbox'], np.float32)
        is_person = bool(np.isfinite(box).all())
        is_turned = abs(float(np.ravel(results.get('bbox_rotation', 0.0))[0])) > 1e-6
        if is_person:
            if has_own and results.get('flip'):  # MMPose's flips have mirrored `bbox`
                height, width = results['img_shape']
                box = flip_bbox(
                    box,
                    image_size=(width, height),
                    bbox_format='xyxy',
                    direction=results['flip_direction'],
                )
            results['bbox'] = box
        centre, sides = results['input_center'], results['input_scale']
        fractions = (box.reshape(2, 2) - centre) / sides + 0.5
        known, judged = is_person and not is_turned, not (is_person and is_turned)
        results['person_box'] = np.nan_to_num(fractions).reshape(1, 4).astype(np.float32)
        results['person_box_known'] = np.full(1, known, np.float32)
        results['person_box_judged'] = np.full(1, judged, np.float32)
        table = results.get('label_mapping_table', PackPoseInputs.label_mapping_table)
        results['label_mapping_table'] = {**table, **{name: name for name in LABELS}}
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
