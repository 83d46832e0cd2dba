"""What a run is asked for, and what it tells at its end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ..runtime.timing import StageTimer
from ..structures import Image, People
from .annotations import ImageId, check_boxes
from .inputs import Failure
from .merged import MERGED
from .records import FORMAT
from .writers import WRITERS

# What --save takes; json is always written, because it is what a run resumes from.
OUTPUTS = ('json', *sorted(MERGED), *sorted(WRITERS))
DEFAULT_SAVE = ('json', 'coco', 'overlay')


class Pipeline(Protocol):
    """What a run needs of a loaded pipeline (see `pipeline.api.LoadedPipeline`)."""

    config_text: str
    weights: dict[str, str]
    device: str
    precision: str
    load_seconds: float

    def __call__(self, image: Image, given: Any, timer: StageTimer | None, /) -> People:
        """People in an RGB uint8 image (H, W, 3).

        ``given`` is what ``RunOptions.check`` made for this photo; None: nothing was given.
        """


@runtime_checkable
class PipelineForMany(Pipeline, Protocol):
    """A pipeline that can take several photos at once."""

    def together(
        self, images: Sequence[Image], given: Sequence[Any], timer: StageTimer | None, /
    ) -> list[People]:
        """As one call per photo."""


@dataclass(frozen=True)
class RunOptions:
    """What to write, and where."""

    out_dir: Path
    save: frozenset[str] = frozenset(DEFAULT_SAVE)
    resume: bool = True
    given: Mapping[str, Any] = field(default_factory=dict)  # JSON content by name of the photo
    check: Callable[[Any, tuple[int, int]], Any] = (
        check_boxes  # `given`, (H, W) -> for the pipeline
    )
    image_ids: Mapping[str, ImageId] | None = None  # by name; None: 1, 2, ... in the given order
    config: str = ''  # as the user gave it, for run.json
    command: tuple[str, ...] = ()
    batch_images: int = 1  # photos that the pipeline takes at once

    def __post_init__(self) -> None:
        if self.batch_images < 1:
            raise ValueError(f'batch_images must be >= 1, got {self.batch_images}')
        unknown = sorted(self.save - set(OUTPUTS))
        if unknown:
            raise ValueError(f'save: unknown {unknown}; choose from {", ".join(OUTPUTS)}')


@dataclass
class RunReport:
    """What happened."""

    photos: int
    failures: list[Failure] = field(default_factory=list)
    done: frozenset[str] = frozenset()  # names of the photos that have a record
    computed: int = 0  # photos that the pipeline ran on
    resumed: int = 0  # photos that were done before
    redone: int = 0  # of `computed`: done before, but with something else
    people: int = 0
    interrupted: bool = False
    seconds: dict[str, float] = field(default_factory=dict)  # per stage, and `total`
    files: list[Path] = field(default_factory=list)  # for the whole run

    @property
    def exit_code(self) -> int:
        """0 all well, 1 an input failed, 130 interrupted."""
        return 130 if self.interrupted else int(bool(self.failures))


def record_path(out_dir: Path, name: str) -> Path:
    """Where the record of the photo ``name`` is."""
    return out_dir / 'predictions' / f'{name}.json'


def read_record(path: Path) -> dict[str, Any] | None:
    """The record in a file; None if it is damaged or of another version's format."""
    try:
        record = json.loads(path.read_bytes())
    except ValueError:
        return None
    return record if isinstance(record, dict) and record.get('format') == FORMAT else None
