"""Options and report of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..candidates import Candidates
from ..runtime.timing import StageTimer
from ..structures import Detections, Image
from ..values import check_range
from ..visualization.style import DrawingStyle
from .dataset_writers import DATASET_WRITERS
from .inputs import Failure
from .writers import WRITERS

if TYPE_CHECKING:
    from .coco_checks import ImageId

# Choices of --save; json is always written, since a run resumes from it.
OUTPUTS = ('json', *sorted(DATASET_WRITERS), *sorted(WRITERS))
# Further choices for videos -> file in the folder of a video.
VIDEO_OUTPUTS = {
    'mot': 'mot.txt',
    'mots': 'mots.txt',
    'coco-video': 'coco_video.json',
    'posetrack': 'posetrack.json',
    'cvat': 'cvat.xml',
    'trajectories': 'trajectories.txt',
}
DEFAULT_SAVE = ('json', 'coco', 'overlay')


class OutputError(RuntimeError):
    """Results cannot be written to the output folder."""


class Pipeline(Protocol):
    """The part of a loaded pipeline that a run uses; see `pipeline.api.LoadedPipeline`."""

    config_text: str
    config_key: str  # the settings on which candidates depend
    min_score: float | None
    weights: dict[str, str]
    device: str
    precision: str
    load_seconds: float

    def predict_candidates(
        self, images: Sequence[Image], boxes: Sequence[Any], timer: StageTimer | None, /
    ) -> list[Candidates]:
        """Predict the people of each image, before ``min_score``.

        Args:
            images: RGB uint8, (H, W, 3) each.
            boxes: Result of ``RunOptions.check`` for each image; None: no boxes.
            timer: Sums the seconds of each stage.
        """


@dataclass(frozen=True)
class RunOptions:
    """Outputs and options of a run."""

    out_dir: Path
    save: frozenset[str] = frozenset(DEFAULT_SAVE)
    resume: bool = True
    boxes: Mapping[str, Any] = field(default_factory=dict)  # image name -> JSON content
    # (content, (H, W)) -> boxes
    check: Callable[[Any, tuple[int, int]], Any] = Detections.from_boxes
    image_ids: Mapping[str, ImageId] | None = None  # by name; None: 1, 2, ... in input order
    config: str = ''  # argument of the command, for run.json
    command: tuple[str, ...] = ()
    batch_images: int = 1  # batch size
    style: DrawingStyle = field(default_factory=DrawingStyle)
    full_names: bool = False  # keep the suffix of the image in the names of its files

    def written_with(self, min_score: float | None) -> dict[str, Any]:
        """Describe how files are made from predictions; other files are made again."""
        style, plain = asdict(self.style), asdict(DrawingStyle())
        # Of the later settings only those that differ, so that files of earlier runs stay.
        changed = {key: value for key, value in style.items() if value != plain[key]}
        named = {'layers': [*self.style.layers], 'labels': self.style.labels}
        return {'min_score': min_score, **changed, **named}

    def __post_init__(self) -> None:
        check_range('batch_images', self.batch_images, '>= 1')
        unknown = sorted(self.save - set(OUTPUTS))
        if unknown:
            raise ValueError(f'save: unknown {unknown}; choose from {", ".join(OUTPUTS)}')


@dataclass
class RunReport:
    """Counts, times and failures of a run."""

    images: int
    failures: list[Failure] = field(default_factory=list)
    done: frozenset[str] = frozenset()  # names of the images with a record
    computed: int = 0  # images that this run predicted
    resumed: int = 0  # images of an earlier run
    redone: int = 0  # part of `computed`: images of an earlier run with other settings
    people: int = 0
    empty: int = 0  # images without people
    dropped: int = 0  # candidates below the minimum score
    min_score: float | None = None
    videos: list[str] = field(default_factory=list)  # one line for each that is done
    interrupted: bool = False
    seconds: dict[str, float] = field(default_factory=dict)  # per stage, and `total`
    files: list[Path] = field(default_factory=list)  # for the whole run

    @property
    def exit_code(self) -> int:
        """0: success, 1: an input failed, 130: interrupted."""
        return 130 if self.interrupted else int(bool(self.failures))
