"""Style of drawings; needs no drawing library, so that commands can list the choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..values import check_ranges

Layer = Literal['boxes', 'masks', 'skeletons']
Labels = Literal['none', 'score', 'id']
LAYERS: tuple[Layer, ...] = get_args(Layer)
LABELS: tuple[Labels, ...] = get_args(Labels)


@dataclass(frozen=True)
class DrawingStyle:
    """What `People.draw` shows, and how."""

    layers: tuple[Layer, ...] = LAYERS
    # Text beside the box, if there is space: instance score or person_id (1 has the highest score).
    labels: Labels = 'score'
    alpha: float = 0.38  # opacity of the masks, in [0, 1]
    keypoint_threshold: float = 0.3  # minimum score and presence of a keypoint

    def __post_init__(self) -> None:
        check_ranges(self, 'DrawingStyle', alpha='in [0, 1]', keypoint_threshold='in [0, 1]')
        unknown = sorted({*self.layers} - {*LAYERS})
        if unknown or self.labels not in LABELS:
            raise ValueError(
                f'layers are any of {", ".join(LAYERS)} and labels one of {", ".join(LABELS)}, '
                f'got {unknown or self.labels!r}'
            )
