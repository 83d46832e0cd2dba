"""Catalog of the evaluation sets: the files, tasks and notes of each.

Folders are relative to the data root and follow MMPose where it supports the data set, so both
can share a folder. `docs/user_guide/datasets.md` describes each data set.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..io.coco import TASKS, Task


@dataclass(frozen=True)
class CatalogEntry:
    """One evaluation set."""

    title: str
    anchor: str  # heading in docs/user_guide/datasets.md
    annotations: tuple[str, ...]  # possible files; the first that exists is read
    images: str  # folder
    homepage: str  # official source
    tasks: tuple[Task, ...] = TASKS
    partial_ground_truth: bool = False  # some people in the images are not annotated
    convert: str | None = None  # command that creates the file; None: use the published file
    notes: tuple[str, ...] = ()  # printed with the results


_OCHUMAN_PARTIAL = (
    'ground truth is partial: people who do not overlap others are not annotated, so detections '
    'of them count as false positives; compare only with results of the same protocol'
)
_OCHUMAN_AREA = 'the annotated area is the box area, so small / medium / large are box sizes'


def _ochuman(split: str) -> CatalogEntry:
    return CatalogEntry(
        title=f'OCHuman {split}',
        anchor='ochuman',
        annotations=(f'ochuman/annotations/ochuman_coco_format_{split}_range_0.00_1.00.json',),
        images='ochuman/images',
        homepage='https://github.com/liruilong940607/OCHumanApi',
        partial_ground_truth=True,
        notes=(_OCHUMAN_PARTIAL, _OCHUMAN_AREA),
    )


def _ochuman_pose(split: str) -> CatalogEntry:
    return CatalogEntry(
        title=f'OCHuman-Pose {split}',
        anchor='ochuman-pose',
        annotations=(f'ochuman_pose/annotations/ochuman_pose_{split}.json',),
        images='ochuman/images',
        homepage='https://huggingface.co/datasets/vrg-prague/OCHuman-Pose',
        tasks=('bbox', 'keypoints'),
        notes=('new annotations of OCHuman; results are not comparable with OCHuman',),
    )


def _crowdpose(split: str) -> CatalogEntry:
    return CatalogEntry(
        title=f'CrowdPose {split}',
        anchor='crowdpose',
        annotations=(
            f'crowdpose/annotations/mmpose_crowdpose_{split}.json',
            f'crowdpose/annotations/crowdpose_{split}.json',
        ),
        images='crowdpose/images',
        homepage='https://github.com/Jeff-sjtu/CrowdPose',
        tasks=('bbox', 'keypoints'),
        notes=('14 keypoints; neck and top of the head are estimated from the COCO keypoints',),
    )


CATALOG: dict[str, CatalogEntry] = {
    'coco_val2017': CatalogEntry(
        title='COCO val2017, people',
        anchor='coco',
        annotations=('coco/annotations/person_keypoints_val2017.json',),
        images='coco/val2017',
        homepage='https://cocodataset.org/#download',
        notes=('keypoints: people without labelled keypoints are ignored, 20 results per image',),
    ),
    'ochuman_val': _ochuman('val'),
    'ochuman_test': _ochuman('test'),
    'ochuman_pose_val': _ochuman_pose('val'),
    'ochuman_pose_test': _ochuman_pose('test'),
    'crowdpose_val': _crowdpose('val'),
    'crowdpose_test': _crowdpose('test'),
    'cihp_val': CatalogEntry(
        title='CIHP val',
        anchor='cihp',
        annotations=('cihp/annotations/cihp_val.json',),
        images='cihp/Validation/Images',
        homepage='https://github.com/Engineering-Course/CIHP_PGN',
        tasks=('bbox', 'segm'),
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
        convert='python tools/convert_dataset.py cocopersons '
        'data/coco/annotations/person_keypoints_val2017.json '
        'data/coco/annotations/person_keypoints_val2017_pose2seg.json',
        notes=('COCO people with keypoints; the others are not annotated',),
    ),
}
