"""Match the images of results to those of annotations by file name.

The ids of ``coco_results.json`` are those of ``coco_images.json`` beside it; without ``--coco-ids``
these are 1, 2, ... and mean other images in an annotation file.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..io.coco_checks import read_json
from ..io.inputs import name_forms
from ..io.results import ResultsInfo

IMAGES = 'coco_images.json'
Row = dict[str, Any]


def join_by_name(
    results: Any, results_file: Path, annotations: Any, info: ResultsInfo | None
) -> tuple[Any, tuple[str, ...]]:
    """Give results the image ids of the annotations.

    Args:
        results: Rows of COCO results; not modified.
        results_file: Their file.
        annotations: Content of a COCO annotation file.
        info: Side file of the results; its run used the ids of the annotations.

    Returns:
        Results and remarks. The results are unchanged without ``coco_images.json``.

    Raises:
        ValueError: No image, or two images of the results, fit an image of the annotations.
    """
    images_file = results_file.with_name(IMAGES)
    if info is not None or not isinstance(results, list) or not images_file.is_file():
        return results, ()
    names = {image['id']: image['file_name'] for image in read_json(images_file)['images']}
    images = annotations.get('images') if isinstance(annotations, dict) else None
    if not images or any('file_name' not in image for image in images):
        return results, ()  # only ids can be compared
    if any(r.get('image_id') not in names for r in results):
        return results, ()  # the results of another run
    ids = _match(names, images, images_file)
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


def _match(names: Mapping[Any, str], images: Sequence[Row], file: Path) -> dict[Any, Any]:
    """Ids of the annotations by id of the results: equal names, else equal file names."""
    exact = {image['file_name']: image['id'] for image in images}
    short: dict[str, list[Any]] = defaultdict(list)
    for name, image_id in exact.items():
        short[_file_name(name)].append(image_id)
    ids: dict[Any, Any] = {}
    taken: set[Any] = set()
    for old, name in names.items():
        fits = [exact[name]] if name in exact else short.get(_file_name(name), [])
        if len(fits) > 1 or taken & set(fits):
            raise ValueError(
                f'{file}: {name!r} fits several images; run again with --coco-ids ANNOTATIONS'
            )
        if fits:
            ids[old] = fits[0]
            taken.add(fits[0])
    if names and not ids:
        raise ValueError(
            f'none of the {len(names)} images in {file} is in the annotations, e.g. '
            f'{next(iter(names.values()))!r}; use the annotations of these images'
        )
    return ids


def _file_name(name: str) -> str:
    return unicodedata.normalize('NFC', PurePosixPath(name_forms(name)[-1]).name)
