"""Run of a pipeline on a data set under a protocol, with one results file.

Images run as in `pipeline.io.run`: one record per image, resume, failures. Each shard writes to its
own folder ``OUT/shards/i-of-n``, so shards can run in parallel. A run without a shard first copies
the records of the shards; its results have the same bytes as those of a single run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path, PurePosixPath
from typing import Any

from .. import __version__
from ..datasets.annotations import Annotations, load_annotations
from ..datasets.eval_sets import DatasetError, EvalDataset, resolve_dataset
from ..io.atomic import atomic_file, compute_sha256, write_bytes
from ..io.dataset_writers import JsonRows
from ..io.inputs import InputImage, locate_image
from ..io.progress import Reporter
from ..io.records import MergeEntry, record_path
from ..io.results import ResultsInfo, info_path, write_info
from ..io.run import disk_errors, lock_folder, read_entries, run_images
from ..io.run_options import RunOptions, RunReport
from ..io.shard import Shard
from .protocols import (
    Protocol,
    ProtocolError,
    ProtocolPipeline,
    read_ground_truth,
    select_ground_truth,
)  # fmt: skip

RESULTS = 'results.json'
Load = Callable[[str, Mapping[str, Any], Protocol], ProtocolPipeline]


@dataclass(frozen=True)
class DatasetRequest:
    """The arguments of ``tools/test.py``."""

    config: str
    data: str  # name of a data set, or a COCO file
    out_dir: Path
    protocol: Protocol = field(default_factory=Protocol)
    cfg_options: Mapping[str, Any] = field(default_factory=dict)
    data_root: Path | None = None
    images: Path | None = None
    person_category: str | None = None  # name or id; None: found by its name
    shard: Shard | None = None
    limit: int | None = None  # number of images; None: all
    resume: bool = True
    command: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Output folder of this run."""
        return self.shard.folder(self.out_dir) if self.shard else self.out_dir


@dataclass(frozen=True)
class DatasetReport:
    """Result of a run on a data set."""

    run: RunReport
    results: Path | None  # None: a shard, or interrupted


def run_dataset(request: DatasetRequest, *, load: Load, reporter: Reporter) -> DatasetReport:
    """Run a pipeline on a data set; checks data and options before it loads models.

    Raises:
        DatasetError: The data set is unknown, missing or invalid.
        AnnotationError: The annotations are invalid.
        ProtocolError: The annotations have no input for the protocol.
        OutputError: The results cannot be written.
        ConfigError, CheckpointError: From ``load``.
    """
    data = resolve_dataset(
        request.data,
        request.data_root,
        images=request.images,
        person_category=request.person_category,
    )
    ground_truth = load_annotations(data.annotations, person_category=request.person_category)
    _check_protocol(request.protocol, ground_truth, data)
    rows = ground_truth.content['images'][: request.limit]
    images = _list_images(data, [row['file_name'] for row in rows])
    pipeline = load(request.config, request.cfg_options, request.protocol)
    if request.shard is None:
        with lock_folder(request.out_dir), disk_errors(request.out_dir):
            _merge_shards(request.out_dir, images, reporter)
    selected = request.shard.select(images) if request.shard else images
    options = RunOptions(
        request.folder,
        frozenset(['json']),
        resume=request.resume,
        boxes=_select_ground_truth(request.protocol, ground_truth, images, rows),
        check=read_ground_truth,
        image_ids={image.name: row['id'] for image, row in zip(images, rows, strict=True)},
        config=request.config,
        command=request.command,
        full_names=True,
    )
    report = run_images(pipeline, selected, options, reporter=reporter)
    if request.shard is not None or report.interrupted:
        return DatasetReport(report, None)
    failed = tuple(image.name for image in images if image.name not in report.done)
    info = _build_info(request, pipeline, data, ground_truth, failed)
    with disk_errors(request.out_dir):
        results = _write_results(request, options, images, report.done)
        write_info(results, info)
    return DatasetReport(report, results)


def _check_protocol(protocol: Protocol, ground_truth: Annotations, data: EvalDataset) -> None:
    tasks = ground_truth.tasks
    if not set(tasks) & set(protocol.facts.tasks):
        raise ProtocolError(
            f'{data.name} has annotations for {", ".join(tasks) or "no task"}; protocol '
            f'{protocol.name} is scored by {" or ".join(protocol.facts.tasks)}'
        )
    if protocol.facts.keypoints_needed and 'keypoints' not in tasks:
        raise ProtocolError(f'{data.name} has no keypoints, which protocol {protocol.name} needs')
    without = [row for row in ground_truth.content['annotations'] if 'id' not in row]
    if without and protocol.facts.from_ground_truth:
        raise ProtocolError(
            f'{data.annotations}: an annotation of image {without[0]["image_id"]} has no id, '
            f'which protocol {protocol.name} needs'
        )
    if protocol.gt_masks and 'segm' not in tasks:
        raise ProtocolError(f'{data.name} has no masks, which --gt-masks needs')


