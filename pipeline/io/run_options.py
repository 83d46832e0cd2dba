"""What a run needs, and what it reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..runtime.timing import StageTimer
from ..structures import Image, People
from .annotations import ImageId, check_boxes
from .dataset_writers import DATASET_WRITERS
from .inputs import Failure
from .writers import WRITERS

# What --save takes; json is always written, because a run resumes from it.
OUTPUTS = ('json', *sorted(DATASET_WRITERS), *sorted(WRITERS))
DEFAULT_SAVE = ('json', 'coco', 'overlay')


class OutputError(RuntimeError):
    """Results cannot be written to the folder that the user chose."""


class Pipeline(Protocol):
    """What a run needs of a loaded pipeline (see `pipeline.api.LoadedPipeline`)."""

    config_text: str
    weights: dict[str, str]
    device: str
    precision: str
    load_seconds: float

    def predict_batch(
        self, images: Sequence[Image], boxes: Sequence[Any], timer: StageTimer | None, /
    ) -> list[People]:
        """People of each image.

        Args:
            images: RGB uint8, (H, W, 3) each.
            boxes: what ``RunOptions.check`` returned for each image; None: no boxes.
            timer: adds up the seconds of the stages.
        """


@dataclass(frozen=True)
class RunOptions:
    """What to write, and where."""

    out_dir: Path
    save: frozenset[str] = frozenset(DEFAULT_SAVE)
    resume: bool = True
    # JSON content by image name, and (content, (H, W)) -> what the pipeline gets with the image.
    boxes: Mapping[str, Any] = field(default_factory=dict)
    check: Callable[[Any, tuple[int, int]], Any] = check_boxes
    image_ids: Mapping[str, ImageId] | None = None  # by name; None: 1, 2, ... in the given order
    config: str = ''  # as the user wrote it, for run.json
    command: tuple[str, ...] = ()
    batch_images: int = 1  # images in a batch

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
    done: frozenset[str] = frozenset()  # names of the images that have a record
    computed: int = 0  # images that the pipeline ran on
    resumed: int = 0  # images that were done before
    redone: int = 0  # of `computed`: done before, but with something else
    people: int = 0
    interrupted: bool = False
    seconds: dict[str, float] = field(default_factory=dict)  # per stage, and `total`
    files: list[Path] = field(default_factory=list)  # for the whole run

    @property
    def exit_code(self) -> int:
        """0 all well, 1 an input failed, 130 interrupted."""
        return 130 if self.interrupted else int(bool(self.failures))
