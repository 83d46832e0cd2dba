"""How fast this machine could be: what each stage computes over what the machine can do.

- **Operations**: those of matrix products, convolutions and attention (two per multiply-add), as
  `torch.utils.flop_counter` counts them, over the measured rate of a large float32 product.
- **Traffic**: bytes that every operator of PyTorch reads and writes, views left out, over the
  measured bandwidth of a copy. Operators that are fused or whose data stay in the cache need less,
  so this is no floor but what the memory would need if nothing were kept.

The floor of a stage is the time of its operations; work outside PyTorch (cutting crops, sharing
pixels out) has none and shows in the ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ..runtime.timing import StageTimer
from .case import Case, build, on_stage, play, timed, warm_up
from .stages import measure_case

_SIDE = 1024  # of the matrices; three of them in float32 are 12 MiB
_COPY_MIB = 256
_REPEATS = 10


@dataclass
class CountingTimer(StageTimer):
    """Adds up operations and bytes of PyTorch per stage, in place of time worth looking at."""

    operations: dict[str, int] = field(default_factory=dict)
    traffic: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count what the ``with`` block computes."""
        counter = FlopCounterMode(display=False)
        bytes_moved = _Traffic()
        with super().__call__(stage), bytes_moved, counter:
            yield
        self.operations[stage] = self.operations.get(stage, 0) + counter.get_total_flops()
        self.traffic[stage] = self.traffic.get(stage, 0) + bytes_moved.total


class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call,unused-ignore]
    """Bytes of the tensors that go into and come out of every operator that is no view."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.total += _size((args, kwargs)) + _size(result)
        return result


def _size(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(_size(v) for v in value.values())
    if isinstance(value, (list, tuple)):
        return sum(_size(v) for v in value)
    return 0


def machine_rates(threads: int = 1) -> dict[str, float]:
    """Operations per second of large matrix products and bytes per second of a copy, in 1e9."""
    torch.set_num_threads(threads)
    rates = {}
    for name, dtype in (('fp32', torch.float32), ('bf16', torch.bfloat16)):
        a, b = (torch.randn(_SIDE, _SIDE).to(dtype) for _ in range(2))
        seconds = _best(lambda a=a, b=b: a @ b)  # type: ignore[misc]
        rates[f'matmul_{name}_gflops'] = 2 * _SIDE**3 / seconds / 1e9
    source = torch.zeros(_COPY_MIB * 2**20, dtype=torch.uint8)
    target = torch.empty_like(source)
    seconds = _best(lambda: target.copy_(source))
    rates['copy_gb_s'] = 2 * source.numel() / seconds / 1e9
    return rates


def _best(work: Callable[[], Any]) -> float:
    """Least processor seconds of a piece of work per thread: what others did not disturb."""
    work()
    return min(timed(work)[1].cpu / torch.get_num_threads() for _ in range(_REPEATS))


def measure_floor(case: Case, repeats: int) -> dict[str, Any]:
    """Floor, measured time and their ratio for every stage of a case, on the CPU.

    Raises:
        ValueError: the case is not one of the CPU.
    """
    if case.device != 'cpu':
        raise ValueError(f'floor measures the processor, got device {case.device!r}; use cpu')
    rates = machine_rates(case.threads)
    pipeline = build(case)
    warm_up(pipeline, case)
    measured = measure_case(case, repeats, pipeline)['stages']
    counted = CountingTimer()
    crowd = case.crowd()
    with on_stage(pipeline, crowd):
        play(pipeline, crowd, counted)
    rows = {}
    for name, operations in counted.operations.items():
        floor = operations / rates['matmul_fp32_gflops'] / 1e9
        rows[name] = {
            'gflop': operations / 1e9,
            'traffic_gb': counted.traffic[name] / 1e9,
            'floor_s': floor,
            'traffic_s': counted.traffic[name] / rates['copy_gb_s'] / 1e9,
            'cpu_s': measured[name]['cpu_s'],
            'ratio': measured[name]['cpu_s'] / floor if floor else None,
        }
    return {'case': case.facts(), 'rates': rates, 'stages': rows, 'whole': measured['whole']}
