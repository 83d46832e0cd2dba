"""Clicks on people whose masks may be known in part.

Legend: N people, S side of the square in px.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pipeline.training.pose2seg.clicks import ClickSimulator, ClickTargets, PoseMaskRefine


@dataclass(frozen=True, eq=False)
class PartialPeople(ClickTargets):
    """People whose masks may be known in part.

    Attributes:
        unknown: Pixels that may or may not be the person's, bool (N, S, S); never clicked.
    """

    unknown: Tensor


class PartialClickSimulator(ClickSimulator):
    """Clicks that avoid pixels of which nothing is known."""

    people: PartialPeople

    def __init__(self, people: PartialPeople, config: PoseMaskRefine) -> None:
        super().__init__(people, config)

    def error(self, logits: Tensor) -> Tensor:
        """Pixels where the masks so far are wrong for sure, bool (N, S, S)."""
        return super().error(logits) & ~self.people.unknown
