"""Annotated photos of a study, and what was computed for each of them, kept in a file.

A study asks for named parts of every photo (one per setting). What a photo has is kept in
``OUT/photos/<file name>.json``, so a study that was killed, or is asked for more settings, computes
only what is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.build import BuiltPipeline
from pipeline.config import ResolvedConfig
from pipeline.datasets.annotations import load_annotations
from pipeline.datasets.coco_ground_truth import load_ground_truth
from pipeline.datasets.eval_sets import EvalDataset
from pipeline.io.atomic import write_json
from pipeline.io.images import decode_image, read_file
from pipeline.io.inputs import Failure
from pipeline.io.progress import Reporter
from pipeline.structures import Image, People

Parts = dict[str, Any]  # JSON content by name of the part


@dataclass(frozen=True, eq=False)
class StudyImage:
    """A photo with what is annotated."""

    name: str
    path: Path
    image_id: int | str
    truth: People  # single people; see `pipeline.datasets.coco_ground_truth.load_ground_truth`
    people: tuple[dict[str, Any], ...]  # annotations of the photo, crowd regions too


@dataclass(frozen=True, eq=False)
class StudyData:
    """The photos of a study."""

    dataset: EvalDataset
    content: dict[str, Any]  # of the annotation file, checked
    photos: tuple[StudyImage, ...]
    notes: tuple[str, ...]  # to be told to the user


@dataclass
class Computed:
    """What a study has of its photos."""

    parts: dict[str, Parts] = field(default_factory=dict)  # by name of the photo
    failures: list[Failure] = field(default_factory=list)


def load_study_data(dataset: EvalDataset, limit: int | None = None) -> StudyData:
    """Photos of a data set, the first ``limit`` of them.

    Raises:
        AnnotationError: the annotations cannot be used.
    """
    annotations = load_annotations(dataset.annotations)
    of_image: dict[int | str, list[dict[str, Any]]] = defaultdict(list)
    for row in annotations.content['annotations']:
        of_image[row['image_id']].append(row)
    photos = tuple(
        StudyImage(
            t.file_name, dataset.images / t.file_name, t.image_id, t.people,
            tuple(of_image[t.image_id]),
        )
        for t in load_ground_truth(dataset.annotations)[:limit]
    )  # fmt: skip
    notes = [*annotations.warnings, *dataset.notes]
    if dataset.partial_truth:
        notes.append('some people of these photos are not annotated: finding them counts as wrong')
    return StudyData(dataset, annotations.content, photos, tuple(notes))


def annotations_of(data: StudyData, names: Mapping[str, Any]) -> dict[str, Any]:
    """Content of the annotation file for the photos with these names only."""
    ids = {p.image_id for p in data.photos if p.name in names}
    return {
        **data.content,
        'images': [i for i in data.content['images'] if i['id'] in ids],
        'annotations': [a for a in data.content['annotations'] if a['image_id'] in ids],
    }


def provenance(config: ResolvedConfig, built: BuiltPipeline, **others: Any) -> dict[str, Any]:
    """What the parts of a photo depend on, besides the photo and its annotations."""
    return {
        'config': _hash(config.text),
        'models': [*built.model_configs, *(f'{w.name}: {w.sha256}' for w in built.weights)],
        'version': __version__,
        **others,
    }


def compute_images(
    photos: Sequence[StudyImage],
    folder: Path,
    wanted: Sequence[str],
    compute: Callable[[Image, StudyImage, Sequence[str]], Parts],
    *,
    depends_on: Mapping[str, Any],
    reporter: Reporter,
) -> Computed:
    """The wanted parts of all photos; a photo that fails is recorded and the others go on.

    Args:
        photos: what to compute for.
        folder: where photos are kept.
        wanted: names of the parts.
        compute: gives the parts that are asked for, and may give more.
        depends_on: parts made with something else are not used.
        reporter: hears about the progress.
    """
    done = Computed()
    reporter.start(len(photos))
    try:
        for photo in photos:
            try:
                parts, new = _photo_parts(photo, folder, wanted, compute, depends_on)
            except Exception as error:  # noqa: BLE001 - one photo must not stop the others
                done.failures.append(Failure.from_error(photo.path, error))
                reporter.message(f'failed: {done.failures[-1].describe()}')
                reporter.update(photo.name, 'failed')
                continue
            done.parts[photo.name] = {name: parts[name] for name in wanted}
            reporter.update(photo.name, f'{new} computed, {len(wanted) - new} kept')
    finally:
        reporter.stop()
    return done


def _photo_parts(
    photo: StudyImage,
    folder: Path,
    wanted: Sequence[str],
    compute: Callable[[Image, StudyImage, Sequence[str]], Parts],
    depends_on: Mapping[str, Any],
) -> tuple[Parts, int]:
    """Parts of a photo, and how many of the wanted ones were computed now."""
    data = read_file(photo.path)
    key = {
        **depends_on,
        'photo': hashlib.sha256(data).hexdigest(),
        'annotations': _hash(json.dumps(photo.people, sort_keys=True)),
    }
    path = folder / f'{photo.name}.json'
    parts = _kept(path, key)
    missing = [name for name in wanted if name not in parts]
    if missing:
        image = decode_image(data, photo.path)
        if image.shape[:2] != photo.truth.image_shape:
            raise ValueError(
                f'the photo is {image.shape[1]} x {image.shape[0]}, the annotations say '
                f'{photo.truth.image_shape[1]} x {photo.truth.image_shape[0]}'
            )
        parts |= compute(image, photo, missing)
        write_json(path, {'made_with': key, 'parts': parts})
    return parts, len(missing)


def _kept(path: Path, key: Mapping[str, Any]) -> Parts:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
        parts: Parts = content['parts'] if content['made_with'] == key else {}
    except (ValueError, KeyError, TypeError):
        return {}  # damaged: as if it were not there
    return parts


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
