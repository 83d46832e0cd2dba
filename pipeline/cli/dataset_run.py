"""A pipeline over a data set, under a protocol, into one results file.

The photos run as in `pipeline.io.run`: a record each, resume, failures. A shard has a folder of its
own, ``OUT/shards/i-of-n``, so that shards may run side by side; a run without a shard first takes
over what the shards have done, so it ends with the same bytes as one that did all by itself.
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
from ..io.atomic import atomic_file, write_bytes
from ..io.dataset_writers import JsonRows, MergeEntry
from ..io.inputs import InputImage
from ..io.progress import Reporter
from ..io.records import record_path
from ..io.results import ResultsInfo, file_sha256, info_path, write_info
from ..io.run import disk_errors, done_entries, lock_folder, run_images
from ..io.run_options import RunOptions, RunReport
from ..keypoints import NUM_COCO
from .protocols import (
    Protocol,
    ProtocolError,
    ProtocolPipeline,
    ground_truth_of,
    read_ground_truth,
)  # fmt: skip

RESULTS = 'results.json'
Load = Callable[[str, Mapping[str, Any], Protocol], ProtocolPipeline]


@dataclass(frozen=True)
class Shard:
    """Part ``index`` (from 1) of ``count``: every ``count``-th photo."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ValueError(f'shard must be i/n with 1 <= i <= n, got {self.index}/{self.count}')

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard from ``i/n``.

        Raises:
            ValueError: not of that form.
        """
        parts = text.split('/')
        if len(parts) != 2 or not all(part.isdecimal() for part in parts):
            raise ValueError(f'shard must be i/n, such as 1/4, got {text!r}')
        return cls(int(parts[0]), int(parts[1]))

    def folder(self, out_dir: Path) -> Path:
        """Where the shard writes."""
        return out_dir / 'shards' / f'{self.index}-of-{self.count}'


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
    shard: Shard | None = None
    limit: int | None = None  # the first photos only; None: all
    resume: bool = True
    command: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where this run writes."""
        return self.shard.folder(self.out_dir) if self.shard else self.out_dir


@dataclass(frozen=True)
class DatasetReport:
    """What a run over a data set did."""

    run: RunReport
    results: Path | None  # None: a shard, or interrupted


def run_dataset(request: DatasetRequest, *, load: Load, reporter: Reporter) -> DatasetReport:
    """Run a pipeline over a data set; what can be checked is checked before models load.

    Raises:
        DatasetError: the data set is not there or is none.
        AnnotationError: the annotations cannot be used.
        ProtocolError: the annotations lack what the protocol starts from.
        OutputError: the results cannot be written.
        ConfigError, CheckpointError: from ``load``.
    """
    data = resolve_dataset(request.data, request.data_root, images=request.images)
    truth = load_annotations(data.annotations)
    _check_protocol(request.protocol, truth, data)
    photos = _photos(data, truth.content['images'], request.limit)
    pipeline = load(request.config, request.cfg_options, request.protocol)
    if request.shard is None:
        with lock_folder(request.out_dir), disk_errors(request.out_dir):
            _take_over(request.out_dir, [p for p, _ in photos], reporter)
    mine = photos[request.shard.index - 1 :: request.shard.count] if request.shard else photos
    options = RunOptions(
        request.folder,
        frozenset(['json']),
        resume=request.resume,
        boxes=_ground_truth(request.protocol, truth, photos),
        check=read_ground_truth,
        image_ids={photo.name: image['id'] for photo, image in photos},
        config=request.config,
        command=request.command,
    )
    report = run_images(pipeline, [photo for photo, _ in mine], options, reporter=reporter)
    if request.shard is not None or report.interrupted:
        return DatasetReport(report, None)
    info = _info(request, pipeline, data, truth, photos, report)
    with disk_errors(request.out_dir):
        results = _write_results(request, options, [p for p, _ in photos], report.done)
        write_info(results, info)
    return DatasetReport(report, results)


def _check_protocol(protocol: Protocol, truth: Annotations, data: EvalDataset) -> None:
    scored = [task for task in protocol.facts.tasks if task in truth.tasks]
    if not scored:
        raise ProtocolError(
            f'{data.name} has annotations for {", ".join(truth.tasks) or "no task"}; protocol '
            f'{protocol.name} is scored by {" or ".join(protocol.facts.tasks)}'
        )
    if protocol.facts.keypoints_needed and 'keypoints' not in truth.tasks:
        raise ProtocolError(f'{data.name} has no keypoints, which protocol {protocol.name} needs')
    if protocol.gt_masks and 'segm' not in truth.tasks:
        raise ProtocolError(f'{data.name} has no masks, which --gt-masks needs')


