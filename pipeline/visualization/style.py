"""Style of drawings; needs no drawing library, so that commands can list the choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..values import check_ranges

Layer = Literal['boxes', 'masks', 'skeletons']
Labels = Literal['none', 'score', 'id', 'id-score']
Hide = Literal['none', 'faces', 'people', 'silhouettes']
LAYERS: tuple[Layer, ...] = get_args(Layer)
LABELS: tuple[Labels, ...] = get_args(Labels)
HIDE: tuple[Hide, ...] = get_args(Hide)


@dataclass(frozen=True)
class DrawingStyle:
    """What `People.draw` shows, and how."""

    layers: tuple[Layer, ...] = LAYERS
    # Text of each person: instance score, person_id (1 has the highest score), or both.
    labels: Labels = 'score'
    alpha: float = 0.38  # opacity of the masks, in [0, 1]
    keypoint_threshold: float = 0.3  # minimum score and presence of a keypoint
    line_width: float | None = None  # px of limbs, twice that of boxes; None: by size
    left_right: bool = False  # left limbs green and right ones orange, as MMPose draws them
    hide: Hide = 'none'  # make faces or whole people unrecognisable

    def __post_init__(self) -> None:
        check_ranges(self, 'DrawingStyle', alpha='in [0, 1]', keypoint_threshold='in [0, 1]')
        check_ranges(self, 'DrawingStyle', line_width='>= 1')
        if self.hide not in HIDE:
            raise ValueError(f'hide is one of {", ".join(HIDE)}, got {self.hide!r}')
        unknown = sorted({*self.layers} - {*LAYERS})
        if unknown or self.labels not in LABELS:
            raise ValueError(
                f'layers are any of {", ".join(LAYERS)} and labels one of {", ".join(LABELS)}, '
                f'got {unknown or self.labels!r}'
            )
