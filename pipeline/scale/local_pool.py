"""Workers as processes of this machine."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from threading import Thread
from typing import TYPE_CHECKING, Any

from ..io.run_options import OutputError
from .driver import Event, Task
from .job import describe_pipeline

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

THREAD_VARIABLES = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS')


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker needs to start.

    Attributes:
        load: picklable function that loads the pipeline.
        threads: of the libraries, so that workers do not compete for cores.
        gpus: per worker, or a fraction that several workers share; 0: as the config says.
    """

    load: Callable[[], Any]
    threads: int = 1
    gpus: float = 0.0


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: connection.Connection


class LocalPool:
    """Processes that are started afresh, with one pipeline each."""

    def __init__(self, config: WorkerConfig, workers: int) -> None:
        self._config = config
        self._workers = [self._start(number) for number in range(workers)]

    def submit(self, worker: int, task: Task) -> None:
        """Give a task to a worker."""
        try:
            self._workers[worker].pipe.send(task)
        except OSError:
            pass  # it died; `wait` reports it

    def wait(self, seconds: float) -> list[Event]:
        """Wait for events; a dead worker is replaced."""
        numbers = {worker.pipe: i for i, worker in enumerate(self._workers)}
        return [
            self._receive(numbers[pipe])  # type: ignore[index]
            for pipe in connection.wait(list(numbers), seconds)
        ]

    def close(self) -> None:
        """Kill the workers; what they do may be repeated."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()

    def _receive(self, number: int) -> Event:
        worker = self._workers[number]
        try:
            kind, value = worker.pipe.recv()
            return Event(number, kind, value)
        except (EOFError, OSError):
            worker.process.join()
            worker.pipe.close()
            code = worker.process.exitcode or 0
            reason = signal.Signals(-code).name if code < 0 else f'exit code {code}'
            self._workers[number] = self._start(number)
            return Event(number, 'died', reason)

    def _start(self, number: int) -> _Worker:
        context = get_context('spawn')
        pipe, other = context.Pipe()
        process = context.Process(target=_work, args=(other, self._config, number), daemon=True)
        process.start()
        other.close()
        return _Worker(process, pipe)


class InlinePool:
    """One worker inside this process; for debugging and for ``memory://``."""

    def __init__(self, config: WorkerConfig) -> None:
        self._pipeline = config.load()
        self._events = [Event(0, 'ready', describe_pipeline(self._pipeline))]

    def submit(self, worker: int, task: Task) -> None:
        """Do a task."""
        try:
            self._events.append(Event(worker, 'done', task(self._pipeline)))
        except Exception as error:  # noqa: BLE001 - the driver decides
            self._events.append(Event(worker, 'error', error))

    def wait(self, seconds: float) -> list[Event]:
        """Return the results of the tasks."""
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """Do nothing."""


def load_worker(config: str, overrides: Mapping[str, Any]) -> Any:
    """Load a pipeline in the process of a worker; see `pipeline.api.load_pipeline`."""
    from ..api import load_pipeline
    from ..openmmlab import quiet_libraries

    quiet_libraries()
    return load_pipeline(config, cfg_options=overrides)


def set_threads(threads: int) -> None:
    """Set the threads of the libraries, before they are imported."""
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)


def limit_threads(threads: int) -> None:
    """Set the threads of the libraries that ignore the environment."""
    for name, function in (('torch', 'set_num_threads'), ('cv2', 'setNumThreads')):
        if name in sys.modules:
            getattr(sys.modules[name], function)(threads)


def _work(pipe: connection.Connection, config: WorkerConfig, number: int) -> None:
    """Main function of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver ends the worker
    Thread(target=_end_with_parent, daemon=True).start()
    set_threads(config.threads)
    if config.gpus:
        os.environ['CUDA_VISIBLE_DEVICES'] = str(int(number * config.gpus))
    try:
        pipeline = config.load()
        limit_threads(config.threads)
        pipe.send(('ready', describe_pipeline(pipeline)))
        while True:
            task = pipe.recv()
            try:
                answer = ('done', task(pipeline))
            except Exception as error:  # noqa: BLE001 - the driver decides
                answer = ('error', make_portable(error))
            pipe.send(answer)
    except EOFError:
        pass  # the driver has ended
    except Exception as error:  # noqa: BLE001 - shown by the driver
        pipe.send(('error', make_portable(error)))


def make_portable(error: Exception) -> Exception:
    """Return an exception that can be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:  # noqa: BLE001 - of any type
        return OutputError(f'{type(error).__name__}: {error}')


def _end_with_parent() -> None:
    """End this process when the driver is killed."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
