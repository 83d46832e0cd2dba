"""One photo or several: generators that stop where they need poses, and who answers them.

The loop is written for one photo; where it needs poses it yields a `PoseRequest` and is sent the
poses. So several photos can take a round at the same time, and their people share the batches of
the pose estimator.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from .structures import Detections, Image, Poses

T = TypeVar('T')


@dataclass(frozen=True, eq=False)
class PoseRequest:
    """Where a run waits for the poses of these people."""

    image: Image
    detections: Detections


# Yields what it knows so far and requests; is sent the poses after a request.
Steps = Generator[Any, Any, T]
Answer = Callable[[Sequence[PoseRequest]], Sequence[Poses]]


@runtime_checkable
class PosesTogether(Protocol):
    """A pose estimator that takes the people of several photos at once."""

    def together(self, photos: Sequence[tuple[Image, Detections]]) -> list[Poses]:
        """Poses of each photo, as one call per photo would give them."""


def answered(steps: Steps[T], answer: Answer) -> Generator[Any, None, T]:
    """The same generator with its requests answered, one at a time; the rest is yielded."""
    reply = None
    while True:
        try:
            step = steps.send(reply)
        except StopIteration as stop:
            value: T = stop.value
            return value
        reply = None
        if isinstance(step, PoseRequest):
            (reply,) = answer([step])
        else:
            yield step


def results_of(runs: Sequence[Steps[T]], answer: Answer) -> list[T]:
    """What the generators return, their requests answered together, step by step."""
    results: dict[int, T] = {}
    replies: dict[int, Any] = dict.fromkeys(range(len(runs)))
    while replies:
        requests = {}
        for i, reply in replies.items():
            try:
                requests[i] = _next_request(runs[i], reply)
            except StopIteration as stop:
                results[i] = stop.value
        replies = dict(zip(requests, answer([*requests.values()]), strict=True)) if requests else {}
    return [results[i] for i in range(len(runs))]


def _next_request(steps: Steps[Any], reply: Poses | None) -> PoseRequest:
    step = steps.send(reply)
    while not isinstance(step, PoseRequest):
        step = next(steps)
    return step
