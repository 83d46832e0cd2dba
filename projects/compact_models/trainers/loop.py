"""A training loop for CPUs that keeps every core busy.

Each worker thread draws its part of a batch, augments it, and runs forward and backward on its own
replica of the model with one PyTorch thread. Gradients are averaged once per step, so a busy core
delays a step once, not once per layer. The random numbers of a step depend on the seed and the
number of the step alone: a resumed run sees the data that the uninterrupted run would see.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from projects.compact_models.training.muon import MuonAdamW

LOG_STEPS = 50
EMA_WARMUP = 10  # steps; averaging starts with the newest weights


class Task(Protocol):
    """What a model learns: batches and their losses."""

    def make_batch(self, rng: np.random.Generator, size: int) -> Any:
        """Draw and augment `size` samples; called from several threads."""

    def compute_losses(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Scalars by name; the sum of those named `loss*` is minimized, the others are logged."""


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
        work_dir: folder of checkpoint, weights and log.
        samples: length of the run; the learning rate follows a cosine to zero.
        minutes: length in minutes of training instead, all parts of a resumed run together.
        batch_size: samples of a step, all workers together.
        workers: threads; one per core.
        lr: highest learning rate.
        weight_decay: of the optimizer.
        warmup: steps until the highest learning rate.
        ema_decay: of the averaged weights.
        bfloat16: run the network in bfloat16 (faster where the processor has it).
        checkpoint_minutes: between checkpoints.
        evaluate_samples: between evaluations of the averaged weights.
        stop_minutes: stop with a checkpoint after this time; for schedulers that end jobs.
        seed: of all random numbers.
    """

    work_dir: Path
    samples: int = 1_500_000
    minutes: float | None = None
    batch_size: int = 64
    workers: int = 2
    lr: float = 1.5e-3
    weight_decay: float = 0.05
    warmup: int = 150
    ema_decay: float = 0.999
    bfloat16: bool = True
    checkpoint_minutes: float = 5.0
    evaluate_samples: int = 100_000
    stop_minutes: float | None = None
    seed: int = 0


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 natively."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get('avx512_bf16') or capabilities.get('amx_bf16'))


def to_channels_last(model: nn.Module) -> nn.Module:
    """Store weights in the layout of the images, which saves copies of them."""
    moved: nn.Module = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return moved


@dataclass
class Clock:
    """Time of a run: of the wall, of all threads, and of the network alone."""

    wall: float = 0.0
    cpu: float = 0.0
    network: float = 0.0

    def describe(self, samples: int) -> dict[str, float]:
        """Rates of `samples` samples in this time."""
        return {
            'per_second': round(samples / max(self.wall, 1e-9), 1),
            'per_cpu_second': round(samples / max(self.cpu, 1e-9), 1),
            'network_fraction': round(self.network / max(self.cpu, 1e-9), 3),
        }


class Trainer:
    """One run of training; see `train`."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        settings: Settings,
        parameters: Callable[[nn.Module], list[nn.Parameter]],
    ) -> None:
        self.task = task
        self.settings = settings
        self.model = model.train()
        self.replicas = [self.model]
        self.replicas += [copy.deepcopy(self.model) for _ in range(settings.workers - 1)]
        self.ema = copy.deepcopy(model).eval().requires_grad_(False)
        self.parameters = [parameters(replica) for replica in self.replicas]
        self.optimizers = self._make_optimizers()
        self.pool = ThreadPoolExecutor(settings.workers)
        self.step = self.samples = 0
        self.clock, self.part = Clock(), Clock()
        self.trained_minutes = 0.0
        self.recent: list[dict[str, float]] = []

    def _make_optimizers(self) -> list[MuonAdamW]:
        """One optimizer per worker, each with a part of the parameters of about equal cost."""
        order = sorted(self.parameters[0], key=lambda p: -p.numel())
        parts = [order[i :: self.settings.workers] for i in range(self.settings.workers)]
        return [
            MuonAdamW(part, self.settings.lr, self.settings.weight_decay) for part in parts if part
        ]

    @property
    def progress(self) -> float:
        """Trained part of the run, in [0, 1]."""
        if self.settings.minutes is not None:
            return self.trained_minutes / self.settings.minutes
        return self.samples / self.settings.samples

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        warm = min(1.0, (self.step + 1) / self.settings.warmup)
        return self.settings.lr * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, self.progress)))

    def run_step(self) -> None:
        """Train on one batch."""
        wall, cpu = time.perf_counter(), time.process_time()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group['lr'] = self.lr
        found = list(self.pool.map(self._train_part, range(len(self.replicas))))
        logs = {name: float(np.mean([log[name] for log, _ in found])) for name in found[0][0]}
        size = self.settings.batch_size // len(self.replicas) * len(self.replicas)
        if all(math.isfinite(value) for value in logs.values()):
            self._average_gradients()
            list(self.pool.map(lambda optimizer: optimizer.step(), self.optimizers))
            self._share_weights()
            self.recent.append(logs)
        self.step += 1
        self.samples += size
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        self.trained_minutes += wall / 60
        for clock in (self.clock, self.part):
            clock.wall += wall
            clock.cpu += cpu
            clock.network += sum(seconds for _, seconds in found)

    def _train_part(self, worker: int) -> tuple[dict[str, float], float]:
        """Losses of one worker's part of the batch, and the CPU seconds of its network."""
        rng = np.random.default_rng((self.settings.seed, self.step, worker))
        size = self.settings.batch_size // len(self.replicas)
        batch = self.task.make_batch(rng, size)
        start = time.thread_time()
        for parameter in self.parameters[worker]:
            parameter.grad = None
        # The cache of casts is shared by all threads, the replicas are not.
        with torch.autocast(
            'cpu', torch.bfloat16, enabled=self.settings.bfloat16, cache_enabled=False
        ):
            losses = self.task.compute_losses(self.replicas[worker], batch)
        total = torch.stack([v for name, v in losses.items() if name.startswith('loss')]).sum()
        total.backward()  # type: ignore[no-untyped-call]
        logs = {name: float(value.detach()) for name, value in losses.items()}
        return logs, time.thread_time() - start

    @torch.no_grad()
    def _average_gradients(self) -> None:
        for parameters in zip(*self.parameters, strict=True):
            grads = [p.grad for p in parameters if p.grad is not None]
            if grads:
                parameters[0].grad = torch.stack(grads).sum(0) / len(self.replicas)

    @torch.no_grad()
    def _share_weights(self) -> None:
        """Give all replicas the new weights, and move the averaged ones towards them."""
        for replica in self.parameters[1:]:
            torch._foreach_copy_([*replica], [*self.parameters[0]])
        step = self.step + 1
        weight = 1 - min(self.settings.ema_decay, step / (step + EMA_WARMUP))
        ema, new = self.ema.state_dict(), self.model.state_dict()
        names = [name for name, value in ema.items() if value.is_floating_point()]
        torch._foreach_lerp_([ema[n] for n in names], [new[n] for n in names], weight)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {
            'model': self.model.state_dict(),
            'ema': self.ema.state_dict(),
            'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
            'counters': {
                'step': self.step, 'samples': self.samples, 'minutes': self.trained_minutes,
                'clock': vars(self.clock),
            },
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of `state_dict`.

        Raises:
            ValueError: the run had another number of workers.
        """
        if len(state['optimizers']) != len(self.optimizers):
            count = len(state['optimizers'])
            raise ValueError(f'the run was started with --workers {count}; give that number')
        for replica in self.replicas:
            replica.load_state_dict(state['model'])
        self.ema.load_state_dict(state['ema'])
        for optimizer, content in zip(self.optimizers, state['optimizers'], strict=True):
            optimizer.load_state_dict(content)
        counters = state['counters']
        self.step, self.samples = counters['step'], counters['samples']
        self.trained_minutes = counters['minutes']
        self.clock = Clock(**counters['clock'])


def save_atomically(content: Any, path: Path) -> None:
    """`torch.save` that leaves the old file or the new one, never a part."""
    partial = path.with_suffix('.partial')
    torch.save(content, partial)
    os.replace(partial, path)


def train(
    model: nn.Module,
    task: Task,
    settings: Settings,
    *,
    evaluate: Callable[[nn.Module], dict[str, float]],
    pack_weights: Callable[[dict[str, Tensor]], dict[str, Any]],
    parameters: Callable[[nn.Module], list[nn.Parameter]] = lambda model: list(model.parameters()),
    weights_name: str = 'weights.pth',
    restart: bool = False,
) -> nn.Module:
    """Train a model, or resume its run.

    The work directory gets `checkpoint.pth` (resumes the run), averaged weights in the format of
    the product, and `log.jsonl` (losses, rates, evaluations).

    Args:
        model: with its first weights.
        task: batches and losses.
        settings: of the run.
        evaluate: figures of the averaged weights.
        pack_weights: content of the file of weights from a state dict.
        parameters: which of a model's parameters are trained.
        weights_name: file of the averaged weights.
        restart: ignore a checkpoint.

    Returns:
        The averaged model.
    """
    settings.work_dir.mkdir(parents=True, exist_ok=True)
    checkpoint = settings.work_dir / 'checkpoint.pth'
    trainer = Trainer(model, task, settings, parameters)
    if checkpoint.exists() and not restart:
        trainer.load_state_dict(torch.load(checkpoint, weights_only=True))
    log = Log(settings.work_dir / 'log.jsonl')

    def save() -> None:
        save_atomically(trainer.state_dict(), checkpoint)
        save_atomically(pack_weights(trainer.ema.state_dict()), settings.work_dir / weights_name)

    started = saved = time.monotonic()
    log.write(event='start', samples=trainer.samples, workers=settings.workers)
    while trainer.progress < 1:
        trainer.run_step()
        if trainer.step % LOG_STEPS == 0:
            log.write_step(trainer)
        now = time.monotonic()
        is_over = settings.stop_minutes is not None and now - started > settings.stop_minutes * 60
        if now - saved > settings.checkpoint_minutes * 60 or is_over:
            save()
            saved = now
        if is_over:
            break
        before = (trainer.samples - settings.batch_size) // settings.evaluate_samples
        if trainer.samples // settings.evaluate_samples > before:
            log.write(event='evaluate', samples=trainer.samples, **evaluate(trainer.ema))
    save()
    log.write(event='end', samples=trainer.samples, **trainer.clock.describe(trainer.samples),
              **evaluate(trainer.ema))  # fmt: skip
    return trainer.ema


class Log:
    """Lines of JSON in a file, also printed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, **values: Any) -> None:
        """Append one line."""
        rounded = {k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()}
        line = json.dumps({'time': time.strftime('%Y-%m-%d %H:%M:%S'), **rounded})
        with self.path.open('a') as file:
            file.write(line + '\n')
        print(line, flush=True)

    def write_step(self, trainer: Trainer) -> None:
        """Append mean losses and rates since the last such line."""
        rows, trainer.recent = trainer.recent, []
        clock, trainer.part = trainer.part, Clock()
        names = rows[0] if rows else {}
        samples = LOG_STEPS * (trainer.settings.batch_size // len(trainer.replicas))
        self.write(
            event='train', step=trainer.step, samples=trainer.samples, lr=trainer.lr,
            **clock.describe(samples * len(trainer.replicas)),
            **{name: float(np.mean([row[name] for row in rows])) for name in names},
        )  # fmt: skip
