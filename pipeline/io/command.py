"""What ``tools/run_bmp.py`` does once its arguments are parsed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cli.demo import demo_inputs
from .annotations import ImageId, load_boxes, load_image_ids
from .atomic import write_json
from .inputs import Inputs, find_photos
from .progress import Reporter
from .run import failures_json, run_photos
from .run_options import Pipeline, RunOptions, RunReport

logger = logging.getLogger(__name__)

Load = Callable[[str, Mapping[str, Any]], Pipeline]


@dataclass(frozen=True)
class Request:
    """The arguments of the command line."""

    inputs: tuple[str, ...]
    config: str
    save: tuple[str, ...]
    demo: bool = False
    out_dir: Path | None = None  # None: outputs/<name of the config>
    cfg_options: Mapping[str, Any] = field(default_factory=dict)
    resume: bool = True
    boxes: Path | None = None
    coco_ids: Path | None = None
    batch_images: int = 1
    command: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return self.out_dir or Path('outputs') / Path(self.config).stem


def run_request(request: Request, *, load: Load, reporter: Reporter) -> RunReport:
    """Find the photos, load the pipeline and run it; files are checked before models load.

    Raises:
        InputError: the boxes or the ids cannot be used.
        OutputError: the results cannot be written.
        ConfigError, CheckpointError: from ``load``.
    """
    demo = demo_inputs(request.folder / 'inputs') if request.demo else []
    found = find_photos([*request.inputs, *demo], exclude=request.folder)
    for failure in found.failures:
        reporter.message(f'failed: {failure.described()}')
    if not found.photos:
        write_json(request.folder / 'failures.json', failures_json(found.failures), indent=1)
        return RunReport(0, list(found.failures))
    image_ids = _image_ids(request, found)
    own_boxes = _own_boxes(request, found, image_ids)
    options = RunOptions(
        request.folder,
        frozenset(request.save),
        resume=request.resume,
        given=own_boxes,
        image_ids=image_ids,
        config=request.config,
        command=request.command,
        batch_images=request.batch_images,
    )
    pipeline = load(request.config, request.cfg_options)
    return run_photos(pipeline, found.photos, options, failures=found.failures, reporter=reporter)


def _image_ids(request: Request, found: Inputs) -> Mapping[str, ImageId] | None:
    if request.coco_ids is None:
        return None
    ids = load_image_ids(request.coco_ids, found.photos)
    if ids.unknown:
        logger.warning(
            '%s has no id for %s; they are run but left out of the COCO and CSV files',
            request.coco_ids,
            _some(ids.unknown),
        )
    return ids.by_photo


def _own_boxes(
    request: Request, found: Inputs, image_ids: Mapping[str, ImageId] | None
) -> Mapping[str, Any]:
    if request.boxes is None:
        return {}
    boxes = load_boxes(request.boxes, found.photos, image_ids=image_ids)
    if boxes.unknown:
        logger.warning(
            '%s has boxes for %s, not among the inputs', request.boxes, _some(boxes.unknown)
        )
    without = tuple(p.name for p in found.photos if p.name not in boxes.by_photo)
    if without:
        logger.warning(
            '%s has no boxes for %s; the detector finds the people there',
            request.boxes,
            _some(without),
        )
    return boxes.by_photo


def _some(names: tuple[str, ...]) -> str:
    shown = ', '.join(names[:3])
    return shown if len(names) <= 3 else f'{shown} and {len(names) - 3} more'
