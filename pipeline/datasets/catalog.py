"""The data sets that are evaluated on, as data: where each lies and how it is scored.

Folders are relative to the data root and follow MMPose where it has the data set, so that one
folder serves both. What to know about each, in full, is in `docs/user_guide/datasets.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..io.coco import TASKS, Task
from ..keypoints import Convention

Rule = Literal['coco', 'crowdpose']


@dataclass(frozen=True)
class CatalogEntry:
    """One evaluation set."""

    title: str
    anchor: str  # heading in docs/user_guide/datasets.md
    annotations: tuple[str, ...]  # names of the file, the first that exists is read
    images: str  # folder of the photos
    homepage: str  # official source
    licence: str
    tasks: tuple[Task, ...] = TASKS
    convention: Convention = 'coco17'
    rule: Rule = 'coco'
    partial_ground_truth: bool = False  # some people of the photos are not annotated at all
    num_images: int | None = None  # None: not known for sure
    num_people: int | None = None  # annotated, crowd regions left out
    convert: str | None = None  # command that makes the file; None: it is used as published
    notes: tuple[str, ...] = ()  # printed with the results


_OCHUMAN_PARTIAL = (
    'ground truth is partial: people who overlap nobody are not annotated, so detections of them '
    'count as wrong; compare only with figures of the same protocol'
)
_OCHUMAN_AREA = 'the annotated area is that of the box, so small / medium / large are box sizes'


def _ochuman(split: str, num_images: int) -> CatalogEntry:
    return CatalogEntry(
        title=f'OCHuman {split}',
        anchor='ochuman',
        annotations=(f'ochuman/annotations/ochuman_coco_format_{split}_range_0.00_1.00.json',),
        images='ochuman/images',
        homepage='https://github.com/liruilong940607/OCHumanApi',
        licence='research use; see the homepage',
        partial_ground_truth=True,
        num_images=num_images,
        notes=(_OCHUMAN_PARTIAL, _OCHUMAN_AREA),
    )


def _ochuman_pose(split: str) -> CatalogEntry:
    return CatalogEntry(
        title=f'OCHuman-Pose {split}',
        anchor='ochuman-pose',
        annotations=(f'ochuman_pose/annotations/ochuman_pose_{split}.json',),
        images='ochuman/images',
        homepage='https://huggingface.co/datasets/vrg-prague/OCHuman-Pose',
        licence='see the homepage; photos as OCHuman',
        tasks=('bbox', 'keypoints'),
        notes=('OCHuman annotated anew; figures do not compare with those of OCHuman',),
    )


def _crowdpose(split: str, num_images: int) -> CatalogEntry:
    return CatalogEntry(
        title=f'CrowdPose {split}',
        anchor='crowdpose',
        annotations=(
            f'crowdpose/annotations/mmpose_crowdpose_{split}.json',
            f'crowdpose/annotations/crowdpose_{split}.json',
        ),
        images='crowdpose/images',
        homepage='https://github.com/Jeff-sjtu/CrowdPose',
        licence='non-commercial research; see the homepage',
        tasks=('bbox', 'keypoints'),
        convention='crowdpose14',
        rule='crowdpose',
        num_images=num_images,
        notes=('14 keypoints; neck and top of the head are estimated from those of COCO',),
    )


CATALOG: dict[str, CatalogEntry] = {
    'coco_val2017': CatalogEntry(
        title='COCO val2017, people',
        anchor='coco',
        annotations=('coco/annotations/person_keypoints_val2017.json',),
        images='coco/val2017',
        homepage='https://cocodataset.org/#download',
        licence='annotations CC BY 4.0; each photo keeps its own licence',
        num_images=5000,
        num_people=10777,
        notes=('keypoints: people without labelled keypoints are ignored, 20 results per photo',),
    ),
    'ochuman_val': _ochuman('val', 2500),
    'ochuman_test': _ochuman('test', 2231),
    'ochuman_pose_val': _ochuman_pose('val'),
    'ochuman_pose_test': _ochuman_pose('test'),
    'crowdpose_val': _crowdpose('val', 2000),
    'crowdpose_test': _crowdpose('test', 8000),
    'cihp_val': CatalogEntry(
        title='CIHP val',
        anchor='cihp',
        annotations=('cihp/annotations/cihp_val.json',),
        images='cihp/Validation/Images',
        homepage='https://github.com/Engineering-Course/CIHP_PGN',
        licence='non-commercial research; see the homepage',
        tasks=('bbox', 'segm'),
        num_images=5000,
        convert='python tools/convert_dataset.py cihp data/cihp/Validation '
        'data/cihp/annotations/cihp_val.json',
        notes=('no keypoints are annotated',),
    ),
    'cocopersons_val': CatalogEntry(
        title='COCOPersons val',
        anchor='cocopersons',
        annotations=('coco/annotations/person_keypoints_val2017_pose2seg.json',),
        images='coco/val2017',
        homepage='https://github.com/liruilong940607/Pose2Seg',
        licence='annotations CC BY 4.0 (COCO); each photo keeps its own licence',
        num_images=None,
        convert='python tools/convert_dataset.py cocopersons '
        'data/coco/annotations/person_keypoints_val2017.json '
        'data/coco/annotations/person_keypoints_val2017_pose2seg.json',
        notes=('people of COCO who have keypoints; the others are not annotated',),
    ),
}
