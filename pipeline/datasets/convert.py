"""Data sets as COCO files: what all converters share, and those that start from a COCO file.

A converter goes on past what is broken: photos that cannot be used are left out of the file and
named in `Conversion.problems`. The same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..io.coco import PERSON, Task
from ..io.images import ImageReadError, read_image
from ..io.progress import Reporter
from ..keypoints import COCO_NAMES, COCO_SKELETON
from .annotation_rules import Annotation
from .annotations import load_annotations

# People without keypoints or mask: left out, or ignored as COCO ignores crowd regions.
Others = Literal['drop', 'ignore']


class ConversionError(ValueError):
    """A source that cannot be converted at all."""


@dataclass(frozen=True)
class Problem:
    """A file that was left out."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Conversion:
    """A COCO file, and what is not in it."""

    content: dict[str, Any]
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


def convert_coco(source: str | Path, images: Path | None, reporter: Reporter) -> Conversion:
    """The people of a COCO file, checked and completed as `load_annotations` does it.

    Args:
        source: the file.
        images: folder of the photos: those that are missing, broken or of another size than the
            file says are left out. None: the photos are not looked at.
        reporter: hears about each photo.

    Raises:
        AnnotationError: the file cannot be used.
    """
    loaded = load_annotations(source)
    return without_broken_images(loaded.content, images, reporter, warnings=loaded.warnings)


def convert_crowdpose(source: str | Path, images: Path | None, reporter: Reporter) -> Conversion:
    """CrowdPose with an area for everybody (0.53 of the box); arguments as in `convert_coco`.

    Raises:
        AnnotationError: the file cannot be used, or its keypoints are not those of CrowdPose.
    """
    tasks: tuple[Task, ...] = ('bbox', 'keypoints')
    loaded = load_annotations(source, tasks=tasks, convention='crowdpose14')
    return without_broken_images(loaded.content, images, reporter, warnings=loaded.warnings)


def convert_cocopersons(
    source: str | Path, images: Path | None, reporter: Reporter, *, others: Others = 'drop'
) -> Conversion:
    """The people of COCO who have keypoints and a mask, as Pose2Seg evaluates on them.

    Photos without such a person are left out. Crowd regions stay (they are ignored), and people
    without keypoints become ``others``.

    Args:
        source: ``person_keypoints_*.json`` of COCO or of Pose2Seg.
        images: as in `convert_coco`.
        reporter: hears about each photo.
        others: 'drop' leaves people without keypoints out, so that masks of them count as wrong;
            'ignore' marks them as crowd regions, which COCO neither rewards nor punishes.

    Raises:
        AnnotationError: the file cannot be used.
    """
    loaded = load_annotations(source, tasks=('bbox', 'segm', 'keypoints'), convention='coco17')
    rows = [
        row if row['iscrowd'] or row['num_keypoints'] else ignored(row, others)
        for row in loaded.content['annotations']
    ]
    kept = [row for row in rows if row is not None]
    shown = {row['image_id'] for row in kept if not row['iscrowd']}
    content = {
        **loaded.content,
        'images': [image for image in loaded.content['images'] if image['id'] in shown],
        'annotations': [row for row in kept if row['image_id'] in shown],
    }
    return without_broken_images(content, images, reporter, warnings=loaded.warnings)


def ignored(row: Annotation, others: Others) -> Annotation | None:
    """A person who is left out (None) or ignored."""
    return None if others == 'drop' else {**row, 'iscrowd': 1}


def without_broken_images(
    content: dict[str, Any],
    images: Path | None,
    reporter: Reporter,
    *,
    warnings: Sequence[str] = (),
    problems: Sequence[Problem] = (),
) -> Conversion:
    """Leave out photos that cannot be read or are of another size, with their people."""
    found = list(problems)
    if images is not None:
        reporter.start(len(content['images']))
        for image in content['images']:
            problem = _photo_problem(image, images)
            found += [] if problem is None else [problem]
            reporter.update(image['file_name'], 'ok' if problem is None else problem.reason)
        reporter.stop()
    broken = {problem.name for problem in found}
    photos = [image for image in content['images'] if image['file_name'] not in broken]
    ids = {image['id'] for image in photos}
    people = [row for row in content['annotations'] if row['image_id'] in ids]
    kept = {**content, 'images': photos, 'annotations': people}
    return Conversion(kept, tuple(found), tuple(warnings))


def coco_content(
    description: str, images: Sequence[dict[str, Any]], annotations: Sequence[Annotation]
) -> dict[str, Any]:
    """A COCO file with the 17 keypoints; annotations are numbered from 1."""
    return {
        'info': {'description': description},
        'images': list(images),
        'annotations': [{'id': n, **row} for n, row in enumerate(annotations, start=1)],
        'categories': [
            {
                'id': PERSON,
                'name': 'person',
                'supercategory': 'person',
                'keypoints': list(COCO_NAMES),
                'skeleton': [[a + 1, b + 1] for a, b in COCO_SKELETON],
            }
        ],
    }


def numbered(names: Sequence[str]) -> dict[str, int]:
    """Ids of photos: the number in the name if all have one of their own, else the position.

    All photos of the source are named, so that one that is broken does not move the others.
    """
    stems = [Path(name).stem for name in names]
    if all(stem.isdecimal() for stem in stems) and len({*map(int, stems)}) == len(names):
        return {name: int(stem) for name, stem in zip(names, stems, strict=True)}
    return {name: number for number, name in enumerate(names, start=1)}


def photo_size(path: Path) -> tuple[int, int]:
    """Height and width of a photo that can be decoded in full.

    Raises:
        ImageReadError: it cannot.
    """
    height, width, _ = read_image(path).shape
    return height, width


def _photo_problem(image: Mapping[str, Any], folder: Path) -> Problem | None:
    name, expected = image['file_name'], (image['height'], image['width'])
    try:
        size = photo_size(folder / name)
    except ImageReadError as error:
        return Problem(name, error.reason)
    if size != expected:
        return Problem(name, f'is {_px(size)}, but the annotations are for {_px(expected)}')
    return None


def _px(size: tuple[int, int]) -> str:
    return f'{size[1]} x {size[0]} px'
