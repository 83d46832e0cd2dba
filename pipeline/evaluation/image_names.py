"""Match the images of results to those of annotations by file name.

The ids of ``coco_results.json`` are those of ``coco_images.json`` beside it; without ``--coco-ids``
these are 1, 2, ... and mean other images in an annotation file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..io.annotations import match_images
from ..io.coco_checks import as_id, check_images, errors_in, read_coco, read_json, read_section
from ..io.inputs import name_forms
from ..io.results import ResultsInfo, read_results

IMAGES = 'coco_images.json'


@contextmanager
def matching_files(
    results_file: Path, annotation_file: Path, person_category: str | None
) -> Iterator[tuple[Any, Any, ResultsInfo | None, tuple[str, ...]]]:
    """Read results and annotations; errors of the block name both files.

    Yields:
        Results with the ids of the annotations, annotations, the side file of the results, and
        remarks.

    Raises:
        ValueError: A file cannot be read, or they do not match.
    """
    results, info = read_results(results_file)
    annotations = read_coco(annotation_file, person_category)
    try:
        rows, remarks = join_by_name(results, results_file, annotations, info)
        yield rows, annotations, info, remarks
    except ValueError as error:
        raise ValueError(f'{results_file} against {annotation_file}: {error}') from error


def join_by_name(
    results: Any, results_file: Path, annotations: Any, info: ResultsInfo | None
) -> tuple[Any, tuple[str, ...]]:
    """Give results the image ids of the annotations, if ``coco_images.json`` names their images.

    A run with the side file ``info`` used the ids of the annotations.
    """
    images_file = results_file.with_name(IMAGES)
    if info is not None or not isinstance(results, list) or not images_file.is_file():
        return results, ()
    with errors_in(images_file) as report:
        names = {i['id']: i['file_name'] for i in check_images(read_json(images_file), report)}
    images = read_section(annotations, 'images')
    if not images or not all(isinstance(image.get('file_name'), str) for image in images):
        return results, ()  # only ids can be compared
    if not all(isinstance(r, dict) and as_id(r.get('image_id')) in names for r in results):
        return results, ()  # the results of another run
    # The last form is the decoded one.
    known = {name_forms(image['file_name'])[-1]: image.get('id') for image in images}
    hint = 'run again with --coco-ids ANNOTATIONS'
    matches = match_images(images_file, names.values(), known, hint)
    if names and not matches:
        raise ValueError(
            f'none of the {len(names)} images in {images_file} is in the annotations, e.g. '
            f'{next(iter(names.values()))!r}; use the annotations of these images'
        )
    ids = {old: known[matches[name]] for old, name in names.items() if name in matches}
    remarks = []
    if any(old != new for old, new in ids.items()):
        remarks.append(f'image ids differ from the annotations; joined by the names in {IMAGES}')
    if len(ids) < len(names):
        remarks.append(
            f'{len(names) - len(ids)} of {len(names)} images of the run are not in the annotations '
            'and are left out'
        )
    missing = len(images) - len(ids)
    if missing:
        remarks.append(
            f'{missing} of {len(images)} annotated images are not in the run and count as without '
            'results'
        )
    rows = [r | {'image_id': ids[r['image_id']]} for r in results if r['image_id'] in ids]
    return rows, tuple(remarks)
