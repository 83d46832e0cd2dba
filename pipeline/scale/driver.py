"""Gives the tasks of a job to workers, and repeats those whose worker dies."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

from ..io.progress import Reporter
from ..io.run_options import OutputError
from .tasks import ShardTask

MAX_DEATHS = 2  # of workers on a task, before it is split
MAX_ERRORS = 3  # of a task, such as a full disk, before the run ends
MAX_STARTS = 3  # deaths of workers that load, in a row, before the run ends
MAX_SEARCHES = 3  # for an image that kills workers, before all images of the shard fail
POLL_S = 5.0


class Task(Protocol):
    """A picklable piece of work; a worker calls it with its pipeline."""

    @property
    def name(self) -> str:
        """Name in messages."""

    def __call__(self, pipeline: Any) -> Any:
        """Do the work; it may be repeated after any interruption."""


@dataclass(frozen=True)
class Event:
    """What happened to a worker.

    Attributes:
        worker: number.
        kind: ``ready`` with the fingerprint of its pipeline, ``done`` with the result of its task,
            ``error`` with an exception, or ``died`` with a text; it is replaced already.
        value: see above.
    """

    worker: int
    kind: str
    value: Any


class Pool(Protocol):
    """Workers with a pipeline each; a dead one is replaced and reports ``ready`` again."""

    def submit(self, worker: int, task: Task) -> None:
        """Give a task to a worker that is ready and has none."""

    def wait(self, seconds: float) -> list[Event]:
        """Wait for events, for some time."""

    def close(self) -> None:
        """End all workers, whatever they do."""


@dataclass
class _Search:
    """The search of a shard for images that kill workers."""

    open: int = 0  # probes that are not done
    killers: list[int] = field(default_factory=list)
    number: int = 0  # searches before


T = TypeVar('T', bound=Task)


@dataclass
class Driver(Generic[T]):
    """The loop over the events of a pool.

    Attributes:
        pool: the workers.
        tasks: to do, in order; consumed as workers become free.
        on_ready: called with the fingerprint of each worker; raises if it does not fit.
        on_result: called with a task and its result; None: it killed its workers.
        on_poll: called with the tasks in work, at least every `POLL_S`.
        reporter: for messages.
    """

    pool: Pool
    tasks: Iterator[T]
    on_ready: Callable[[Any], None]
    on_result: Callable[[T, Any], None]
    on_poll: Callable[[Sequence[T]], None] = lambda _: None
    reporter: Reporter = field(default_factory=Reporter)
    _running: dict[int, T] = field(default_factory=dict)
    _free: set[int] = field(default_factory=set)
    _again: deque[T] = field(default_factory=deque)
    _deaths: Counter[str] = field(default_factory=Counter)
    _errors: Counter[str] = field(default_factory=Counter)
    _searches: dict[int, _Search] = field(default_factory=dict)
    _starts: int = 0
    _checked: bool = False

    def run(self) -> None:
        """Do all tasks; without any, check the pipeline of one worker.

        Raises:
            OutputError: Workers die while they load.
            Exception: A task raised it several times, or the pipeline cannot be loaded.
        """
        handlers: Mapping[str, Callable[[int, Any], None]] = {
            'ready': self._on_ready,
            'done': self._on_done,
            'error': self._on_error,
            'died': self._on_died,
        }
        task = self._next()
        while task is not None or self._running or not self._checked:
            while task is not None and self._free:
                worker = min(self._free)
                self._free.remove(worker)
                self._running[worker] = task
                self.pool.submit(worker, task)
                task = self._next()
            for event in self.pool.wait(POLL_S):
                handlers[event.kind](event.worker, event.value)
            self.on_poll(list(self._running.values()))
            task = task or self._next()

    def _next(self) -> T | None:
        return self._again.popleft() if self._again else next(self.tasks, None)

    def _on_ready(self, worker: int, fingerprint: Any) -> None:
        self.on_ready(fingerprint)
        self._starts, self._checked = 0, True
        self._free.add(worker)

    def _on_done(self, worker: int, result: Any) -> None:
        task = self._running.pop(worker)
        self._free.add(worker)
        for counter in (self._deaths, self._errors):
            counter.pop(task.name, None)
        if isinstance(task, ShardTask) and task.probe:
            self._end_probe(task)
        else:
            self.on_result(task, result)

    def _on_error(self, worker: int, error: Exception) -> None:
        task = self._running.pop(worker, None)
        if task is None:  # while it loaded
            raise error
        self._free.add(worker)
        self._errors[task.name] += 1
        self.reporter.message(f'{task.name}: {type(error).__name__}: {error}')
        if self._errors[task.name] >= MAX_ERRORS:
            raise error
        self._again.append(task)

    def _on_died(self, worker: int, text: str) -> None:
        self._free.discard(worker)
        task = self._running.pop(worker, None)
        if task is None:
            self._starts += 1
            self.reporter.message(f'worker {worker} died while it loaded the models ({text})')
            if self._starts > MAX_STARTS:
                raise OutputError(
                    f'workers die while they load the models ({text}); try fewer --workers'
                )
            return
        self._deaths[task.name] += 1
        self.reporter.message(f'worker {worker} died in {task.name} ({text}); repeating it')
        shard = task if isinstance(task, ShardTask) else None
        limit = 1 if shard and shard.probe and shard.split() else MAX_DEATHS
        if self._deaths[task.name] < limit:
            self._again.appendleft(task)
        elif shard:
            self._split(shard)
        else:
            self.on_result(task, None)

    def _split(self, task: Any) -> None:
        """Halve a task that killed its workers, until the image is found."""
        search = self._searches.setdefault(task.shard, _Search())
        pieces = task.split()
        self._deaths.pop(task.name, None)
        search.open += len(pieces)
        self._again.extendleft(reversed(pieces))
        if not pieces:
            search.killers.append(task.limits[0])
        if task.probe:
            self._end_probe(task)

    def _end_probe(self, task: Any) -> None:
        """Compute a shard without its killers when all its probes are done."""
        search = self._searches[task.shard]
        search.open -= 1
        if search.open:
            return
        search.number += 1
        if search.number > MAX_SEARCHES:
            search.killers = list(range(task.job.size_of(task.shard)))
        killers = tuple(sorted(search.killers))
        self._again.appendleft(replace(task, probe=None, killers=killers))
