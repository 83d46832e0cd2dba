"""A detector that returns given detections."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.stages import Detector
from pipeline.structures import Detections, Image, size_of


class ScriptedDetector(Detector):
    """Returns the given detections, one entry per call, then nobody.

    Args:
        rounds: what the first, second, ... call returns.
    """

    def __init__(self, rounds: Sequence[Detections]) -> None:
        self.rounds = tuple(rounds)
        self.calls = 0

    def __call__(self, image: Image) -> Detections:
        """The next entry of the script; zero rows when it has ended."""
        self.calls += 1
        if self.calls <= len(self.rounds):
            return self.rounds[self.calls - 1]
        return Detections.from_boxes([], size_of(image))