def _photos(
    data: EvalDataset, images: Sequence[dict[str, Any]], limit: int | None
) -> list[tuple[InputImage, dict[str, Any]]]:
    """Photos in the order of the annotation file, with their entries in it."""
    photos = []
    names: set[str] = set()
    for image in images[:limit]:
        name = PurePosixPath(image['file_name']).as_posix()
        if PurePosixPath(name).is_absolute() or '..' in PurePosixPath(name).parts or name in names:
            raise DatasetError(
                f'{data.annotations}: file_name {image["file_name"]!r} must be a path inside the '
                'folder of the photos, and there only once'
            )
        names.add(name)
        photos.append((InputImage(data.images / name, name, data.images), image))
    if photos and not any(photo.path.exists() for photo, _ in photos):
        raise DatasetError(
            f'none of the {len(photos)} photos of {data.annotations} is in {data.images} (looked '
            f'for {photos[0][0].name}, ...); name their folder with --images'
        )
    return photos


def _ground_truth(
    protocol: Protocol, truth: Annotations, photos: Sequence[tuple[InputImage, dict[str, Any]]]
) -> dict[str, Any]:
    people: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for annotation in truth.content['annotations']:
        people[annotation['image_id']].append(annotation)
    order = truth.convention if 'keypoints' in truth.tasks else None
    return {
        photo.name: ground_truth_of(protocol, image, people[image['id']], order)
        for photo, image in photos
    }


def _take_over(out_dir: Path, photos: Sequence[InputImage], reporter: Reporter) -> None:
    """Copy the records that shards have made, if they are newer than what is there."""
    folders = sorted((out_dir / 'shards').glob('*-of-*'))
    taken = 0
    for photo in photos:
        own = record_path(out_dir, photo.name)
        made = [path for f in folders if (path := record_path(f, photo.name)).is_file()]
        newest = max(made, key=lambda path: path.stat().st_mtime_ns, default=None)
        if newest and (not own.is_file() or own.stat().st_mtime_ns < newest.stat().st_mtime_ns):
            write_bytes(own, newest.read_bytes())
            taken += 1
    if taken:
        reporter.message(f'{taken} photos taken over from {len(folders)} shards')


def _write_results(
    request: DatasetRequest, options: RunOptions, photos: Sequence[InputImage], done: frozenset[str]
) -> Path:
    path = request.out_dir / RESULTS
    info_path(path).unlink(missing_ok=True)  # never beside the results of another run
    entries = done_entries(
        request.out_dir, [p for p in photos if p.name in done], options.image_ids or {}
    )
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
    """Rows of one photo: COCO results, with what evaluation adds."""
    for i, row in enumerate(entry.people.to_coco(entry.image_id)):
        if entry.people.num_keypoints > NUM_COCO:
            row['extra_keypoints'] = _extra_keypoints(entry, i)
        if protocol.from_truth:
            row['annotation_id'] = people[i]['id']
        if protocol.name == 'oracle':
            # As annotated, in the order of the data set; there is no pose to replay without labels.
            points = people[i].get('keypoints', [])
            row['keypoints'] = points if any(points[2::3]) else None
        yield row


def _extra_keypoints(entry: MergeEntry, i: int) -> list[float]:
    points, scores = (
        entry.people.keypoints[i, NUM_COCO:],
        entry.people.keypoint_scores[i, NUM_COCO:],
    )
    return [
        value
        for (x, y), score in zip(points.tolist(), scores.tolist(), strict=True)
        for value in (round(x, 2), round(y, 2), round(score, 5))
    ]


def _info(
    request: DatasetRequest,
    pipeline: ProtocolPipeline,
    data: EvalDataset,
    truth: Annotations,
    photos: Sequence[tuple[InputImage, dict[str, Any]]],
    report: RunReport,
) -> ResultsInfo:
    notes = list(data.notes)
    if request.limit is not None:
        notes.append(f'only the first {len(photos)} of {len(truth.content["images"])} photos')
    if data.partial_ground_truth and not request.protocol.from_truth:
        notes.append(
            'some people of these photos are not annotated: finding them counts as wrong, so '
            'figures compare with those of the same protocol only'
        )
    return ResultsInfo(
        protocol=request.protocol.name,
        protocol_text=pipeline.protocol_text,
        from_truth=request.protocol.from_truth,
        tasks=request.protocol.facts.tasks,
        data_set=data.name,
        annotations=str(data.annotations.absolute()),
        annotations_sha256=file_sha256(data.annotations),
        config=request.config,
        config_text=pipeline.config_text,
        weights=pipeline.weights,
        precision=pipeline.precision,
        version=__version__,
        image_ids=tuple(image['id'] for _, image in photos),
        failed=tuple(photo.name for photo, _ in photos if photo.name not in report.done),
        notes=tuple(notes),
    )
