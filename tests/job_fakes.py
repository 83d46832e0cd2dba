"""Pipelines without models for workers of jobs, and helpers for tests of jobs."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.candidates import Candidates
from pipeline.cli import jobs, run
from pipeline.scale.driver import Event, Task
from pipeline.scale.job import read_job
from tests.commands import exit_code
from tests.run_fakes import FakePipeline, save_image

KILLER = 77  # grey value of an image that kills the worker


class FragilePipeline(FakePipeline):
    """Ends its process at an image of the value `KILLER`."""

    def predict_candidates(
        self, images: Sequence[np.ndarray], boxes: Sequence[Any], timer: Any = None
    ) -> list[Candidates]:
        if any((image == KILLER).all() for image in images):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict_candidates(images, boxes, timer)


def load_fake(config: str, overrides: dict[str, Any], seconds: float = 0.0) -> FakePipeline:
    """Load a pipeline without models; ``config`` decides on its fingerprint."""
    if config == 'unloadable':
        raise ValueError('these weights do not fit')
    return FragilePipeline(f'config = {config!r}\n', seconds)


def make_fake_loader(load: Any, config: str, overrides: dict[str, Any]) -> Any:
    """Take the place of `pipeline.cli.jobs.make_loader`."""
    return functools.partial(load_fake, config, overrides, float(os.environ.get('FAKE_S', 0)))


def bmp(*arguments: object) -> int:
    """Run ``bmp run`` with pipelines without models; returns its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, 'make_loader', make_fake_loader)
        return exit_code(run.main, *arguments)


def save_numbered(folder: Path, count: int, size: tuple[int, int] = (60, 40)) -> Path:
    """Save images of different grey values, and a damaged one."""
    for i in range(count):
        save_image(folder / f'{i % 3}' / f'{i:04}.png', 80 + i % 150, size)
    (folder / 'damaged.jpg').write_bytes(b'no image')
    return folder


def merged(out: Path | str, *kinds: str) -> dict[str, bytes]:
    """Merge a job and read the files."""
    assert exit_code(jobs.main, 'merge', out, '--save', *(kinds or ('coco', 'csv', 'parquet'))) == 0
    job = read_job(str(out))
    assert job is not None
    entries = list(job.folder.list('merged'))
    return {entry.name: job.folder.read(f'merged/{entry.name}') for entry in entries}


class ScriptedPool:
    """Workers that die whenever a task has one of the images ``killers``, in place of working."""

    def __init__(self, killers: set[int] = frozenset(), deaths: int = 10**9) -> None:  # type: ignore[assignment]
        self.killers, self.deaths = killers, deaths
        self.done: list[Task] = []
        self.events = [Event(0, 'ready', {})]

    def submit(self, worker: int, task: Any) -> None:
        start, stop = task.limits
        deadly = self.killers & set(range(start, stop)) - set(task.killers)
        if deadly and self.deaths:
            self.deaths -= 1
            self.events += [Event(worker, 'died', 'SIGKILL'), Event(worker, 'ready', {})]
        else:
            self.done.append(task)
            self.events.append(Event(worker, 'done', task))

    def wait(self, seconds: float) -> list[Event]:
        events, self.events = self.events, []
        return events

    def close(self) -> None:
        pass


def wait_until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'nothing happens'
        time.sleep(0.05)
