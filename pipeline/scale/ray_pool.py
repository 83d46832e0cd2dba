"""Workers as actors of Ray, on this machine or on a cluster.

The repeatable shards replace Ray's own retries: with these, an image that kills workers would be
repeated for ever. An actor gets a shard when its models are loaded, so no shard waits for a machine
that is not there yet.
"""

from __future__ import annotations

import os
from typing import Any

# Before Ray is imported, here and in its processes: no usage statistics, and workers run in the
# environment that is there.
os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
os.environ.setdefault('RAY_ENABLE_UV_RUN_RUNTIME_ENV', '0')

import ray

from .driver import Event, Task
from .job import describe_pipeline
from .local_pool import WorkerConfig, limit_threads, make_portable, set_threads

MAX_LOADS = 5  # of a pipeline that dies while it loads, before a run notices


class _Actor:
    """A worker: a pipeline in a process of Ray."""

    def __init__(self, config: WorkerConfig) -> None:
        set_threads(config.threads)
        self._config = config
        self._pipeline: Any = None

    # A call that reaches an actor while it restarts is lost without this.
    @ray.method(max_task_retries=MAX_LOADS)
    def load(self) -> tuple[str, Any]:
        """Load the pipeline and return its fingerprint."""
        try:
            self._pipeline = self._config.load()
            limit_threads(self._config.threads)
            return 'ready', describe_pipeline(self._pipeline)
        except Exception as error:  # noqa: BLE001 - shown by the driver
            return 'error', make_portable(error)

    def run(self, task: Task) -> tuple[str, Any]:
        """Do a task."""
        try:
            return 'done', task(self._pipeline)
        except Exception as error:  # noqa: BLE001 - the driver decides
            return 'error', make_portable(error)


class RayPool:
    """Actors with one pipeline each; Ray restarts dead ones, on another machine if need be.

    Args:
        config: of the workers; ``gpus`` may be a fraction.
        workers: number of actors; an autoscaling cluster grows for them.
        address: of the cluster, such as ``auto`` or ``ray://HOST:10001``; None: RAY_ADDRESS, or a
            new one on this machine.
    """

    def __init__(self, config: WorkerConfig, workers: int, address: str | None = None) -> None:
        self._owned = not ray.is_initialized()
        if self._owned:
            options: dict[str, Any] = {'address': address}
            if not (address or os.environ.get('RAY_ADDRESS')):
                # One more CPU than the actors take, for tasks of Ray itself.
                options = {
                    'address': 'local',
                    'num_cpus': workers * config.threads + 1,
                    'include_dashboard': False,
                }
            ray.init(log_to_driver=False, configure_logging=False, **options)
        make = ray.remote(_Actor).options(
            num_cpus=config.threads, num_gpus=config.gpus, max_restarts=-1, max_task_retries=0
        )
        self._actors: list[Any] = [make.remote(config) for _ in range(workers)]
        self._waiting: dict[Any, int] = {}
        for number in range(workers):
            self._load(number)

    def submit(self, worker: int, task: Task) -> None:
        """Give a task to an actor."""
        self._waiting[self._actors[worker].run.remote(task)] = worker

    def wait(self, seconds: float) -> list[Event]:
        """Wait for events."""
        done, _ = ray.wait(list(self._waiting), num_returns=1, timeout=seconds)
        return [self._receive(ref) for ref in done]

    def close(self) -> None:
        """Kill the actors, and Ray if it was started here."""
        for actor in self._actors:
            ray.kill(actor)
        if self._owned:
            ray.shutdown()

    def _load(self, number: int) -> None:
        self._waiting[self._actors[number].load.remote()] = number

    def _receive(self, ref: Any) -> Event:
        number = self._waiting.pop(ref)
        try:
            kind, value = ray.get(ref)
            return Event(number, kind, value)
        except ray.exceptions.RayError as error:
            self._load(number)
            return Event(number, 'died', str(error).strip().partition('\n')[0])
