"""Annotated images of a study, and the cache of their computed parts.

A study computes named parts of every image, one per setting. The parts of an image are saved in
``OUT/images/<file name>.json``, so an interrupted study, or one with further settings, computes
only the missing parts.
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
    """An annotated image."""

    name: str
    path: Path
    image_id: int | str
    ground_truth: People  # without crowd regions; see `coco_ground_truth.load_ground_truth`
    annotations: tuple[dict[str, Any], ...]  # of the image, with crowd regions


@dataclass(frozen=True, eq=False)
class StudyData:
    """The images of a study."""

    dataset: EvalDataset
    content: dict[str, Any]  # of the annotation file, validated
    images: tuple[StudyImage, ...]
    notes: tuple[str, ...]  # printed for the user


@dataclass
class Computed:
    """The computed parts of all images."""

    parts: dict[str, Parts] = field(default_factory=dict)  # by name of the image
    failures: list[Failure] = field(default_factory=list)


def load_study_data(dataset: EvalDataset, limit: int | None = None) -> StudyData:
    """Load the first ``limit`` images of a data set.

    Raises:
        AnnotationError: the annotations are invalid.
    """
    annotations = load_annotations(dataset.annotations)
    of_image: dict[int | str, list[dict[str, Any]]] = defaultdict(list)
    for row in annotations.content['annotations']:
        of_image[row['image_id']].append(row)
    images = tuple(
        StudyImage(
            t.file_name, dataset.images / t.file_name, t.image_id, t.people,
            tuple(of_image[t.image_id]),
        )
        for t in load_ground_truth(dataset.annotations)[:limit]
    )  # fmt: skip
    notes = [*annotations.warnings, *dataset.notes]
    if dataset.partial_ground_truth:
        notes.append('some people are not annotated; detections of them count as false positives')
    return StudyData(dataset, annotations.content, images, tuple(notes))


def select_annotations(data: StudyData, names: Mapping[str, Any]) -> dict[str, Any]:
    """Select the content of the annotation file for the images with these names."""
    ids = {image.image_id for image in data.images if image.name in names}
    return {
        **data.content,
        'images': [i for i in data.content['images'] if i['id'] in ids],
        'annotations': [a for a in data.content['annotations'] if a['image_id'] in ids],
    }


def build_provenance(config: ResolvedConfig, built: BuiltPipeline, **others: Any) -> dict[str, Any]:
    """Describe everything that the parts depend on, except the image and its annotations."""
    return {
        'config': _hash(config.text),
        'models': [*built.model_configs, *(f'{w.name}: {w.sha256}' for w in built.weights)],
        'version': __version__,
        **others,
    }


def compute_images(
    images: Sequence[StudyImage],
    folder: Path,
    names: Sequence[str],
    compute: Callable[[Image, StudyImage, Sequence[str]], Parts],
    *,
    depends_on: Mapping[str, Any],
    reporter: Reporter,
) -> Computed:
    """Compute the missing parts of all images; failures are recorded and do not stop the others.

    Args:
        images: images to compute.
        folder: cache of the parts.
        names: names of the parts.
        compute: computes the requested parts, and possibly more.
        depends_on: provenance; cached parts with another one are not used.
        reporter: receives the progress.
    """
    done = Computed()
    reporter.start(len(images))
    try:
        for image in images:
            try:
                parts, new = _load_or_compute(image, folder, names, compute, depends_on)
            except Exception as error:  # noqa: BLE001 - one image must not stop the others
                done.failures.append(Failure.from_error(image.path, error))
                reporter.message(f'failed: {done.failures[-1].describe()}')
                reporter.update(image.name, 'failed')
                continue
            done.parts[image.name] = {name: parts[name] for name in names}
            reporter.update(image.name, f'{new} computed, {len(names) - new} kept')
    finally:
        reporter.stop()
    return done


def _load_or_compute(
    item: StudyImage,
    folder: Path,
    names: Sequence[str],
    compute: Callable[[Image, StudyImage, Sequence[str]], Parts],
    depends_on: Mapping[str, Any],
) -> tuple[Parts, int]:
    """Parts of an image, and the number of newly computed ones."""
    data = read_file(item.path)
    key = {
        **depends_on,
        'image': hashlib.sha256(data).hexdigest(),
        'annotations': _hash(json.dumps(item.annotations, sort_keys=True)),
    }
    path = folder / f'{item.name}.json'
    parts = _load_parts(path, key)
    missing = [name for name in names if name not in parts]
    if missing:
        image = decode_image(data, item.path)
        height, width = item.ground_truth.image_shape
        if image.shape[:2] != (height, width):
            raise ValueError(
                f'the image is {image.shape[1]} x {image.shape[0]}, the annotations say '
                f'{width} x {height}'
            )
        parts |= compute(image, item, missing)
        write_json(path, {'made_with': key, 'parts': parts})
    return parts, len(missing)


def _load_parts(path: Path, key: Mapping[str, Any]) -> Parts:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
        parts: Parts = content['parts'] if content['made_with'] == key else {}
    except (ValueError, KeyError, TypeError):
        return {}  # treat a damaged file as missing
    return parts


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
