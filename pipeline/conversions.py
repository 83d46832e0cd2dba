"""People as tables and as `supervision.Detections`; see the methods of `People`.

Legend: N people, K keypoints, H x W image. ``people`` is a `pipeline.structures.People`, which
this module does not import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .keypoints import COCO_17
from .masks import Masks, MaskSource

if TYPE_CHECKING:
    import pandas
    import supervision

# Columns of `People` that Detections keep in ``data``; the others have fields of their own.
_DATA = (
    'box_scores', 'keypoints', 'keypoint_scores', 'presence', 'visibility', 'mask_scores',
    'mask_sources', 'prompts', 'detector_boxes', 'rounds',
)  # fmt: skip


def table_columns(people: Any) -> dict[str, Any]:
    """Columns of N values: scores, boxes, mask area and every keypoint."""
    columns = {
        'person_id': range(1, len(people) + 1),
        'score': people.scores,
        'box_score': people.box_scores,
        'mask_score': people.mask_scores,
        'mask_source': [MaskSource(int(s)).name.lower() for s in people.mask_sources],
        'round': people.rounds,
    }
    corners = ('x1', 'y1', 'x2', 'y2')
    columns |= dict(zip(corners, people.boxes.T, strict=True))
    columns |= {f'detector_{c}': v for c, v in zip(corners, people.detector_boxes.T, strict=True)}
    columns['mask_area'] = people.masks.areas.astype(int)
    for k, name in enumerate(people.keypoint_set.names):
        columns[f'{name}_x'], columns[f'{name}_y'] = people.keypoints[:, k].T
        columns[f'{name}_score'] = people.keypoint_scores[:, k]
        columns[f'{name}_presence'] = people.presence[:, k]
        columns[f'{name}_visibility'] = people.visibility[:, k]
    return columns


def make_annotations(
    people: Any, image_id: int | str, first_id: int, threshold: float
) -> list[dict[str, Any]]:
    """COCO annotations; see `People.to_coco_annotations`."""
    keys = ('image_id', 'category_id', 'person_id', 'bbox', 'segmentation', 'area', 'score')
    kept = people.keypoint_set
    extra = np.setdiff1d(np.arange(kept.num), kept.compared)
    present = np.minimum(people.keypoint_scores, people.presence) >= threshold
    flags = np.where(present, np.where(people.visibility >= 0.5, 2, 1), 0)

    def label(points: list[float], flags: npt.NDArray[np.int64]) -> list[float]:
        rows = np.reshape(points, (-1, 3)).astype(float)
        rows[:, 2] = flags
        rows[flags == 0] = 0
        return list(rows.ravel().tolist())

    return [
        {
            'id': first_id + i,
            **{key: row[key] for key in keys},
            'iscrowd': 0,
            'keypoints': label(row['keypoints'], flags[i, kept.compared]),
            'num_keypoints': int(present[i, kept.compared].sum()),
            **(
                {'extra_keypoints': label(row['extra_keypoints'], flags[i, extra])}
                if len(extra)
                else {}
            ),
        }
        for i, row in enumerate(people.to_coco(image_id))
    ]


def make_dataframe(people: Any) -> pandas.DataFrame:
    """Table with one row per person."""
    frame: pandas.DataFrame = import_optional('pandas').DataFrame(
        {'path': people.path, **table_columns(people)}
    )
    return frame


def make_supervision(people: Any) -> supervision.Detections:
    """Detections whose ``data`` hold the other columns of `People`."""
    data = {name: getattr(people, name).copy() for name in _DATA}
    data['class_name'] = np.full(len(people), 'person')
    data['detector_masks'] = people.detector_masks.to_rle()
    found: supervision.Detections = import_optional('supervision').Detections(
        xyxy=people.boxes.copy(),
        mask=people.masks.to_dense(),
        confidence=people.scores.copy(),
        class_id=np.zeros(len(people), int),
        data=data,
        metadata={'keypoint_set': people.keypoint_set},
    )
    return found


def columns_from_supervision(detections: Any) -> dict[str, Any]:
    """Columns of `People` from the result of `make_supervision`, or from a selection of it."""
    missing = [name for name in (*_DATA, 'detector_masks') if name not in detections.data]
    if missing or detections.mask is None:
        raise ValueError(
            f'these detections are not from People.to_supervision: {", ".join(missing) or "mask"} '
            'missing; to use detections of another model, pass detections.xyxy as boxes'
        )
    shape = detections.mask.shape[1:]
    return {name: detections.data[name] for name in _DATA} | {
        'keypoint_set': detections.metadata.get('keypoint_set', COCO_17),
        'boxes': np.asarray(detections.xyxy, np.float32),
        'scores': np.asarray(detections.confidence, np.float32),
        'masks': Masks.from_dense(detections.mask, shape),
        'detector_masks': Masks.from_rle(detections.data['detector_masks'], shape),
    }


def import_optional(library: str) -> Any:
    """Import a library that one conversion needs; the error says how to install it."""
    try:
        return import_module(library)
    except ModuleNotFoundError as error:
        raise ImportError(f'this needs {library}: pip install {library}') from error