def _list_images(data: EvalDataset, file_names: Sequence[str]) -> list[InputImage]:
    images = {}
    for file_name in file_names:
        name = PurePosixPath(file_name).as_posix()
        if PurePosixPath(name).is_absolute() or '..' in PurePosixPath(name).parts or name in images:
            raise DatasetError(
                f'{data.annotations}: file_name {file_name!r} must be unique and a path inside the '
                'image folder'
            )
        images[name] = InputImage(locate_image(data.images, name), name, data.images)
    if images and not any(image.path.exists() for image in images.values()):
        raise DatasetError(
            f'none of the {len(images)} images of {data.annotations} is in {data.images} (such as '
            f'{next(iter(images))}); set their folder with --images'
        )
    return list(images.values())


def _select_ground_truth(
    protocol: Protocol,
    ground_truth: Annotations,
    images: Sequence[InputImage],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    people: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for annotation in ground_truth.content['annotations']:
        people[annotation['image_id']].append(annotation)
    order = ground_truth.convention if 'keypoints' in ground_truth.tasks else None
    return {
        image.name: select_ground_truth(protocol, row, people[row['id']], order)
        for image, row in zip(images, rows, strict=True)
    }


def _merge_shards(out_dir: Path, images: Sequence[InputImage], reporter: Reporter) -> None:
    """Copy the records of the shards that are newer than those in ``out_dir``."""
    folders = sorted((out_dir / 'shards').glob('*-of-*'))
    copied = 0
    for image in images:
        path = record_path(out_dir, image.name)
        records = [p for folder in folders if (p := record_path(folder, image.name)).is_file()]
        newest = max(records, key=lambda p: p.stat().st_mtime_ns, default=None)
        if newest and (not path.is_file() or path.stat().st_mtime_ns < newest.stat().st_mtime_ns):
            write_bytes(path, newest.read_bytes())
            copied += 1
    if copied:
        reporter.message(f'{copied} images merged from {len(folders)} shards')


def _write_results(
    request: DatasetRequest, options: RunOptions, images: Sequence[InputImage], done: frozenset[str]
) -> Path:
    path = request.out_dir / RESULTS
    info_path(path).unlink(missing_ok=True)  # it describes the previous results
    entries = read_entries(request.out_dir, images, done, options.image_ids or {})
    with atomic_file(path) as raw:
        stream = TextIOWrapper(raw, 'utf-8', newline='')
        rows = JsonRows(stream)
        for entry in entries:
            for row in _rows(request.protocol, entry, options.boxes[entry.name]['people']):
                rows.append(row)
        rows.close()
        stream.detach()
    return path


def _rows(
    protocol: Protocol, entry: MergeEntry, people: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield the COCO results of an image with the additional keys of the evaluation."""
    for i, row in enumerate(entry.people.to_coco(entry.image_id)):
        if protocol.from_ground_truth:
            row['annotation_id'] = people[i]['id']
        if protocol.name == 'oracle':
            # The annotated keypoints in the order of the data set; without labels there is no pose.
            points = people[i].get('keypoints', [])
            row['keypoints'] = points if any(points[2::3]) else None
        yield row


def _build_info(
    request: DatasetRequest,
    pipeline: ProtocolPipeline,
    data: EvalDataset,
    ground_truth: Annotations,
    failed: tuple[str, ...],
) -> ResultsInfo:
    image_ids = tuple(row['id'] for row in ground_truth.content['images'])
    notes = list(data.notes)
    if request.limit is not None:
        selected = image_ids[: request.limit]
        notes.append(f'only the first {len(selected)} of {len(image_ids)} images')
    if data.partial_ground_truth and not request.protocol.from_ground_truth:
        notes.append(
            'some people of these images are not annotated and count as false positives, so '
            'compare these metrics only with those of the same protocol'
        )
    return ResultsInfo(
        protocol=request.protocol.name,
        protocol_text=pipeline.protocol_text,
        from_truth=request.protocol.from_ground_truth,
        tasks=request.protocol.facts.tasks,
        data_set=data.name,
        annotations=str(data.annotations.absolute()),
        annotations_sha256=compute_sha256(data.annotations),
        config=request.config,
        config_text=pipeline.config_text,
        weights=pipeline.weights,
        precision=pipeline.precision,
        version=__version__,
        image_ids=image_ids[: request.limit],
        failed=failed,
        notes=tuple(notes),
    )
