"""Convert data sets to COCO files: shared functions, and converters of COCO files.

A converter skips invalid images and lists them in `Conversion.problems`. The same input gives the
same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..io.coco import Task
from ..io.dataset_writers import CATEGORY
from ..io.images import ImageReadError, describe_exchanged_sides, read_image
from ..io.inputs import locate_image
from ..io.progress import Reporter
from .annotation_rules import Annotation
from .annotations import load_annotations

# People without keypoints or mask: removed, or ignored like crowd regions of COCO.
Others = Literal['drop', 'ignore']


class ConversionError(ValueError):
    """A source that cannot be converted."""


@dataclass(frozen=True)
class Problem:
    """A skipped file."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Conversion:
    """A COCO file and the files that were skipped."""

    content: dict[str, Any]
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


def convert_coco(
    source: str | Path,
    images: Path | None,
    reporter: Reporter,
    *,
    person_category: str | None = None,
) -> Conversion:
    """Validate and complete the people of a COCO file (`load_annotations`).

    Args:
        source: COCO file.
        images: image folder; missing or broken images and images of a different size are
            skipped. None: images are not checked.
        reporter: receives the progress.
        person_category: name or id of the category of people; None: found by its name.

    Raises:
        AnnotationError: the file is invalid.
    """
    loaded = load_annotations(source, person_category=person_category)
    return drop_broken_images(loaded.content, images, reporter, warnings=loaded.warnings)


def convert_crowdpose(
    source: str | Path,
    images: Path | None,
    reporter: Reporter,
    *,
    person_category: str | None = None,
) -> Conversion:
    """Convert CrowdPose: every person gets an area (0.53 of the box); see `convert_coco`.

    Raises:
        AnnotationError: the file is invalid, or its keypoints are not the CrowdPose keypoints.
    """
    tasks: tuple[Task, ...] = ('bbox', 'keypoints')
    loaded = load_annotations(
        source, tasks=tasks, convention='crowdpose14', person_category=person_category
    )
    return drop_broken_images(loaded.content, images, reporter, warnings=loaded.warnings)


def convert_cocopersons(
    source: str | Path,
    images: Path | None,
    reporter: Reporter,
    *,
    others: Others = 'drop',
    person_category: str | None = None,
) -> Conversion:
    """Select the COCO people with keypoints and a mask, the evaluation set of Pose2Seg.

    Images without such a person are removed. Crowd regions stay; evaluators ignore them.

    Args:
        source: ``person_keypoints_*.json`` of COCO or of Pose2Seg.
        images: see `convert_coco`.
        reporter: receives the progress.
        others: people without keypoints. 'drop' removes them, so their masks count as false
            positives; 'ignore' marks them as crowd regions, which do not affect the score.
        person_category: see `convert_coco`.

    Raises:
        AnnotationError: the file is invalid.
    """
    loaded = load_annotations(
        source,
        tasks=('bbox', 'segm', 'keypoints'),
        convention='coco17',
        person_category=person_category,
    )
    rows = [
        row if row['iscrowd'] or row['num_keypoints'] else drop_or_ignore(row, others)
        for row in loaded.content['annotations']
    ]
    kept = [row for row in rows if row is not None]
    kept_ids = {row['image_id'] for row in kept if not row['iscrowd']}
    content = {
        **loaded.content,
        'images': [image for image in loaded.content['images'] if image['id'] in kept_ids],
        'annotations': [row for row in kept if row['image_id'] in kept_ids],
    }
    return drop_broken_images(content, images, reporter, warnings=loaded.warnings)


def drop_or_ignore(row: Annotation, others: Others) -> Annotation | None:
    """Drop a person (None), or mark it as a crowd region."""
    return None if others == 'drop' else {**row, 'iscrowd': 1}


def drop_broken_images(
    content: dict[str, Any],
    images: Path | None,
    reporter: Reporter,
    *,
    warnings: Sequence[str] = (),
    problems: Sequence[Problem] = (),
) -> Conversion:
    """Remove images that are unreadable or of a different size, and their people."""
    all_problems = list(problems)
    if images is not None:
        reporter.start(len(content['images']))
        for image in content['images']:
            problem = _check_image(image, images)
            all_problems += [] if problem is None else [problem]
            reporter.update(image['file_name'], 'ok' if problem is None else problem.reason)
        reporter.stop()
    broken = {problem.name for problem in all_problems}
    kept = [image for image in content['images'] if image['file_name'] not in broken]
    ids = {image['id'] for image in kept}
    people = [row for row in content['annotations'] if row['image_id'] in ids]
    kept_content = {**content, 'images': kept, 'annotations': people}
    return Conversion(kept_content, tuple(all_problems), tuple(warnings))


def build_coco_content(
    description: str, images: Sequence[dict[str, Any]], annotations: Sequence[Annotation]
) -> dict[str, Any]:
    """Build a COCO file with the 17 keypoints; annotations are numbered from 1."""
    return {
        'info': {'description': description},
        'images': list(images),
        'annotations': [{'id': n, **row} for n, row in enumerate(annotations, start=1)],
        'categories': [CATEGORY],
    }


def assign_image_ids(names: Sequence[str]) -> dict[str, int]:
    """Assign image ids: the numbers in the names if these are unique, else the positions.

    Pass all images of the source, including broken ones, so that the ids of the others are stable.
    """
    stems = [Path(name).stem for name in names]
    if all(stem.isdecimal() for stem in stems) and len({*map(int, stems)}) == len(names):
        return {name: int(stem) for name, stem in zip(names, stems, strict=True)}
    return {name: number for number, name in enumerate(names, start=1)}


def read_image_size(path: Path) -> tuple[int, int]:
    """Decode an image and return its height and width.

    Raises:
        ImageReadError: the image cannot be decoded.
    """
    height, width, _ = read_image(path).shape
    return height, width


def _check_image(image: Mapping[str, Any], folder: Path) -> Problem | None:
    name, expected = image['file_name'], (image['height'], image['width'])
    try:
        size = read_image_size(locate_image(folder, name))
    except ImageReadError as error:
        return Problem(name, error.reason)
    if size != expected:
        return Problem(
            name,
            f'is {_px(size)}, the annotations expect {_px(expected)}'
            + describe_exchanged_sides(size, expected),
        )
    return None


def _px(size: tuple[int, int]) -> str:
    return f'{size[1]} x {size[0]} px'
